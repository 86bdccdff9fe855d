"""Text recognition in images and in the pages of a PDF that hold no text. Runs in the sandboxed child only.

The models come inside rapidocr's wheel: nothing is fetched. One thread, one line at a time: more of either takes more
memory and no less processor time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import pypdfium2
from PIL import Image, ImageDraw
from rapidocr import RapidOCR

from chatbot import markdown
from chatbot.readers import Pages, Unreadable, images

_DPI, LONGEST_SIDE = 200, 2400  # pixels: letters of 6 points are still told apart
_PARAGRAPH_GAP = 0.9  # of a line's height, between two lines
_SETTINGS = {
    "Global.log_level": "critical",
    "Global.use_cls": False,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
    "Rec.rec_batch_num": 1,
}
_engines: list[RapidOCR] = []

Tell = Callable[[int, int], None]  # how many of the pages are recognised, of how many


@dataclass(frozen=True, slots=True)
class _Line:
    """left, top and bottom: pixels."""

    left: float
    top: float
    bottom: float
    text: str


def warm_up() -> None:
    """Load and use everything once: a process without rights can load nothing any more."""
    onnxruntime.disable_telemetry_events()
    warnings.simplefilter("ignore")
    images.warm_up()
    _engines.append(RapidOCR(params=_SETTINGS))
    picture = Image.new("RGB", (320, 80), "white")
    ImageDraw.Draw(picture).text((20, 20), "Parley", fill="black", font_size=30)
    _recognised(picture)
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
    pixels = np.asarray(picture.convert("RGB"))
    if pixels.min() == pixels.max():  # an empty page
        return ""
    found = _engines[0](pixels[:, :, ::-1])  # it wants blue first
    # Blots and frames are taken for signs, too.
    if found.txts is None or not any(map(str.isalnum, "".join(found.txts))):
        return ""
    boxes = zip(found.boxes, found.txts, strict=True)
    return _text([_Line(*_extent(box), text) for box, text in boxes if text.strip()])


def _extent(box: Any) -> tuple[float, float, float]:
    return float(box[:, 0].min()), float(box[:, 1].min()), float(box[:, 1].max())


def _text(pieces: list[_Line]) -> str:
    """Lines from top to bottom, with a blank one where there is a gap; pieces at the same height are one line."""
    rows: list[list[_Line]] = []
    for piece in sorted(pieces, key=lambda piece: piece.top + piece.bottom):
        last = rows[-1][-1] if rows else None
        if last and (piece.top + piece.bottom) / 2 < last.bottom - (last.bottom - last.top) / 4:
            rows[-1].append(piece)
        else:
            rows.append([piece])
    height = median(piece.bottom - piece.top for piece in pieces) if pieces else 0
    out: list[str] = []
    end = None
    for row in rows:
        if end is not None and min(piece.top for piece in row) - end > _PARAGRAPH_GAP * height:
            out.append("")
        out.append(markdown.escape(" ".join(piece.text for piece in sorted(row, key=lambda piece: piece.left))))
        end = max(piece.bottom for piece in row)
    return "\n".join(out)
