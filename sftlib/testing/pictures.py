"""Small pictures whose class can be learned, made on the spot, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sftlib.support.checking import checked, choice, folder_path, raise_together, whole_number
from sftlib.support.extras import require

Numbers = NDArray[np.float64]

_NOISE = 12.0  # standard deviation of a pixel, of 255


def _circle(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return x**2 + y**2 < 0.8


def _square(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return np.maximum(abs(x), abs(y)) < 0.8


def _stripes(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return np.sin(8 * x) > 0


def _layers(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return np.sin(8 * y) > 0


def _cross(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return (np.minimum(abs(x), abs(y)) < 0.25) & (np.maximum(abs(x), abs(y)) < 1)


def _ring(x: Numbers, y: Numbers) -> NDArray[np.bool_]:
    return abs(x**2 + y**2 - 0.6) < 0.25


_DRAWN: dict[str, Callable[[Numbers, Numbers], NDArray[np.bool_]]] = {
    "circle": _circle,
    "square": _square,
    "stripes": _stripes,
    "layers": _layers,
    "cross": _cross,
    "ring": _ring,
}
SHAPES = tuple(_DRAWN)


@checked
def pictures(count: int, *, classes: int = 3, size: int = 32, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of pictures of shapes: as many of each class, in any two colours, moved and scaled a little, with noise.

    Args:
        count: how many.
        classes: the first so many of `SHAPES`.
        size: pixels of a side.
        seed: of everything that is drawn.

    Returns:
        Rows ``{"image": (size, size, 3) uint8, "label": name of the shape}``; equal for equal arguments.

    Raises:
        OptionError: numbers that cannot be.

    Example:
        >>> rows = pictures(4, classes=2)
        >>> [row["label"] for row in rows], rows[0]["image"].shape
        (['circle', 'square', 'circle', 'square'], (32, 32, 3))
    """
    raise_together(
        [
            whole_number("count", count, at_least=0),
            whole_number("classes", classes, at_least=1, at_most=len(SHAPES)),
            whole_number("size", size, at_least=8),
            whole_number("seed", seed, at_least=0),
        ]
    )
    numbers = np.random.default_rng(seed)
    labels = [SHAPES[i % classes] for i in range(count)]
    return [{"image": _picture(label, size, numbers), "label": label} for label in labels]


def _picture(label: str, size: int, numbers: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size, 3): a shape that is lighter than what is behind it."""
    y, x = np.mgrid[-1.2 : 1.2 : size * 1j, -1.2 : 1.2 : size * 1j]
    shift, scale = numbers.uniform(-0.2, 0.2, 2), numbers.uniform(0.8, 1.1)
    inside = _DRAWN[label]((x - shift[0]) * scale, (y - shift[1]) * scale)
    ground, shape = numbers.uniform(0, 100, 3), numbers.uniform(150, 255, 3)
    clean = np.where(inside[..., None], shape, ground)
    return np.clip(clean + numbers.normal(0, _NOISE, clean.shape), 0, 255).astype(np.uint8)


def shape_of(label: str, size: int) -> NDArray[np.bool_]:
    """(size, size) where a shape is that fills a square."""
    y, x = np.mgrid[-0.99 : 0.99 : size * 1j, -0.99 : 0.99 : size * 1j]
    return _DRAWN[label](x, y)


class _Image(Protocol):
    """What is used of `PIL.Image.Image`."""

    def save(self, fp: str | os.PathLike[str], /) -> None: ...


@checked
def write_pictures(
    folder: str | os.PathLike[str],
    count: int = 12,
    *,
    classes: int = 3,
    size: int = 32,
    seed: int = 0,
    suffix: str = "png",
) -> str:
    """Write `pictures` into a folder with one folder for each class: ``circle/00000.png`` and so on.

    Args:
        folder: to write to; made where it is not there.
        count: as of `pictures`, and so are the rest.
        classes: the first so many of `SHAPES`.
        size: pixels of a side.
        seed: of everything that is drawn.
        suffix: ``"png"``, which keeps every pixel, ``"bmp"``, or ``"jpg"``, which does not.

    Returns:
        The path.

    Raises:
        OptionError: numbers or a suffix that cannot be.
        MissingExtraError: pillow is not installed.
    """
    raise_together([choice("suffix", suffix, ("png", "bmp", "jpg"))])
    rows, place = pictures(count, classes=classes, size=size, seed=seed), folder_path(folder, option="folder")
    draw: Callable[[NDArray[np.uint8]], _Image] = require(
        "PIL.Image", extra="image", purpose="writing pictures"
    ).fromarray
    for number, row in enumerate(rows):
        (place / row["label"]).mkdir(parents=True, exist_ok=True)
        draw(row["image"]).save(place / row["label"] / f"{number:05}.{suffix}")
    return str(place)
