"""Text recognition by Tesseract, through its library. Runs in the sandboxed child only.

Its program would be a process of its own, beyond the limits of processor time and memory that hold for this one.
"""

from __future__ import annotations

import ctypes
import re
from itertools import count, takewhile

from PIL import Image

from chatbot import markdown
from chatbot.readers import Unreadable
from chatbot.recognition import tesseract_library

_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e]")  # marks that only tell a screen where to put what follows
# Chinese and Japanese have no spaces, but it puts some where it looks for other languages, too.
_SPACELESS = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff65"
_SPLIT = re.compile(f"(?<=[{_SPACELESS}]) +(?=[{_SPACELESS}])")
_NO_LANGUAGES = {"osd", "equ", "snum"}
_FIRST = "eng"  # which every installation brings
_DPI = 200  # of pages that were drawn; near enough for others
_handles: list[tuple[ctypes.CDLL, int]] = []


def warm_up(languages: str, told: str) -> None:
    """Load the library, and what it knows of the text's language where it was told, else of these. Raises Unreadable.

    Of several it makes a mixture, which is slow and may spell a word in the script of another.
    """
    library = ctypes.CDLL(tesseract_library())
    library.TessBaseAPICreate.restype = ctypes.c_void_p
    library.TessBaseAPIGetUTF8Text.restype = ctypes.c_void_p
    library.TessBaseAPIGetAvailableLanguagesAsVector.restype = ctypes.POINTER(ctypes.c_char_p)
    handle = library.TessBaseAPICreate()
    _initialise(library, handle, languages or _FIRST)
    listed = library.TessBaseAPIGetAvailableLanguagesAsVector(ctypes.c_void_p(handle))
    installed = {name.decode() for name in takewhile(bool, map(listed.__getitem__, count()))} - _NO_LANGUAGES
    if told in installed:
        _initialise(library, handle, told)
    elif not languages:
        _initialise(library, handle, "+".join([_FIRST, *sorted(installed - {_FIRST})]))
    _handles.append((library, handle))
    recognised(Image.new("L", (64, 64), "white"))


def _initialise(library: ctypes.CDLL, handle: int, languages: str) -> None:
    if library.TessBaseAPIInit3(ctypes.c_void_p(handle), None, languages.encode()):
        raise Unreadable(f"Text recognition does not know the languages it should: {languages}. Ask your operator.")


def recognised(picture: Image.Image) -> str:
    """The text as Markdown, with a blank line between paragraphs."""
    library, number = _handles[0]
    handle = ctypes.c_void_p(number)
    grey = picture.convert("L")
    library.TessBaseAPISetImage(handle, grey.tobytes(), grey.width, grey.height, 1, grey.width)
    library.TessBaseAPISetSourceResolution(handle, _DPI)
    text = library.TessBaseAPIGetUTF8Text(handle)
    if not text:
        return ""
    try:
        found = _DIRECTION.sub("", ctypes.string_at(text).decode(errors="replace"))
    finally:
        library.TessDeleteText(ctypes.c_void_p(text))
        library.TessBaseAPIClear(handle)
    lines = [_SPLIT.sub("", line.strip()) for line in found.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(markdown.escape(line) for line in lines)).strip()
