"""`manage.py evaluate`: what it measures, of which sets, and what it says of one that it cannot read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from apps.knowledge.evaluation import measured
from apps.knowledge.ingest import add_document, ingest
from apps.knowledge.judged import JudgedSet, read_set
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from tests.environment import ROOT
from tests.factories import make_document, make_passage

SEAL, HEDGEHOG = "Replace the rubber seal.", "A hedgehog sleeps all winter."


def beir(directory: Path, queries: dict[str, str], qrels: list[tuple[str, str, int]], corpus: dict[str, str]) -> Path:
    (directory / "qrels").mkdir()
    (directory / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": i, "text": q}) + "\n" for i, q in queries.items())
    )
    lines = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t{grade}" for q, d, grade in qrels)]
    (directory / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    if corpus:
        rows = ({"_id": i, "title": f"Title {i}", "text": text} for i, text in corpus.items())
        (directory / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def evaluate(directory: Path, *arguments: str) -> str:
    out = io.StringIO()
    call_command("evaluate", str(directory), "--tenant", "acme", *arguments, stdout=out)
    return out.getvalue()


def row(said: str, stage: str) -> list[float]:
    return [float(cell) for cell in next(line for line in said.splitlines() if line.startswith(stage)).split()[1:]]


def test_a_set_of_beir_is_measured_with_its_own_corpus(acme: Tenant, tmp_path: Path) -> None:
    corpus = {"d1": SEAL, "d2": HEDGEHOG, "d3": "The rotor is stuck."}
    directory = beir(tmp_path, {"q1": "rubber seal", "q2": "hedgehog"}, [("q1", "d1", 1), ("q2", "d2", 2)], corpus)
    said = evaluate(directory)
    assert "2 judged queries" in said
    assert row(said, "text") == row(said, "whole") == [1.0, 1.0, 1.0]
    assert not Collection.objects.exists()  # it was there for a while
    assert not Document.objects.exists()


def test_a_set_of_trec_is_measured_in_a_collection_by_sections(
    acme: Tenant, manuals: Collection, tmp_path: Path
) -> None:
    document = make_document(tenant=acme, collection=manuals, file_name="pump.md")
    make_passage(tenant=acme, document=document, text=SEAL, heading=["Pump", "Seal"])
    make_passage(tenant=acme, document=document, text=f"{HEDGEHOG}\n## Winter\nLong.", heading=["Pump"])
    (tmp_path / "queries.tsv").write_text("q1\trubber seal\nq2\thedgehog\nq3\tmoon\n")
    (tmp_path / "qrels.txt").write_text("q1 0 pump.md#Seal 1\nq2 0 pump.md#Winter 1\nq3 0 pump.md#Moon 1\n")
    said = evaluate(tmp_path, "--collection", "manuals", "--k", "5")
    assert "recall@5" in said
    assert row(said, "text") == [0.667, 0.667, 0.667]  # nothing tells of the moon


def test_two_ways_are_compared(acme: Tenant, manuals: Collection, tmp_path: Path) -> None:
    document = make_document(tenant=acme, collection=manuals, file_name="pump.md")
    make_passage(tenant=acme, document=document, text=SEAL)
    beir(tmp_path, {"q1": "rubber seal"}, [("q1", "pump.md", 1)], {})
    said = evaluate(tmp_path, "--collection", "manuals", "--compare", "text=0,vector=0", "vector=0")
    assert "B - A: +1.000 nDCG@10; 1 queries better, 0 worse" in said


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("queries.jsonl", "{", "queries.jsonl, line 1: this is no JSON"),
        ("queries.jsonl", "[]\n", "line 1: there should be a JSON object"),
        ("queries.jsonl", '{"_id": 1, "text": "x"}', "line 1: _id should be a text"),
        ("queries.jsonl", "", "holds no query"),
        ("qrels/test.tsv", "q1\td1\n", "line 1: there should be query, document and a whole number"),
        ("qrels/test.tsv", "q1\td1\tgood\n", "line 1: there should be"),
        ("qrels/test.tsv", "q9\td1\t1\n", "judges queries that are not there: q9"),
        ("queries.jsonl", None, "holds no set"),
    ],
)
def test_a_set_that_cannot_be_read_is_refused_with_the_line(
    acme: Tenant, tmp_path: Path, file: str, content: str | None, says: str
) -> None:
    beir(tmp_path, {"q1": "seal"}, [("q1", "d1", 1)], {"d1": SEAL})
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(CommandError, match=says):
        evaluate(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--collection", "nothing"], "There is no collection 'nothing'"),
        (["--k", "0"], "--k"),
        (["--compare", "vector=1", "magic=1"], "invalid _recipe value"),
        ([], "There is no corpus"),
    ],
)
def test_what_makes_no_sense_is_refused(acme: Tenant, tmp_path: Path, arguments: list[str], says: str) -> None:
    beir(tmp_path, {"q1": "seal"}, [("q1", "d1", 1)], {})
    with pytest.raises(CommandError, match=says):
        evaluate(tmp_path, *arguments)


@given(st.permutations(["a", "b", "c", "d", "e"]), st.sets(st.sampled_from("abcde"), min_size=1), st.integers(1, 5))
def test_the_numbers_are_those_of_their_definitions(ranking: list[str], good: set[str], k: int) -> None:
    judged = JudgedSet({"q": "?"}, {"q": dict.fromkeys(good, 1)})
    result = measured(judged, {"stage": {"q": ranking}}, k=k)["stage"]
    first = min(ranking.index(name) for name in good)
    assert result.mrr == pytest.approx(1 / (first + 1))
    assert result.recall == pytest.approx(len(good & set(ranking[:k])) / len(good))


def test_a_query_that_found_nothing_counts_as_nothing() -> None:
    judged = JudgedSet({"q": "?", "r": "?"}, {"q": {"a": 1}, "r": {"a": 1}})
    result: Any = measured(judged, {"stage": {"q": ["a"], "r": []}}, k=3)["stage"]
    assert (result.ndcg, result.recall, result.mrr) == (0.5, 0.5, 0.5)


def test_the_set_about_the_documentation_names_sections_that_are_there() -> None:
    judged = read_set(ROOT / "bench" / "docs")
    for grades in judged.qrels.values():
        for name in grades:
            page, section = name.split("#", 1)
            lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
            assert any(line.startswith("#") and line.lstrip("# ") == section for line in lines), name


def test_searches_in_the_documentation_stay_as_good_as_they_are(acme: Tenant, manuals: Collection) -> None:
    """With vectors that know words and no meaning: what the model adds is measured by hand (docs/retrieval.md)."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        document, _ = add_document(acme, manuals, name=page.name, content=page.read_bytes())
        ingest(acme.pk, document.pk)
    said = evaluate(ROOT / "bench" / "docs", "--collection", "manuals")
    assert row(said, "text")[0] > 0.65
    assert row(said, "whole")[0] > 0.6
