"""Pictures with labels, boxes and masks drawn on them, for people to look at (extra ``image``).

Letters: ``H`` and ``W``, the height and the width of a picture.
"""

from __future__ import annotations

import base64
import colorsys
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, final, overload

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import OptionError
from sftlib.support.extras import require

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

_SMALL, _LARGE = 240, 640  # the longer side of what is shown, in pixels, at least and at most
_FONT, _LINE, _MARGIN = 13, 19, 6
_PAPER, _INK = (255, 255, 255), (24, 28, 36)
_TURN = 0.61803398875  # of the circle of colours, from one to the next: neighbours differ most
_ACROSS = 4  # pictures beside each other in a file


class Box(NamedTuple):
    """A box to draw.

    Attributes:
        edges: left, upper, right and lower edge, in pixels of the picture.
        text: written at it.
        number: decides its colour.
        broken: whether its lines are, as those of regions that do not count.
    """

    edges: tuple[float, float, float, float]
    text: str
    number: int
    broken: bool = False


class Plane(NamedTuple):
    """A mask to lay over a picture.

    Attributes:
        numbers: (H, W) of classes; those that are no place among the names do not count, and are left grey.
        names: of the classes.
    """

    numbers: NDArray[np.integer[Any]]
    names: Sequence[object]


@final
@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture with what is drawn on it. A notebook shows it; `save` writes it as PNG.

    Attributes:
        pixels: (H, W, 3) uint8, small pictures enlarged.
        caption: what stands under it.
    """

    pixels: Pixels
    caption: str

    def png(self) -> bytes:
        """The picture and its caption as a PNG."""
        return _png(_captioned(self.pixels, self.caption))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as PNG.

        Raises:
            OptionError: another ending.
        """
        Gallery([self]).save(path)

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"<picture of {height} x {width} pixels: {self.caption}>"

    def _repr_png_(self) -> bytes:
        return self.png()

    def figure(self) -> str:
        """A piece of HTML that loads nothing: the picture, and its caption as text."""
        data, alt = base64.b64encode(_png(self.pixels)).decode(), escape(self.caption, quote=True)
        picture = f'<img alt="{alt}" style="max-width:100%;height:auto" src="data:image/png;base64,{data}">'
        return f'<figure style="margin:0">{picture}<figcaption>{escape(self.caption)}</figcaption></figure>'


@final
class Gallery(Sequence[Drawn]):
    """Several pictures beside each other. A notebook shows them; `save` writes one PNG, or a page of HTML.

    Args:
        pictures: in order.
    """

    def __init__(self, pictures: Sequence[Drawn]) -> None:
        self._pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    @overload
    def __getitem__(self, index: int) -> Drawn: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Drawn]: ...
    def __getitem__(self, index: int | slice) -> Drawn | Sequence[Drawn]:
        return self._pictures[index]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<div style="flex:0 1 {picture.pixels.shape[1]}px">{picture.figure()}</div>' for picture in self
        )
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>'

    def sheet(self) -> Pixels:
        """(H, W, 3) all of them in rows of four, each with its caption."""
        shown = [_captioned(picture.pixels, picture.caption) for picture in self]
        rows = [shown[start : start + _ACROSS] for start in range(0, len(shown), _ACROSS)]
        return _stacked([_stacked(row, across=True) for row in rows], across=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them: ``.png``, or ``.html`` (a page by itself).

        Raises:
            OptionError: another ending.
        """
        target = Path(path).expanduser()
        if target.suffix.lower() == ".png":
            target.write_bytes(_png(self.sheet()))
        elif target.suffix.lower() in (".html", ".htm"):
            head = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>pictures</title></head>'
            target.write_text(f"{head}<body>{self._repr_html_()}</body></html>\n", encoding="utf-8")
        else:
            raise OptionError(f"path={os.fspath(path)!r}: expected a name that ends in .png or .html")


def colour_of(number: int) -> Colour:
    """The colour of a class; neighbours differ.

    Example:
        >>> colour_of(0), colour_of(0) == colour_of(1)
        ((230, 34, 34), False)
    """
    light, strong = (0.9, 0.85) if number % 3 != 2 else (0.65, 0.9)
    red, green, blue = colorsys.hsv_to_rgb((number * _TURN) % 1.0, strong, light)
    return round(red * 255), round(green * 255), round(blue * 255)


def drawn(pixels: Pixels, *, caption: str, boxes: Sequence[Box] = (), mask: Plane | None = None) -> Drawn:
    """Draw on a copy of a picture.

    Args:
        pixels: (H, W, 3) uint8.
        caption: what stands under it.
        boxes: in order; the last lie on top.
        mask: of the size of the picture.

    Raises:
        MissingExtraError: pillow is not installed.
    """
    shown = pixels if mask is None else _laid_over(pixels, mask)
    image = require("PIL.Image", extra="image", purpose="drawing pictures").fromarray(shown)
    scale = _scale(max(shown.shape[:2]))
    if scale != 1:
        size = round(shown.shape[1] * scale), round(shown.shape[0] * scale)
        image = image.resize(size, 0 if scale > 1 else 1)  # whole pixels where it grows, smooth where it shrinks
    if boxes:
        pen = require("PIL.ImageDraw", extra="image", purpose="drawing pictures").Draw(image)
        for box in boxes:
            _draw_box(pen, box, scale, image.size)
    image_pixels = np.array(image)
    if mask is not None:
        image_pixels = _stacked([image_pixels, _legend(mask, image_pixels.shape[1])], across=False, gap=0)
    return Drawn(image_pixels, caption)


def _scale(side: int) -> float:
    """How much larger a picture is shown: small ones by a whole number, so that pixels stay squares."""
    if side < _SMALL:
        return float(math.ceil(_SMALL / side))
    return min(1.0, _LARGE / side)


def _draw_box(pen: Any, box: Box, scale: float, size: tuple[int, int]) -> None:
    left, upper, right, lower = (edge * scale for edge in box.edges)
    colour = colour_of(box.number)
    if box.broken:
        for start in range(int(left), int(right), 8):
            pen.line([(start, upper), (min(start + 4, right), upper)], fill=colour, width=2)
            pen.line([(start, lower), (min(start + 4, right), lower)], fill=colour, width=2)
        for start in range(int(upper), int(lower), 8):
            pen.line([(left, start), (left, min(start + 4, lower))], fill=colour, width=2)
            pen.line([(right, start), (right, min(start + 4, lower))], fill=colour, width=2)
    else:
        pen.rectangle([left, upper, max(left, right), max(upper, lower)], outline=colour, width=2)
    font = _font()
    wide = font.getlength(box.text) + 4
    x = max(0.0, min(left, size[0] - wide))
    y = upper - _LINE + 3 if upper >= _LINE else min(upper + 2, size[1] - _LINE)  # above it, or inside
    pen.rectangle([x, y, x + wide, y + _LINE - 3], fill=colour)
    pen.text((x + 2, y), box.text, fill=_readable_on(colour), font=font)


def _readable_on(colour: Colour) -> Colour:
    return _INK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else _PAPER


def _laid_over(pixels: Pixels, mask: Plane) -> Pixels:
    """Classes as colours that the picture shines through; what does not count in light grey."""
    palette = np.array([*(colour_of(number) for number in range(len(mask.names))), (200, 200, 200)], np.float32)
    counts = (mask.numbers >= 0) & (mask.numbers < len(mask.names))
    colours = palette[np.where(counts, mask.numbers, len(mask.names)).astype(np.int64)]
    return np.rint(0.45 * pixels + 0.55 * colours).astype(np.uint8)


def _legend(mask: Plane, width: int) -> Pixels:
    """(h, W, 3) the names of the classes that occur, each beside its colour, in as many lines as they take."""
    font = _font()
    there = [n for n in np.unique(mask.numbers).tolist() if 0 <= n < len(mask.names)]
    lines: list[list[tuple[int, int]]] = [[]]  # (class, where it begins)
    at = _MARGIN
    for number in there:
        wide = 16 + math.ceil(font.getlength(str(mask.names[number]))) + 12
        if at + wide > width and lines[-1]:
            lines.append([])
            at = _MARGIN
        lines[-1].append((number, at))
        at += wide
    image, pen = _paper(width, _LINE * len(lines) + _MARGIN)
    for line, entries in enumerate(lines):
        for number, x in entries:
            y = _MARGIN + line * _LINE
            pen.rectangle([x, y, x + 11, y + 11], fill=colour_of(number))
            pen.text((x + 16, y - 2), str(mask.names[number]), fill=_INK, font=font)
    return np.array(image)


def _captioned(pixels: Pixels, caption: str) -> Pixels:
    """The picture, and under it its caption in as many lines as it takes."""
    font, width = _font(), pixels.shape[1]
    lines, line = [], ""
    for word in caption.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width - 2 * _MARGIN:
            lines.append(line)
            longer = word
        line = longer
    lines += [line] if line else []
    image, pen = _paper(width, _LINE * len(lines) + _MARGIN)
    for number, text in enumerate(lines):
        pen.text((_MARGIN, _MARGIN // 2 + number * _LINE), text, fill=_INK, font=font)
    return _stacked([pixels, np.array(image)], across=False, gap=0)


def _stacked(parts: Sequence[Pixels], *, across: bool, gap: int = 10) -> Pixels:
    """Pictures beside or below each other, on white."""
    if not parts:
        return np.full((1, 1, 3), 255, np.uint8)
    along, other = (1, 0) if across else (0, 1)
    most = max(part.shape[other] for part in parts)
    shape = [0, 0, 3]
    shape[along] = sum(part.shape[along] for part in parts) + gap * (len(parts) - 1)
    shape[other] = most
    whole, at = np.full(shape, 255, np.uint8), 0
    for part in parts:
        place: list[slice] = [slice(None)] * 2
        place[along], place[other] = slice(at, at + part.shape[along]), slice(0, part.shape[other])
        whole[tuple(place)] = part
        at += part.shape[along] + gap
    return whole


def _paper(width: int, height: int) -> tuple[Any, Any]:
    image = require("PIL.Image", extra="image", purpose="drawing pictures").new("RGB", (width, height), _PAPER)
    return image, require("PIL.ImageDraw", extra="image", purpose="drawing pictures").Draw(image)


def _font() -> Any:
    return require("PIL.ImageFont", extra="image", purpose="drawing pictures").load_default(_FONT)


def _png(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    require("PIL.Image", extra="image", purpose="drawing pictures").fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
