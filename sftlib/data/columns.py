"""Columns that read themselves when they are asked: from a file, from a table of distinct values, from another column.

All are sequences of Python values: an index gives one, a slice a list, iteration reads block by block.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final, overload

import numpy as np
from numpy.typing import NDArray

from sftlib.data.plain import copied

_BLOCK = 2**12  # rows read at once while iterating


class Column(Sequence[Any]):
    """A read-only sequence of values that knows how to read many at once."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        """The values of these rows, in this order."""

    @overload
    def __getitem__(self, key: int) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> list[Any]: ...
    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        if not -len(self) <= key < len(self):
            raise IndexError(f"row {key} of {len(self):,}")
        return self.take(np.array([key % len(self)]))[0]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _BLOCK):
            yield from self.take(np.arange(start, min(start + _BLOCK, len(self))))


@final
class View(Column):
    """Some rows of a column, in some order.

    Args:
        values: the column.
        rows: row numbers of it.

    Example:
        >>> view = View(["a", "b", "c"], np.array([2, 0]))
        >>> view[0], view[:], list(view)
        ('c', ['c', 'a'], ['c', 'a'])
    """

    def __init__(self, values: Sequence[Any], rows: NDArray[np.int64]) -> None:
        self._values = values
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self._of(self._rows[key])
        return self._values[int(self._rows[key])]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _BLOCK):
            yield from self._of(self._rows[start : start + _BLOCK])

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        return self._of(self._rows[rows])

    def _of(self, rows: NDArray[np.int64]) -> list[Any]:
        if isinstance(self._values, Column):
            return self._values.take(rows)
        return [self._values[row] for row in rows.tolist()]


@final
class Joined(Column):
    """Two columns, one after the other."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self._first = View(first, np.arange(len(first)))
        self._second = View(second, np.arange(len(second)))

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        early = rows < len(self._first)
        first, second = iter(self._first.take(rows[early])), iter(self._second.take(rows[~early] - len(self._first)))
        return [next(first) if is_early else next(second) for is_early in early.tolist()]


def joined(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    """Two columns, one after the other: copied, unless one of them lies in a file.

    Example:
        >>> joined(["a"], ["b"])
        ['a', 'b']
    """
    in_file = any(isinstance(view._values if isinstance(view, View) else view, Column) for view in (first, second))
    return Joined(first, second) if in_file else [*first, *second]


def chosen(values: Sequence[Any], rows: NDArray[np.int64]) -> Sequence[Any]:
    """Some rows of a column as a column of the same kind: a list is copied, what lies in a file stays there.

    Example:
        >>> chosen(["a", "b", "c"], np.array([0, 2]))
        ['a', 'c']
    """
    if isinstance(values, Coded):
        return Coded(values.codes[rows], values.values)
    return [values[row] for row in rows.tolist()] if isinstance(values, list) else View(values, rows)


@final
class Nothing(Column):
    """A column of missing values."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        return [None] * len(rows)


@final
class Written(Column):
    """Values that were written as bytes, one after the other.

    Args:
        content: (L,) uint8 of all rows; may lie in a file.
        ends: (N,) where each row ends.
        read: bytes to value.
    """

    def __init__(self, content: NDArray[np.uint8], ends: NDArray[np.int64], read: Callable[[bytes], Any]) -> None:
        self._content = content
        self._ends = ends
        self._read = read

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        starts = np.where(rows > 0, self._ends[rows - 1], 0) if len(self) else rows
        spans = zip(starts.tolist(), self._ends[rows].tolist(), strict=True)
        return [self._read(self._content[start:end].tobytes()) for start, end in spans]


@final
class Numbers(Column):
    """Floats in a flat array, which may lie in a file."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        values: list[Any] = self._values[rows].tolist()
        return values


@final
class Coded(Column):
    """Few distinct values, and for each row the number of its own.

    Args:
        codes: (N,) numbers.
        values: the value of each number.

    Example:
        >>> Coded(np.array([1, 0, 1]), ["no", "yes"])[:]
        ['yes', 'no', 'yes']
    """

    def __init__(self, codes: NDArray[np.integer[Any]], values: Sequence[Any]) -> None:
        self.codes = codes
        self.values = values

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        # A list is handed out as a copy: rows that hold the same one must not change together.
        return [copied(self.values[code]) for code in self.codes[rows].tolist()]


@final
class Made(Column):
    """Values that something is made of as they are read: no list or dict is held.

    Args:
        make: values to as many others.
        values: the column that they are made of.
    """

    def __init__(self, make: Callable[[list[Any]], Sequence[Any]], values: Column) -> None:
        self._make = make
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        return list(self._make(self._values.take(rows)))
