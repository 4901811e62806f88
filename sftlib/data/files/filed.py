"""Columns of a file too large for memory, as each kind of role needs them: checked and kept without being held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.columns import Coded, Column, Numbers
from sftlib.data.kinds.base import NumberRole, RoleKind, TextRole
from sftlib.data.kinds.labels import LabelListRole, LabelRole
from sftlib.data.scratch import Growing, Scratch

_BLOCK = 4096


def opened(kind: RoleKind, column: Column, *, textual: bool) -> Sequence[Any]:
    """The raw values of a column for ``kind.check``: a `Column` where they need not be held, else a list.

    Args:
        kind: of the role that the column plays.
        column: as it was read.
        textual: whether its values are cells of text, to be parsed.
    """
    if isinstance(kind, TextRole):
        return column
    if isinstance(kind, LabelRole | LabelListRole):
        coded = _coded(column)  # both parse a cell by looking at nothing but the set of cells
        return Coded(coded.codes, kind.parse(coded.values)) if textual else coded
    return _As(kind.parse, column) if textual else column


def kept(kind: RoleKind, column: Column) -> Column:
    """A column that passed its checks, with its values as `RoleKind.normalise` makes them."""
    if isinstance(column, Coded):
        return Coded(column.codes, kind.normalise(column.values))
    if isinstance(kind, TextRole):
        return column  # of texts that are Python's own already
    if not isinstance(kind, NumberRole):
        return _As(kind.normalise, column)
    scratch = Scratch()
    numbers = Growing(np.float64, lambda: scratch.path("numbers.npy"))
    for block in _blocks(column):
        numbers.extend(np.array(kind.normalise(block), np.float64))
    values = numbers.done()
    scratch.release()
    return Numbers(values)


def _coded(column: Column) -> Coded:
    """The distinct values of a column, and the number of each row's own; values that cannot be told apart repeat."""
    scratch = Scratch()
    codes = Growing(np.int32, lambda: scratch.path("codes.npy"))
    values: list[Any] = []
    known: dict[Any, int] = {}
    for block in _blocks(column):
        numbers = []
        for value in block:
            try:
                number = known.setdefault(_key(value), len(values))
            except TypeError:  # an object or a nested list, which is no label: `check` will say so
                number = len(values)
            if number == len(values):
                values.append(value)
            numbers.append(number)
        codes.extend(np.array(numbers, np.int32))
    done = codes.done()
    scratch.release()
    return Coded(done, values)


def _key(value: Any) -> Any:
    """Equal for values of one type that are equal, and for every NaN."""
    if isinstance(value, list):
        return tuple(map(_key, value))
    return (type(value), repr(value) if isinstance(value, float) else value)


def _blocks(column: Column) -> Iterator[list[Any]]:
    for start in range(0, len(column), _BLOCK):
        yield column[start : start + _BLOCK]


@final
class _As(Column):
    """Values that something is made of as they are read: no list or dict is held."""

    def __init__(self, make: Callable[[list[Any]], Sequence[Any]], values: Column) -> None:
        self._make = make
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        return list(self._make(self._values.take(rows)))
