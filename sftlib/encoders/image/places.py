"""What lies in a picture, moved as the picture was: masks and boxes.

Matrices are as in `sftlib.encoders.image.augment`: they take a place in the picture that went in, in pixels from the
upper left corner, to its place in what the model sees.

Letters: ``H`` and ``W``, height and width of what the model sees; ``L`` boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.image.augment import Matrix, Size


def scaling(before: Size, after: Size) -> Matrix:
    """(3, 3) takes places in a picture to places in all of it at another size.

    Args:
        before: height and width.
        after: the same.

    Example:
        >>> scaling((4, 16), (8, 8)).diagonal().tolist()
        [0.5, 2.0, 1.0]
    """
    return np.diag([after[1] / before[1], after[0] / before[0], 1.0])


def size_before(moved: Matrix, size: Size) -> Size:
    """Height and width of a picture that was brought to a size as a whole.

    Args:
        moved: (3, 3) that did so.
        size: height and width after.

    Example:
        >>> size_before(np.diag([0.5, 2.0, 1.0]), (8, 8))
        (4, 16)
    """
    return round(size[0] / moved[1, 1]), round(size[1] / moved[0, 0])


def moved_mask(mask: NDArray[Any], moved: Matrix, size: Size, *, beyond: int) -> NDArray[Any]:
    """The nearest number of a mask for each pixel of what the model sees.

    Args:
        mask: (h, w) numbers.
        moved: (3, 3).
        size: H and W.
        beyond: the number of what lies outside of the mask.

    Returns:
        (H, W) of the type of the mask.

    Example:
        >>> mirror = np.array([[-1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> moved_mask(np.array([[1, 2]]), mirror, (1, 3), beyond=-1).tolist()
        [[2, 1, -1]]
    """
    height, width = size
    back = np.linalg.inv(moved)
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5  # the middles of pixels
    x, y, _ = (
        row[0] * across[None, :] + row[1] * down[:, None] + row[2] for row in back
    )  # (H, W) each: where these come from
    columns, rows = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = (columns >= 0) & (columns < mask.shape[1]) & (rows >= 0) & (rows < mask.shape[0])
    found = mask[rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1)]
    return np.where(inside, found, np.asarray(beyond, mask.dtype))


def moved_boxes(boxes: NDArray[np.float64], moved: Matrix, size: Size, *, least: float) -> NDArray[np.float64]:
    """Boxes where their corners came to lie, cut off at the edges of what the model sees.

    Args:
        boxes: (L, 4) left, upper, right and lower edge, in pixels of the picture that went in.
        moved: (3, 3).
        size: H and W.
        least: the share of a box that must be left of it.

    Returns:
        (L, 4) edges as shares of W and H; nan where too little is left.

    Example:
        >>> moved_boxes(np.array([[0.0, 0.0, 4.0, 2.0]]), np.eye(3), (4, 2), least=0.3).tolist()
        [[0.0, 0.0, 1.0, 0.5]]
    """
    height, width = size
    places = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]  # (L, 4 corners, 2)
    places = places @ moved[:2, :2].T + moved[:2, 2]
    low, high = places.min(1), places.max(1)  # (L, 2)
    whole = (high - low).prod(1)
    low, high = low.clip(0, (width, height)), high.clip(0, (width, height))
    left = (high - low).prod(1)
    found = np.concatenate([low, high], 1) / np.array([width, height, width, height], np.float64)
    kept = (left > 0) & (left >= least * whole)
    return np.where(kept[:, None], found, np.nan)
