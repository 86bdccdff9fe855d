"""docs/inference.md against the code: every protocol, those that continue, and every sentence that "Test now" says."""

from __future__ import annotations

import inspect
import re

from apps.inference import diagnosis
from apps.inference.models import Endpoint
from chatbot import addresses, errors
from chatbot.inference import hub, transport, wire
from chatbot.inference.protocols import hf, protocol_of
from tests.environment import ROOT
from tests.fakes.inference import make_endpoint

PAGE = (ROOT / "docs" / "inference.md").read_text()


def test_every_protocol_is_explained() -> None:
    assert re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE) == list(Endpoint.Protocol.values)


def test_those_that_continue_an_answer_are_named() -> None:
    section = PAGE.partition("## Continuing an answer")[2].partition("\n## ")[0]
    endpoints = [make_endpoint(None, protocol=name) for name in Endpoint.Protocol.values]
    continuing = [endpoint.protocol for endpoint in endpoints if protocol_of(endpoint).continues]
    assert re.findall(r"^- `([\w-]+)`:", section, re.MULTILINE) == continuing


def test_every_sentence_is_one_that_is_said() -> None:
    table = PAGE.partition("| it says |")[2].partition("\n\n")[0]
    said = [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]]
    code = "".join(inspect.getsource(module) for module in (diagnosis, addresses, errors, wire, hf, hub, transport))
    code = re.sub(r"\{[^{}]*\}", "…", code)
    for sentence in said:
        # Names and numbers differ: what stands between them is the code's.
        parts = re.split(r"…|\d+|a web page|Text Embeddings Inference|embed|chat", sentence.rstrip("."))
        missing = [part.strip(" :.;,“”") for part in parts if part.strip(" :.;,“”") not in code]
        assert not missing, sentence
