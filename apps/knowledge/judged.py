"""Sets of questions and of what answers them, in the forms of BEIR and of TREC.

BEIR (https://github.com/beir-cellar/beir): `corpus.jsonl` and `queries.jsonl`, a JSON object a line with `_id`, `text`
and perhaps `title`; `qrels/test.tsv` or `qrels.tsv` with a head and query, document and grade in each line.
TREC (https://trec.nist.gov/data/reljudge_eng.html): `queries.tsv` with id and text, `qrels.txt` with query, iteration,
document and grade, and `corpus.tsv` with id, perhaps title, and text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class JudgedSetError(Exception):
    """The set cannot be read; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Text:
    """A document of a set's own corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """qrels: by query, the grade of each document; above 0 it answers. corpus: where the set brings its documents."""

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    corpus: Path | None = None

    def texts(self) -> Iterator[Text]:
        if self.corpus is None:
            return
        if self.corpus.suffix == ".jsonl":
            for line, row in _objects(self.corpus):
                yield Text(_word(self.corpus, line, row, "_id"), row.get("title") or "", row.get("text") or "")
        else:
            for line, cells in _rows(self.corpus):
                if len(cells) < 2:
                    raise JudgedSetError(f"{self.corpus}, line {line}: there should be an id, a tab and a text.")
                yield Text(cells[0], cells[-2] if len(cells) > 2 else "", cells[-1])


def read_set(directory: Path) -> JudgedSet:
    """Raises JudgedSetError."""
    queries_path = _first(directory, "queries.jsonl", "queries.tsv")
    qrels_path = _first(directory, "qrels/test.tsv", "qrels.tsv", "qrels.txt")
    if queries_path is None or qrels_path is None:
        raise JudgedSetError(
            f"{directory} holds no set: there should be queries.jsonl and qrels.tsv (BEIR), or queries.tsv and "
            "qrels.txt (TREC)."
        )
    queries = _queries(queries_path)
    qrels = _qrels(qrels_path)
    if not queries:
        raise JudgedSetError(f"{queries_path} holds no query.")
    if unknown := sorted(qrels.keys() - queries.keys())[:3]:
        # Collections of BEIR split their queries; what is judged must be there, not the other way round.
        raise JudgedSetError(f"{qrels_path} judges queries that are not there: {', '.join(unknown)}.")
    return JudgedSet(queries, qrels, _first(directory, "corpus.jsonl", "corpus.tsv"))


def _first(directory: Path, *names: str) -> Path | None:
    return next((path for name in names if (path := directory / name).is_file()), None)


def _queries(path: Path) -> dict[str, str]:
    if path.suffix == ".jsonl":
        return {_word(path, line, row, "_id"): _word(path, line, row, "text") for line, row in _objects(path)}
    queries = {}
    for line, cells in _rows(path):
        if len(cells) != 2:
            raise JudgedSetError(f"{path}, line {line}: there should be an id, a tab and a question.")
        queries[cells[0]] = cells[1]
    return queries


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, cells in _rows(path):
        if line == 1 and cells[-1] == "score":
            continue
        parts = cells if path.suffix == ".tsv" else cells[0].split()
        try:
            query, *_, document, grade = parts
            qrels.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            raise JudgedSetError(f"{path}, line {line}: there should be query, document and a whole number.") from error
    return qrels


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise JudgedSetError(f"{path}, line {number}: this is no JSON.") from error
        if not isinstance(row, dict):
            raise JudgedSetError(f"{path}, line {number}: there should be a JSON object.")
        yield number, row


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise JudgedSetError(f"{path} is not UTF-8.") from error


def _word(path: Path, line: int, row: dict[str, Any], key: str) -> str:
    if not isinstance(row.get(key), str):
        raise JudgedSetError(f"{path}, line {line}: {key} should be a text.")
    return str(row[key])
