"""Text recognition in images and in the pages of a PDF that hold no text. Runs in the sandboxed child only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pypdfium2
from PIL import Image

from chatbot.readers import Pages, Unreadable, images
from chatbot.recognition import RAPIDOCR, TESSERACT

_DPI, LONGEST_SIDE = 200, 2400  # pixels: letters of 6 points are still told apart
# The module that speaks to each engine: it has `warm_up(languages, told)` and `recognised(picture)`.
_ENGINES = {TESSERACT: "tesseract", RAPIDOCR: "rapid"}
_loaded: list[Any] = []

Tell = Callable[[int, int], None]  # how many of the pages are recognised, of how many


def warm_up(engine: str, languages: str, told: str) -> None:
    """Load and use everything once: a process without rights can load nothing any more. Raises Unreadable."""
    images.warm_up()
    loaded = importlib.import_module(f"chatbot.readers.{_ENGINES[engine]}")
    loaded.warm_up(languages, told)
    _loaded.append(loaded)
    pages = pypdfium2.PdfDocument.new()
    pages.new_page(72, 72).render().to_pil()


def read_image(data: bytes, numbers: Sequence[int], tell: Tell) -> tuple[Pages, str | None]:
    """The text of these pages of an image. Raises Unreadable and TooMuch."""
    frames = images.frames(data, set(numbers), LONGEST_SIDE)
    return list(_told(((number, _recognised(frame)) for number, frame in frames), len(numbers), tell)), None


def read_pdf(data: bytes, numbers: Sequence[int], tell: Tell) -> tuple[Pages, str | None]:
    """The text of these pages of a PDF as they look. Raises Unreadable."""
    try:
        document = pypdfium2.PdfDocument(data)
        pages = ((number, _recognised(_rendered(document[number - 1]))) for number in numbers)
        return list(_told(pages, len(numbers), tell)), None
    except pypdfium2.PdfiumError as e:
        raise Unreadable("This PDF is damaged: its pages cannot be drawn.") from e


def _told(pages: Iterable[tuple[int, str]], total: int, tell: Tell) -> Iterator[tuple[int, str]]:
    for done, page in enumerate(pages, start=1):
        tell(done, total)
        yield page


def _rendered(page: Any) -> Image.Image:
    scale = min(_DPI / 72, LONGEST_SIDE / max(page.get_width(), page.get_height(), 1))
    picture: Image.Image = page.render(scale=scale).to_pil()
    page.close()
    return picture


def _recognised(picture: Image.Image) -> str:
    darkest, lightest = picture.convert("L").getextrema()
    if darkest == lightest:  # an empty page
        return ""
    text: str = _loaded[0].recognised(picture)
    return text if any(map(str.isalnum, text)) else ""  # blots and frames are taken for signs, too
