"""Pictures as what they show: upright, on white, and no larger than is needed. Runs in the sandboxed child only."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator

from PIL import Image, ImageOps, ImageSequence

from chatbot.readers import Pages, TooMuch, Unreadable

MAX_PIXELS = 80_000_000
_KINDS = ("PNG", "JPEG", "WEBP", "TIFF")
_DAMAGED = "This image is damaged and cannot be read."
# What Pillow raises for files that are not what they say.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError)


def warm_up() -> None:
    """Use each decoder once: a process without rights can load nothing any more."""
    # We look at the size ourselves, before a pixel is unpacked.
    Image.MAX_IMAGE_PIXELS = None
    Image.init()
    for kind in _KINDS:
        packed = io.BytesIO()
        Image.new("RGB", (8, 8), "white").save(packed, kind)
        list(frames(packed.getvalue(), {1}, 8))


def count(data: bytes) -> tuple[Pages, str | None]:
    """The pages of an image, which have no text yet; a TIFF of a fax has several. Raises Unreadable."""
    try:
        with Image.open(io.BytesIO(data), formats=_KINDS) as image:
            return [(number, "") for number in range(1, getattr(image, "n_frames", 1) + 1)], None
    except _BROKEN as e:
        raise Unreadable(_DAMAGED) from e


def frames(data: bytes, numbers: Collection[int], longest_side: int) -> Iterator[tuple[int, Image.Image]]:
    """The pages with these numbers. longest_side: in pixels. Raises Unreadable and TooMuch."""
    try:
        with Image.open(io.BytesIO(data), formats=_KINDS) as image:
            for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
                if number not in numbers:
                    continue
                if frame.width * frame.height > MAX_PIXELS:
                    raise TooMuch(f"The image has more than {MAX_PIXELS // 1_000_000} million pixels.")
                frame.draft("RGB", (longest_side, longest_side))
                yield number, _prepared(frame, longest_side)
    except _BROKEN as e:
        raise Unreadable(_DAMAGED) from e


def _prepared(frame: Image.Image, longest_side: int) -> Image.Image:
    picture = ImageOps.exif_transpose(frame)
    picture.thumbnail((longest_side, longest_side))
    if picture.mode != "RGB":
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    return picture
