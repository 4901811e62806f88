"""Small pictures of several shapes, with a mask and with boxes, made on the spot."""

from __future__ import annotations

from typing import Any

import numpy as np

from sftlib.support.checking import checked, raise_together, whole_number
from sftlib.testing.pictures import SHAPES, shape_of

_NOISE = 12.0  # standard deviation of a pixel, of 255


@checked
def scenes(
    count: int, *, classes: int = 3, size: int | tuple[int, int] = 32, most: int = 3, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of pictures of up to a few shapes beside each other, lighter than what is behind them, with noise.

    Every class has a colour of its own beside its shape, so that a tiny model can tell them apart in a few steps.

    Args:
        count: how many pictures.
        classes: the first so many of `SHAPES`.
        size: pixels of a side, or (height, width).
        most: shapes of a picture; some have fewer, and every seventh has none.
        seed: of everything that is drawn.

    Returns:
        Rows ``{"image": (H, W, 3) uint8, "mask": (H, W) uint8, "objects": [{"label", "box"}]}``. In a mask 0 is the
        background and 1 the first class. A box is (x1, y1, x2, y2) in pixels.

    Raises:
        OptionError: numbers that cannot be.

    Example:
        >>> row = scenes(2, classes=2)[1]
        >>> row["image"].shape, row["mask"].dtype, sorted(row["objects"][0])
        ((32, 32, 3), dtype('uint8'), ['box', 'label'])
    """
    raise_together(
        [
            whole_number("count", count, at_least=0),
            whole_number("classes", classes, at_least=1, at_most=len(SHAPES)),
            whole_number("most", most, at_least=1, at_most=8),
            whole_number("seed", seed, at_least=0),
            *(whole_number("size", side, at_least=8) for side in (size if isinstance(size, tuple) else (size,))),
        ]
    )
    height, width = size if isinstance(size, tuple) else (size, size)
    numbers = np.random.default_rng(seed)
    return [_scene(number, classes, height, width, most, numbers) for number in range(count)]


def _scene(
    number: int, classes: int, height: int, width: int, most: int, numbers: np.random.Generator
) -> dict[str, Any]:
    ground = numbers.uniform(0, 80, 3)
    clean = np.broadcast_to(ground, (height, width, 3)).copy()
    mask = np.zeros((height, width), np.uint8)
    objects = []
    for place in range(0 if number % 7 == 6 else 1 + int(numbers.integers(most))):
        code = int(numbers.integers(classes))
        side = round(min(height, width) * numbers.uniform(0.25, 0.45))
        left, top = int(numbers.integers(width - side + 1)), int(numbers.integers(height - side + 1))
        box = (slice(top, top + side), slice(left, left + side))
        if place and mask[box].any():
            continue  # one that would cover another is left out
        inside = shape_of(SHAPES[code], side)
        colour = numbers.uniform(120, 150, 3)
        colour[code % 3] = numbers.uniform(210, 255)
        clean[box][inside] = colour
        mask[box][inside] = code + 1
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        edges = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        objects.append({"label": SHAPES[code], "box": tuple(float(edge) for edge in edges)})
    noisy = clean + numbers.normal(0, _NOISE, clean.shape)
    return {"image": np.clip(noisy, 0, 255).astype(np.uint8), "mask": mask, "objects": objects}
