"""Compact per-row values: columns that grow by batches and are joined when they are read."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Rows:
    """Columns of equal length (N, ...), appended batch by batch.

    The joined columns are the same for every batching, so whatever is computed from them is too.

    Example:
        >>> rows = Rows(np.array([1, 2]), np.array([0.5, 0.25]))
        >>> rows.append(np.array([3]), np.array([0.125]))
        >>> rows.columns[0].tolist(), len(rows)
        ([1, 2, 3], 3)
    """

    def __init__(self, *columns: Array) -> None:
        self._batches: list[tuple[Array, ...]] = []
        self._length = 0
        if columns:
            self.append(*columns)

    def __len__(self) -> int:
        return self._length

    def append(self, *columns: Array) -> None:
        """Add a batch: one array a column, each with the batch's rows first."""
        self._batches.append(columns)
        self._length += len(columns[0])

    @property
    def columns(self) -> tuple[Array, ...]:
        """The columns, each of all rows; there must be at least one batch."""
        if len(self._batches) > 1:
            self._batches = [tuple(np.concatenate(parts) for parts in zip(*self._batches, strict=True))]
        return self._batches[0]

    def merged(self, other: Rows) -> Self:
        """These rows followed by the other's."""
        both = type(self)()
        both._batches = [*self._batches, *other._batches]
        both._length = self._length + other._length
        return both
