"""Columns of a file too large for memory, as each kind of role needs them: checked and kept without being held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from sftlib.data.columns import Coded, Column, Made, Numbers
from sftlib.data.kinds.base import NumberRole, RoleKind, TextRole
from sftlib.data.kinds.labels import LabelListRole, LabelRole
from sftlib.data.scratch import Growing, Scratch

_BLOCK = 4096


def opened(
    kind: RoleKind, column: Column, *, textual: bool, unified: bool = False, separator: str | None = None
) -> Sequence[Any]:
    """The raw values of a column for ``kind.check``: a `Column` where they need not be held, else a list.

    Args:
        kind: of the role that the column plays.
        column: as it was read.
        textual: whether its values are cells of text, to be parsed.
        unified: whether its mappings have the keys of all rows, see `RoleKind.unfilled`.
        separator: what stands between the members of lists in its cells, or None.
    """
    if isinstance(kind, TextRole):
        return column
    if separator is not None:
        column = Made(partial(kind.separated, separator=separator), column)
    if isinstance(kind, LabelRole | LabelListRole):
        coded = _coded(column)  # both parse a cell by looking at nothing but the set of cells
        return Coded(coded.codes, kind.parse(coded.values) if textual else kind.written(coded.values))
    read = Made(kind.parse if textual else kind.written, column)
    return Made(kind.unfilled, read) if unified else read


def kept(kind: RoleKind, column: Column) -> Column:
    """A column that passed its checks, with its values as `RoleKind.normalise` makes them."""
    if isinstance(column, Coded):
        return Coded(column.codes, kind.normalise(column.values))
    if isinstance(kind, TextRole):
        return column  # of texts that are Python's own already
    if not isinstance(kind, NumberRole):
        return Made(kind.normalise, column)
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
