"""Rows beside each other in the body's features: neighbours, twins that disagree, rows with none near.

Letters: ``N`` rows, ``H`` width, ``M`` neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024
_TWINS = 0.985  # cosine from which on two rows are called near-duplicates
_SPREAD = 6.0  # deviations (of the middle half) from which on a row is called an outlier


def neighbours(features: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest other rows of each, the nearest first, and their cosines.

    Args:
        features: (N, H)
        count: ``M``; fewer where there are not so many rows.

    Returns:
        (N, M) positions, (N, M) cosines.
    """
    centred = features - features.mean(axis=0)  # what all rows share says nothing of any
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    count = min(count, len(unit) - 1)
    positions = np.empty((len(unit), count), np.int64)
    cosines = np.empty((len(unit), count), np.float32)
    for start in range(0, len(unit), _BLOCK):
        part = unit[start : start + _BLOCK] @ unit.T
        part[np.arange(len(part)), start + np.arange(len(part))] = -np.inf
        nearest = np.argpartition(-part, count - 1, axis=1)[:, :count] if count else np.empty((len(part), 0), int)
        values = np.take_along_axis(part, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        positions[start : start + len(part)] = np.take_along_axis(nearest, order, axis=1)
        cosines[start : start + len(part)] = np.take_along_axis(values, order, axis=1)
    return positions, cosines


def twins(
    positions: NDArray[np.int64], cosines: NDArray[np.float32], given: NDArray[np.int64]
) -> list[tuple[int, int, float]]:
    """Pairs of rows that say nearly the same and bear different labels: (row, other row, cosine), nearest first."""
    found = {
        (min(row, int(other)), max(row, int(other))): float(cosine)
        for row, (others, values) in enumerate(zip(positions, cosines, strict=True))
        for other, cosine in zip(others, values, strict=True)
        if cosine >= _TWINS and given[row] != given[other]
    }
    return [(first, second, cosine) for (first, second), cosine in sorted(found.items(), key=lambda item: -item[1])]


def outliers(cosines: NDArray[np.float32]) -> list[tuple[int, float]]:
    """Rows that are far from their neighbours, as rows go: (row, mean distance to them), the farthest first."""
    if not cosines.size:
        return []
    distance = 1 - cosines.mean(axis=1)
    low, middle, high = np.quantile(distance, [0.25, 0.5, 0.75])
    limit = middle + _SPREAD * max(float(high - low) / 1.349, 1e-9)
    found = np.flatnonzero(distance > limit)
    return [(int(row), float(distance[row])) for row in found[np.argsort(-distance[found], kind="stable")]]
