"""Numbers of each row that are read as sums, kept so that rows can be drawn again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sftlib.metrics.rows import Rows

Amounts = Mapping[Hashable, float]


class RowSums:
    """The sums of named numbers over rows; a row keeps those of its numbers that are not 0 (12 bytes each).

    Example:
        >>> sums = RowSums()
        >>> sums.append([{"right": 1, "all": 2}, {"all": 1}])
        >>> sums.total()
        {'right': 1.0, 'all': 3.0}
        >>> sums.total(np.array([1, 1]))
        {'right': 0.0, 'all': 2.0}
    """

    def __init__(self) -> None:
        self._codes: dict[Hashable, int] = {}
        self._lengths = Rows()  # how many numbers each row has (N,)
        self._numbers = Rows()  # their codes and values, row after row

    def __len__(self) -> int:
        return len(self._lengths)

    def append(self, rows: Sequence[Amounts]) -> None:
        """Add rows, at least one."""
        kept = [[(name, value) for name, value in row.items() if value] for row in rows]
        for name in chain.from_iterable(rows):
            self._codes.setdefault(name, len(self._codes))
        pairs = list(chain.from_iterable(kept))
        self._lengths.append(np.array([len(row) for row in kept], dtype=np.int32))
        self._numbers.append(
            np.array([self._codes[name] for name, _ in pairs], dtype=np.int32),
            np.array([value for _, value in pairs], dtype=np.float64),
        )

    def total(self, drawn: NDArray[np.int64] | None = None) -> dict[Hashable, float]:
        """Each sum over all rows, or over the rows drawn (their numbers, as often as they were drawn)."""
        (lengths,), (codes, values) = self._lengths.columns, self._numbers.columns
        if drawn is not None:
            values = values * np.repeat(np.bincount(drawn, minlength=len(lengths)), lengths)
        sums = np.bincount(codes, weights=values, minlength=len(self._codes))
        return dict(zip(self._codes, sums.tolist(), strict=True))

    def merged(self, other: RowSums) -> Self:
        """These rows followed by the other's."""
        both = type(self)()
        both._codes = dict(self._codes)
        for name in other._codes:
            both._codes.setdefault(name, len(both._codes))
        both._lengths = self._lengths.merged(other._lengths)
        both._numbers = self._numbers.merged(Rows())
        if len(other):
            moved = np.array([both._codes[name] for name in other._codes], dtype=np.int32)
            codes, values = other._numbers.columns
            both._numbers.append(moved[codes], values)
        return both
