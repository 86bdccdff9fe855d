"""What recognises text in pictures: Tesseract where it is installed, rapidocr otherwise.

It is only looked for here; the child of chatbot.extraction loads it.
"""

from __future__ import annotations

import importlib.util
from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache

from chatbot import languages
from chatbot.errors import ExtractionFailed

AUTO, TESSERACT, RAPIDOCR = "auto", "tesseract", "rapidocr"
# What turns files into pictures, for both.
_PICTURES = ("pypdfium2", "PIL")
_OWN_NAMES = {"no": "nor"}  # by which Tesseract knows what it does not name as ISO 639-3 does


class NotInstalled(ExtractionFailed):
    default_message = "Reading pictures of text needs text recognition (OCR), which is not installed here."


@dataclass(frozen=True, slots=True)
class Recognition:
    """engine: TESSERACT or RAPIDOCR; AUTO for the first of them that is installed. languages: of Tesseract, as it names
    them; none for all that are installed. told: the one of a text of which somebody said it, as ISO 639-1 has it."""

    engine: str = AUTO
    languages: tuple[str, ...] = ()
    told: str = ""

    def found(self) -> str:
        """The engine to use; empty where none is installed."""
        return next((name for name in (TESSERACT, RAPIDOCR) if self.engine in {name, AUTO} and _is_installed(name)), "")

    def words(self) -> tuple[str, str]:
        """`languages` and `told` for the reader's command line."""
        return "+".join(self.languages), _OWN_NAMES.get(self.told) or languages.long_code(self.told)


def _is_installed(engine: str) -> bool:
    own = bool(tesseract_library()) if engine == TESSERACT else _are_there("rapidocr", "onnxruntime")
    return own and _are_there(*_PICTURES)


def _are_there(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)


@cache
def tesseract_library() -> str | None:
    """The program's own library, which the child loads: what runs within its walls is one process."""
    return find_library("tesseract")
