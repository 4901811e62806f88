"""Sums whose value does not depend on the order or the grouping of what was added."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Self


class ExactSum:
    """A sum of floats kept without any rounding, so that batching and merging cannot move it.

    The exact sum is held as a few floats: the first is the rounded sum, each next one what the former left out. That
    is what Shewchuk's partial sums (1997) hold too, but here `math.fsum` does the work in C. A sum that is not finite
    stays so.

    Example:
        >>> total = ExactSum([1e100, 1.0, -1e100])
        >>> total.value
        1.0
        >>> (total + ExactSum([0.1] * 10)).value
        2.0
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._parts: list[float] = []
        self.add(values)

    def add(self, values: Iterable[float]) -> None:
        """Add every value."""
        rest = [*self._parts, *values]
        parts: list[float] = []
        while part := _rounded(rest):
            parts.append(part)
            if not math.isfinite(part):
                parts = [part]
                break
            rest.append(-part)
        self._parts = parts

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return _rounded(self._parts)

    def __add__(self, other: ExactSum) -> Self:
        return type(self)([*self._parts, *other._parts])


def _rounded(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # beyond the largest float, or infinities of both signs
        return sum(values)
