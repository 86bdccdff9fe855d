"""Bytes to text: which encoding they are in, where nobody says so.

UTF-8 is certain, since hardly anything else happens to be valid. East Asian encodings are told by their common
characters, which others' bytes seldom make; other alphabets by words that are nowhere ASCII. All else is read as
browsers do.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from contextlib import suppress
from encodings.aliases import aliases

from charset_normalizer import from_bytes

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WESTERN = "cp1252"
_SAMPLE = 1 << 16  # bytes that are looked at
_FEW = 3  # signs, of which less tell nothing
_NO_SIGN = re.compile(r"[\x00-\x7f\u3000-\u3020\uff00-\uff60]+")  # ASCII, punctuation and full-width letters
_FOREIGN_WORD = re.compile(rb"(?<![A-Za-z\x80-\xff])[\x80-\xff]{3,}(?![A-Za-z])")
_HIGH = re.compile(rb"[\x80-\xff]")
_AS_WESTERN = {0xDC00 + byte: bytes([byte]).decode(_WESTERN, "replace") for byte in range(0x80, 0x100)}  # strange bytes
_ALPHABETS = ["cp1256", "cp1251", "koi8_r", "cp1253"]  # Arabic, Cyrillic twice, Greek


def decoded(data: bytes, declared: str = "") -> str:
    """By its mark, else UTF-8, else `declared`, else as it seems to be, else Windows-1252."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, errors="replace")
    data = data.removeprefix(codecs.BOM_UTF8)
    if wide := _utf16_without_mark(data[:_SAMPLE]):
        return data.decode(wide, errors="replace")
    text = _strictly(data, "utf-8")
    if text is None and not known_charset(declared):
        text = _mended(data)
    return data.decode(known_charset(declared) or _guessed(data[:_SAMPLE]), errors="replace") if text is None else text


def known_charset(name: str) -> str:
    """Python's name of an encoding of text; empty for what is none. Web pages say Latin-1 and mean Windows-1252."""
    try:
        found = codecs.lookup(name).name
        # Not all that Python calls an encoding is one of text: "idna", "undefined".
        is_text = b"a".decode(found, "replace") == "a" and "escape" not in found
    except (LookupError, ValueError):
        return ""
    if not is_text:
        return ""
    return _WESTERN if found in {"iso8859-1", "ascii"} else found


def load_encodings() -> None:
    """Python imports each when it first meets it, which a process that gave up its rights cannot do any more."""
    for name in set(aliases.values()):
        with suppress(LookupError):  # those of other operating systems
            codecs.lookup(name)


def _strictly(data: bytes, name: str) -> str | None:
    """None where it is something else. The end may lie within a character, as that of a file's head does."""
    try:
        return codecs.getincrementaldecoder(name)().decode(data, final=False)
    except UnicodeDecodeError:
        return None


def _mended(data: bytes) -> str | None:
    """UTF-8 into which something else was pasted, which is read as browsers do; None where there is much of that."""
    text = data.decode("utf-8", "surrogateescape")
    # Counted in whole texts: a string for each character would take fifty times the file's size.
    strange = len(text) - len(data.decode("utf-8", "ignore"))
    if 2 * strange > len(text) - len(text.encode("ascii", "ignore")):
        return None
    return text.translate(_AS_WESTERN)


def _utf16_without_mark(data: bytes) -> str:
    """Of a text that is mostly ASCII, which then is zeros at every other place."""
    first, second = data[::2].count(0), data[1::2].count(0)
    half = len(data) // 2
    if second > half * 0.6 and first < half * 0.05:
        return "utf-16-le"
    return "utf-16-be" if first > half * 0.6 and second < half * 0.05 else ""


def _guessed(data: bytes) -> str:
    for name, is_common, least in _EAST_ASIAN:
        text = _strictly(data, name)
        if text is not None:
            signs = _NO_SIGN.sub("", text)
            if len(signs) >= _FEW and sum(map(is_common, signs)) >= least * len(signs):
                return name
    words = _FOREIGN_WORD.findall(data)
    if sum(map(len, words)) > len(_HIGH.findall(data)) / 2:
        best = from_bytes(b" ".join(words), cp_isolation=_ALPHABETS).best()
        return best.encoding if best else _WESTERN
    return _WESTERN


def _is_kana(sign: str) -> bool:
    return "\u3041" <= sign <= "\u30fc"  # not the narrow ones, which are single bytes of others


def _common(charset: str, first: int, last: int) -> Callable[[str], bool]:
    """The characters of everyday life, which a national standard puts first: by their first byte in it."""

    def is_common(sign: str) -> bool:
        packed = sign.encode(charset, "ignore")
        return bool(packed) and first <= packed[0] <= last

    return is_common


# Each with what tells it, and how much of that there is at least. Korean's bytes are all common Chinese characters, and
# of those it has three quarters; Japanese has Chinese characters between.
_EAST_ASIAN: tuple[tuple[str, Callable[[str], bool], float], ...] = (
    ("cp949", _common("euc_kr", 0xB0, 0xC8), 0.97),
    ("cp932", _is_kana, 0.25),
    ("euc_jp", _is_kana, 0.25),
    ("gb18030", _common("gb2312", 0xB0, 0xD7), 0.85),
    ("big5", _common("big5", 0xA4, 0xC6), 0.85),
)
