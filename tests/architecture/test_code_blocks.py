"""Every code block of the pages is well-formed, and what it shows is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.environment import ROOT
from tests.pages.blocks import MARKS, PAGES, Block, blocks_of
from tests.pages.syntax import check, check_names

BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_well_formed(block: Block) -> None:
    assert block.marks.keys() <= set(MARKS)
    assert all(reason for mark, reason in block.marks.items() if mark != "fails"), "A mark says why, or what."
    check(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_files_that_a_page_names_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    check_names("\n".join(re.findall(r"`([^`]+)`", prose)))
