"""Whatever bytes a model server sends, in whatever pieces, the readers give one answer or one of our own errors, and
keep no more than one event of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.errors import ModelError, PromptTooLong
from chatbot.events import Usage
from chatbot.inference.protocols.tgi import GenerateReader
from chatbot.inference.stream import EVENT_LIMIT, ChatReader
from tests.fakes.dialects import VLLM, Dialect, LlamaCpp
from tests.fakes.huggingface import TGI, TGIGenerate
from tests.fakes.replies import Reply
from tests.fakes.speaking import Speech, event

Make = Callable[[], ChatReader]
CHAT = {"stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": "Why?"}]}
GENERATE = {"inputs": "User: Why?\n\nAssistant:", "parameters": {"max_new_tokens": 100}}
# Between events of a valid stream anything of this may stand. The last is what nobody has asked for.
NOISE = (b"", b": keep-alive\n\n", b":\n\n", b"event: message\nid: 4\nretry: 9\n\n", b"data:\n\n", b"\n", b"id\n\n")


@dataclass
class Heard:
    """All that came of one stream."""

    text: str = ""
    reasons: list[str] = field(default_factory=list)
    usage: Usage | None = None
    failure: type[Exception] | None = None


def hear(make: Make, chunks: Iterator[bytes]) -> Heard:
    """Anything but our own errors goes on to the test."""
    reader, heard = make(), Heard()
    try:
        for chunk in chunks:
            if delta := reader.feed(chunk):
                heard.text += delta.text
                heard.usage = delta.usage or heard.usage
                heard.reasons += [delta.finish_reason] if delta.finish_reason else []
            assert len(reader._rest) <= EVENT_LIMIT
            assert not reader._texts
        reader.close()
    except (ModelError, PromptTooLong) as error:
        heard.failure = type(error)
    return heard


def cut(stream: bytes, places: list[int]) -> Iterator[bytes]:
    """Where two places are the same an empty piece comes between them."""
    edges = sorted([0, len(stream), *(place % (len(stream) + 1) for place in places)])
    return (stream[start:end] for start, end in pairwise(edges))


def spoken(dialect: Dialect, reply: Reply) -> list[bytes]:
    """The events of an answer as such a server words it."""

    async def collect() -> list[bytes]:
        payload = GENERATE if isinstance(dialect, TGIGenerate) else CHAT
        never = asyncio.Event().wait
        return [piece async for piece in Speech(dialect, reply, payload, cut=never, linger=never).pieces()]

    return asyncio.run(collect())


def over_two_lines(one: bytes) -> bytes:
    """The same event, where it is JSON: its data is joined by a line's end, which there is a blank."""
    return one.replace(b"data: {", b"data: {\ndata: ", 1)


PLACES = st.lists(st.integers(min_value=0, max_value=5000), max_size=60)
NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r"])
# A blank before the first word is not said by /generate_stream, and NUL by none.
WORDS = st.lists(st.text(min_size=1, max_size=8).filter(lambda text: "\0" not in text and text.strip()), max_size=8)
READERS: list[tuple[type[Dialect], Make]] = [
    (Dialect, ChatReader),
    (VLLM, ChatReader),
    (LlamaCpp, ChatReader),
    (TGI, ChatReader),
    (TGIGenerate, GenerateReader),
]


REPLIES = st.builds(
    Reply,
    tokens=WORDS,
    thoughts=st.lists(st.text(min_size=1, max_size=8), max_size=2),
    tool_call=st.lists(st.text(max_size=5), max_size=2),
)


@pytest.mark.parametrize("server", READERS, ids=lambda server: server[0].__name__)
@given(reply=REPLIES, noise=st.lists(st.sampled_from(NOISE), min_size=1, max_size=8), newline=NEWLINES, places=PLACES)
def test_a_valid_stream_says_the_same_in_any_pieces(
    server: tuple[type[Dialect], Make], reply: Reply, noise: list[bytes], newline: bytes, places: list[int]
) -> None:
    dialect, make = server
    events = spoken(dialect(), reply)
    stream = b"".join(noise[n % len(noise)] + over_two_lines(one) for n, one in enumerate(events))
    stream = stream.replace(b"\n", newline)
    words = reply.tokens or []
    said = "".join(words).lstrip() if dialect is TGIGenerate else "".join(words)
    prompt = 3 if dialect is TGIGenerate else 1
    assert hear(make, cut(stream, places)) == Heard(said, ["stop"], Usage(prompt, len(words)))


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("dialect", "make"), READERS, ids=lambda given: given.__name__)
def test_each_place_to_cut_in_two_and_each_byte_alone_give_the_whole(
    dialect: type[Dialect], make: Make, newline: bytes
) -> None:
    events = spoken(dialect(), Reply(tokens=["Grüße, ", "世界", " 🌍"], thoughts=["Hm"], tool_call=["{}"]))
    stream = b"".join(NOISE[1 + n % 6] + over_two_lines(one) for n, one in enumerate(events)).replace(b"\n", newline)
    whole = hear(make, iter([stream]))
    assert (whole.text, whole.reasons) == ("Grüße, 世界 🌍", ["stop"])
    for place in range(len(stream)):
        assert hear(make, iter([stream[:place], b"", stream[place:]])) == whole
    assert hear(make, (bytes([byte]) for byte in stream)) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
# Objects of about the right shape, each of whose values may be anything at all.
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "delta": JSON
        | st.fixed_dictionaries({}, optional={"content": JSON, "reasoning_content": JSON, "tool_calls": JSON}),
        "finish_reason": JSON | st.sampled_from(["stop", "length", "abort", "eos_token"]),
    },
)
BODY = JSON | st.fixed_dictionaries(
    {},
    optional={
        "choices": JSON | st.lists(CHOICE | JSON, max_size=2),
        "usage": JSON | st.fixed_dictionaries({"prompt_tokens": JSON, "completion_tokens": JSON}),
        "error": JSON
        | st.fixed_dictionaries({}, optional={"message": JSON, "code": JSON, "type": JSON, "http_status_code": JSON}),
        "error_type": JSON,
        "token": JSON | st.fixed_dictionaries({}, optional={"text": JSON, "special": JSON}),
        "details": JSON
        | st.fixed_dictionaries({}, optional={"finish_reason": JSON, "generated_tokens": JSON, "input_length": JSON}),
    },
)


def _event(body: Any) -> bytes:
    try:
        return event(body)
    except TypeError:  # beyond 64 bits, which servers may send and orjson does not write
        import json  # noqa: PLC0415

        return b"data: " + json.dumps(body).encode() + b"\n\n"


GARBAGE = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.binary(max_size=40).map(lambda junk: b"data: " + junk + b"\n\n"),
        BODY.map(_event),
        st.sampled_from([*NOISE, b"data: [DONE]\n\n", b"data: " + b"[" * 5000 + b"\n\n", b"\xef\xbb\xbf", b"\0"]),
    ),
    max_size=8,
)


@pytest.mark.parametrize("make", [ChatReader, GenerateReader, lambda: ChatReader(2), lambda: ChatReader(prefix="a ")])
@given(garbage=GARBAGE, places=PLACES)
def test_garbage_raises_nothing_but_our_own_errors_and_means_the_same_in_any_pieces(
    make: Make, garbage: list[bytes], places: list[int]
) -> None:
    stream = b"".join(garbage)
    assert hear(make, cut(stream, places)) == hear(make, iter([stream]))


@pytest.mark.parametrize(("dialect", "make"), READERS, ids=lambda given: given.__name__)
@given(data=st.data(), places=PLACES)
def test_a_stream_whose_bytes_were_damaged_does_neither(
    dialect: type[Dialect], make: Make, data: st.DataObject, places: list[int]
) -> None:
    stream = bytearray(b"".join(spoken(dialect(), Reply(tokens=["One ", "two."], thoughts=["Hm"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(stream) - 1))
        stream[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert hear(make, cut(bytes(stream), places)) == hear(make, iter([bytes(stream)]))


@pytest.mark.parametrize("size", [4096, 65_536, 2 * EVENT_LIMIT])
@pytest.mark.parametrize("filler", [b"x", b"data: x\n", b"data: x\r\n", b": c\n", b"\r", b"\0", "ß".encode()])
def test_of_an_event_that_never_ends_no_more_than_the_longest_is_kept(filler: bytes, size: int) -> None:
    piece = filler * (size // len(filler))
    reader, fed = ChatReader(), 0
    with suppress(ModelError):
        while fed < 3 * EVENT_LIMIT:
            reader.feed(piece)
            fed += len(piece)
            assert len(reader._rest) <= EVENT_LIMIT
    assert len(reader._rest) <= EVENT_LIMIT
    assert reader.ended or filler == b"\r"  # which are empty events, one after the other
