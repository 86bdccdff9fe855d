"""TGI's /generate_stream: a dialogue as plain text, and an answer that ends before the model asks itself on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.errors import ModelFailed
from chatbot.events import Usage
from chatbot.inference.protocols.tgi import GenerateReader, generate_payload, raw_prompt
from chatbot.inference.wire import ChatRequest, Message

DIALOGUE = (
    Message("system", "Answer from the passages."),
    Message("user", "How do I prime the pump?"),
    Message("assistant", "Open the valve. [1]"),
    Message("user", "And then?"),
)


def test_messages_become_a_dialogue_that_ends_with_the_assistants_turn() -> None:
    assert raw_prompt(DIALOGUE) == (
        "Answer from the passages.\n\nUser: How do I prime the pump?\n\nAssistant: Open the valve. [1]\n\n"
        "User: And then?\n\nAssistant:"
    )


def test_a_begun_answer_ends_the_dialogue_without_blanks() -> None:
    request = ChatRequest(DIALOGUE, max_tokens=32, prefix=" Close it,\n\n")
    assert orjson.loads(generate_payload(request))["inputs"].endswith("User: And then?\n\nAssistant: Close it,")


def parameters(**fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(generate_payload(ChatRequest(DIALOGUE, max_tokens=32, **fields)))["parameters"]
    return told


def test_the_payload_asks_for_the_finish_reason_and_nothing_that_is_refused() -> None:
    assert parameters() == {
        "max_new_tokens": 32,
        "details": True,
        "return_full_text": False,
        "stop": ["\nUser:"],
        "do_sample": True,
        "temperature": 0.2,
    }
    greedy = parameters(temperature=0.0)
    assert greedy["do_sample"] is False
    assert not {"temperature", "top_p"} & greedy.keys()
    assert parameters(top_p=0.9, stop=("###",)).items() >= {"top_p": 0.9, "stop": ["\nUser:", "###"]}.items()


def event(text: str, *, special: bool = False, finish: str | None = None, **details: Any) -> bytes:
    body = {
        "index": 1,
        "token": {"id": 1, "text": text, "logprob": -0.1, "special": special},
        "generated_text": None,
        "details": {"finish_reason": finish, "generated_tokens": 7, "seed": None, **details} if finish else None,
    }
    return b"data:" + orjson.dumps(body) + b"\n\n"


def hear(*chunks: bytes, prefix: str = "") -> tuple[str, str | None, Usage | None]:
    reader = GenerateReader(100, stop=("\nUser:",), prefix=prefix)
    deltas = [delta for chunk in chunks if (delta := reader.feed(chunk))]
    reader.close()
    usage = next((delta.usage for delta in deltas if delta.usage), None)
    return "".join(delta.text for delta in deltas), reader.finish_reason, usage


def test_the_end_of_text_is_not_part_of_it() -> None:
    assert hear(event(" Hello"), event("!"), event("</s>", special=True, finish="eos_token", input_length=12)) == (
        "Hello!",
        "stop",
        Usage(12, 7),
    )


@pytest.mark.parametrize(
    "tokens",
    [[" Yes.", "\n", "User", ":"], [" Yes.", "\nUser:"], [" Yes.\nUs", "er: What"], [" Yes.", "\n", "User:", " and"]],
)
def test_a_stop_sequence_is_not_part_of_it_either(tokens: list[str]) -> None:
    *others, last = tokens
    text, reason, _ = hear(*map(event, others), event(last, finish="stop_sequence"))
    assert (text, reason) == ("Yes.", "stop")


def test_what_only_began_like_one_is() -> None:
    text, reason, _ = hear(event(" Ask"), event("\n"), event("Us"), event("ers."), event("\nUse", finish="length"))
    assert (text, reason) == ("Ask\nUsers.\nUse", "length")


@pytest.mark.parametrize(
    ("prefix", "tokens", "joined"),
    [
        ("Close it,", [" then", " wait."], "Close it, then wait."),
        ("Close it, ", [" then", " wait."], "Close it, then wait."),
        ("Close it.\n", ["\n", "\nWait."], "Close it.\n\nWait."),
        ("Close it.\n", ["\n", "User", ":"], "Close it.\n"),
        ("\n", [" Yes."], "\nYes."),
    ],
)
def test_what_follows_a_prefix_joins_it(prefix: str, tokens: list[str], joined: str) -> None:
    *others, last = tokens
    assert prefix + hear(*map(event, others), event(last, finish="stop_sequence"), prefix=prefix)[0] == joined


def test_an_older_server_tells_no_prompt_length() -> None:
    assert hear(event("a", finish="length")) == ("a", "length", None)


@pytest.mark.parametrize("body", [b"{}", b'{"token": 5}', b'{"token": {"text": 5}}', b'{"token": null}', b"[]"])
def test_what_is_no_token_fails(body: bytes) -> None:
    with pytest.raises(ModelFailed):
        hear(b"data:" + body + b"\n\n")


@given(
    st.lists(st.text(st.sampled_from("\nUser: aé世"), max_size=6), max_size=12),
    st.integers(1, 200),
)
def test_any_split_of_the_bytes_gives_the_same_text(tokens: list[str], size: int) -> None:
    stream = b"".join(map(event, tokens)) + event("</s>", special=True, finish="eos_token", input_length=1)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    whole = "".join(tokens).lstrip().partition("\nUser:")[0]
    assert hear(*pieces)[0] == hear(stream)[0] == whole
