"""What tests the pages finds what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.pages.blocks import Block, blocks_of
from tests.pages.shapes import check_claim, check_component, check_stream, differences
from tests.pages.syntax import check, check_names
from tests.pages.walk import walk

PAGE = """\
# Title

<!-- not run: needs a moon -->
<!-- from: Makefile -->
```sh
one
```

```json
{}
```

Words between.

- In a list:
  ````text
  ```sh
  ````
"""


def block(language: str, text: str, *, line: int = 1, source: str = "") -> Block:
    return Block(Path("page.md"), line, "", language, text, {"from": source} if source else {}, None)


def test_blocks_are_read_with_their_marks_and_neighbours(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second, third = blocks_of(page)
    assert (first.line, first.heading, first.text) == (5, "Title", "one\n")
    assert first.marks == {"not run": "needs a moon", "from": "Makefile"}
    assert second.follows == first
    assert (second.marks, third.follows, third.text) == ({}, None, "```sh\n")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("", "x"),
        ("cobol", "x"),
        ("sh", "if true; then"),
        ("sh", "make nonsense"),
        ("sh", "python manage.py nonsense"),
        ("sh", "cat docs/nonsense.md"),
        ("python", "def"),
        ("js", "await ("),
        ("json", '{"n": …}'),
        ("json", '{"n": 1}'),
        ("json", '{"type": "token", "id": "1-1", "turn": "t", "words": "x"}'),
        ("json", '{"type": "ask", "question": "x"}'),
        ("json", '{"code": "nonsense", "message": "x"}'),
        ("http", "id: 1-1\nevent: nonsense\ndata: {}"),
        ("http", 'id: 1-1\nevent: token\ndata: {"text": 1}'),
        ("jinja", "{{ nonsense }}"),
        ("yaml", "a: [1"),
        ("toml", "a ="),
        ("ini", "a = 1"),
        ("env", "NONSENSE=1"),
        ("nginx", "server {"),
        ("nginx", "listen 80"),
        ("dockerfile", "INSTALL x"),
    ],
)
def test_a_wrong_block_is_found(language: str, text: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - each language's own parser says it
        check(block(language, text))


def test_an_excerpt_has_to_stand_in_its_file() -> None:
    check(block("toml", "[tool.mypy]\nstrict = true\n", source="pyproject.toml"))
    with pytest.raises(AssertionError):
        check(block("toml", "[tool.mypy]\nstrict = false\n", source="pyproject.toml"))


def test_right_blocks_pass() -> None:
    check_claim({"type": "error", "id": "1-3", "turn": "t", "code": "internal", "message": "x", "…": "…"})
    check_stream('id: 1-2\nevent: sources\ndata: {"sources": [{"n": 1, "…": "…"}]}\n\n: keep-alive')
    check_component({"question": {"role": "user", "…": "…"}, "error": None, "…": "…"}, "Turn")
    check_names("make up PORT=8001 && .venv/bin/python manage.py doctor")


@pytest.mark.parametrize(
    ("shown", "said", "count"),
    [
        ({"a": 1, "b": None}, {"a": 2.5, "b": "x"}, 0),
        ({"a": 1}, {"a": 1, "b": 2}, 1),
        ({"a": 1, "…": "…"}, {"a": 1, "b": 2}, 0),
        ({"a": 1, "b": 2}, {"a": 1}, 1),
        ({"a": 1}, {"a": True}, 1),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}, {"c": 1}]}, 0),
        ({"a": [{"b": "x"}]}, {"a": []}, 1),
        ({"a": []}, {"a": [1]}, 0),
    ],
)
def test_json_differs_by_names_and_types(shown: Any, said: Any, count: int) -> None:
    assert len(list(differences(shown, said))) == count


def test_an_error_fails_its_block_and_no_other(tmp_path: Path) -> None:
    texts = [
        ("sh", "A=$(cat /nonsense | head -1)\necho on"),
        ("sh", "export B=exported; echo $B"),
        ("python", "import os\nname = os.environ['B']"),
        ("python", "print(name)\nraise ValueError"),
        ("python", "print(name + ' still')"),
        ("sh", "curl -sS file:///nonsense && true\ncurl -sS file:///nonsense || true"),
        ("sh", "echo EXAMPLE"),
    ]
    steps = [block(language, text, line=line) for line, (language, text) in enumerate(texts)]
    told = walk(steps, tmp_path, os.environ, scripts=tmp_path, seconds=20, values={"EXAMPLE": "value"})
    assert [ended_well for _, ended_well in told] == [False, True, True, False, True, True, True]
    assert [printed.splitlines()[0] for printed, _ in told if printed][1:3] == ["exported", "exported"]
    assert told[4][0] == "exported still\n"
    assert told[6][0] == "value\n"
