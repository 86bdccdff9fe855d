"""Text recognition by rapidocr, in the sandboxed child only. Its models come inside its wheel: nothing is fetched.

One thread, one line at a time: more of either takes more memory and no less processor time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw
from rapidocr import RapidOCR

from chatbot import markdown

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


@dataclass(frozen=True, slots=True)
class _Line:
    """left, top and bottom: pixels."""

    left: float
    top: float
    bottom: float
    text: str


def warm_up(_languages: str, _told: str) -> None:
    """Load and use everything once; its models know the languages that they know."""
    onnxruntime.disable_telemetry_events()
    warnings.simplefilter("ignore")
    _engines.append(RapidOCR(params=_SETTINGS))
    picture = Image.new("RGB", (320, 80), "white")
    ImageDraw.Draw(picture).text((20, 20), "Parley", fill="black", font_size=30)
    recognised(picture)


def recognised(picture: Image.Image) -> str:
    """The text as Markdown, with a blank line where there is a gap."""
    found = _engines[0](np.asarray(picture.convert("RGB"))[:, :, ::-1])  # it wants blue first
    if found.txts is None:
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
