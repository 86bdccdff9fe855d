"""The same small manual in five languages, in every format: nothing of it is lost, and all stands in its order."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfgen.canvas import Canvas

from chatbot.chunking import MAX_TOKENS, split
from chatbot.extraction import Extracted, Page, extract
from chatbot.formats import detect
from tests.chatbot.documents import docx, epub, html, pptx, xlsx

# Heading, paragraphs, and a row of a table.
MANUALS: dict[str, tuple[str, list[str], list[str]]] = {
    "english": (
        "Maintenance of the pump",
        ["Check the large pump every year. Close valve 27.", "Then replace the rubber seal."],
        ["Seal", "40 mm", "steel"],
    ),
    "german": (
        "Wartung der Pumpe",
        ["Die größere Pumpe jährlich prüfen. Ventil 27 schließen.", "Danach die Gummidichtung ersetzen: Öl genügt."],
        ["Dichtung", "40 mm", "Stahl"],
    ),
    "arabic": (
        "صيانة المضخة",
        ["افحص المضخة الكبيرة كل سنة. أغلق الصمام رقم 27.", "ثم استبدل الحشية المطاطية، واتصل بالدعم."],
        ["الحشية", "40 مم", "فولاذ"],
    ),
    "chinese": (
        "水泵的维护",
        ["每年检查一次大泵。关闭27号阀门。", "然后更换橡胶密封圈，并记录压力。"],
        ["密封圈", "四十毫米", "钢"],
    ),
    "japanese": (
        "ポンプの保守",
        ["大きいポンプは毎年点検してください。バルブ27を閉めます。", "その後、ゴムのパッキンを交換します。"],
        ["パッキン", "四十ミリ", "鋼"],
    ),
}
CHARSETS = {
    "english": ["utf-8", "utf-16"],
    "german": ["utf-8", "utf-16", "cp1252"],
    "arabic": ["utf-8", "utf-16", "cp1256"],
    "chinese": ["utf-8", "utf-16", "gb18030"],
    "japanese": ["utf-8", "utf-16", "shift_jis"],
}
Make = Callable[[str, list[str], list[str]], bytes | str]


def text(heading: str, texts: list[str], row: list[str]) -> str:
    return "\n\n".join([heading, *texts, " ".join(row)])


def markdown(heading: str, texts: list[str], row: list[str]) -> str:
    return "\n\n".join([f"# {heading}", *texts, f"| {' | '.join(row)} |\n|---|---|---|"])


def csv(heading: str, texts: list[str], row: list[str]) -> str:
    return "\r\n".join([";".join(row), ";".join([heading, *texts])])


def tsv(heading: str, texts: list[str], row: list[str]) -> str:
    return csv(heading, texts, row).replace(";", "\t")


def mail(heading: str, texts: list[str], row: list[str]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = heading, "a@acme.example", "b@acme.example"
    message.set_content(text(heading, texts, row))
    return bytes(message)


ZIPPED: dict[str, Make] = {"docx": docx, "pptx": pptx, "xlsx": xlsx, "epub": epub, "eml": mail}
PLAIN: dict[str, Make] = {"txt": text, "md": markdown, "html": html, "csv": csv, "tsv": tsv}


def read(path: Path, content: bytes) -> Extracted:
    path.write_bytes(content)
    with path.open("rb") as file:
        return extract(path, detect(path.name, file))


def assert_whole(extracted: Extracted, language: str, *, with_row: bool = True) -> None:
    heading, texts, row = MANUALS[language]
    found = "\n".join([extracted.title or "", *(page.text for page in extracted.pages)])
    assert heading in found
    places = [found.find(part) for part in texts]
    assert -1 not in places, found
    assert places == sorted(places)
    assert not with_row or all(cell in found for cell in row), found


@pytest.mark.parametrize("language", MANUALS)
@pytest.mark.parametrize("suffix", ZIPPED)
def test_formats_that_know_their_encoding(tmp_path: Path, language: str, suffix: str) -> None:
    made = ZIPPED[suffix](*MANUALS[language])
    assert isinstance(made, bytes)
    extracted = read(tmp_path / f"manual.{suffix}", made)
    assert_whole(extracted, language, with_row=suffix not in {"pptx", "epub"})
    if suffix in {"docx", "pptx", "xlsx"}:
        assert split(extracted, title="Manual")[0].heading == (MANUALS[language][0],)


@pytest.mark.parametrize(
    ("language", "charset"), [(language, charset) for language, all_ in CHARSETS.items() for charset in all_]
)
@pytest.mark.parametrize("suffix", PLAIN)
def test_formats_that_say_nothing_of_it(tmp_path: Path, language: str, charset: str, suffix: str) -> None:
    made = PLAIN[suffix](*MANUALS[language])
    assert isinstance(made, str)
    assert_whole(read(tmp_path / f"manual.{suffix}", made.encode(charset)), language)


FONTS: dict[str, Any] = {
    "english": None,
    "german": None,
    "chinese": UnicodeCIDFont("STSong-Light"),  # type: ignore[no-untyped-call]
    "japanese": UnicodeCIDFont("HeiseiMin-W3"),  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize("language", FONTS)
def test_a_pdf(tmp_path: Path, language: str) -> None:
    """Arabic is in golden/pdf: letters have to be joined, which reportlab does not do."""
    heading, texts, row = MANUALS[language]
    font = FONTS[language]
    if font:
        registerFont(font)  # type: ignore[no-untyped-call]
    canvas: Any = Canvas(str(tmp_path / "made.pdf"))  # type: ignore[no-untyped-call]
    for place, (size, line) in enumerate([(20, heading), *((11, line) for line in [*texts, " ".join(row)] * 3)]):
        canvas.setFont(font.fontName if font else "Helvetica", size)
        canvas.drawString(72, 760 - 30 * place, line)
    canvas.save()
    assert_whole(read(tmp_path / "manual.pdf", (tmp_path / "made.pdf").read_bytes()), language)


@pytest.mark.parametrize("language", MANUALS)
def test_a_long_text_is_cut_at_its_sentences(language: str) -> None:
    """By characters where there are no spaces; no sentence is lost or cut, and no passage is a splinter."""
    space = "" if language in {"chinese", "japanese"} else " "
    stop = "\u3002" if not space else "."
    words = MANUALS[language][1][0].removesuffix(stop).replace(stop, ",")
    sentences = [f"{words} ({number}){stop}" for number in range(1500)]
    passages = split(Extracted([Page(None, space.join(sentences))], None), title="Manual")
    joined = "\n".join(passage.text for passage in passages)
    assert [sentence for sentence in sentences if sentence not in joined] == []
    assert all(passage.text.endswith(stop) for passage in passages)
    assert all(passage.tokens <= MAX_TOKENS for passage in passages)
    sizes = sorted(passage.tokens for passage in passages)
    assert sizes[len(sizes) // 20] > MAX_TOKENS // 2
