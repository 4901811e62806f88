"""The labels of a classification and their codes: label ``names[i]`` has code ``i``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, LabelError
from sftlib.support.checking import nearest

Label: TypeAlias = str | int  # bool is an int
Codes: TypeAlias = NDArray[np.int64]
LABEL_TYPES = frozenset({str, int, bool})
SHOWN = 10  # problems listed in one error; the others are counted


class LabelIndex:
    """Label names and their codes; never changed, a larger one is made instead.

    A closed index was given its names and takes no others. An open one gathers what it sees and keeps it sorted. The
    type is part of a label: ``True``, ``1`` and ``"1"`` are three labels, and the first two cannot stand in one index.

    Args:
        names: the labels: strings, integers or bools.
        closed: whether other labels are errors.

    Raises:
        LabelError: a name of another type, or two that are equal.
    """

    def __init__(self, names: Iterable[Label] = (), *, closed: bool = False) -> None:
        self.names: tuple[Label, ...] = tuple(own_types(list(names)))
        self.closed = closed
        self._codes: dict[tuple[type, Label], int] = {}
        for code, name in enumerate(self.names):
            if type(name) not in LABEL_TYPES:
                raise LabelError(f"label name {name!r} is {_kind(name)}: labels are strings, whole numbers or bools")
            self._codes[type(name), name] = code
        if len(set(self.names)) < len(self.names):
            twins = sorted({repr(name) for name in self.names if self.names.count(name) > 1})
            raise LabelError(f"labels {', '.join(twins)} are equal: give each label once, and all of one type")

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelIndex) and list(self._codes) == list(other._codes)

    __hash__ = None  # type: ignore[assignment]  # like a list: compared by what it holds

    @property
    def positive(self) -> int:
        """Code of the positive label of two: the last in sorted order."""
        return self._codes[_key(in_order(self.names)[-1])]

    def encode(self, values: Iterable[Label]) -> Codes:
        """Codes (N,) of labels that the index has."""
        return np.fromiter((self._codes[type(value), value] for value in values), dtype=np.int64)

    def code_set(self, values: Iterable[Label]) -> tuple[int, ...]:
        """Sorted codes of labels that the index has, each once."""
        return tuple(sorted({self._codes[type(value), value] for value in values}))

    def including(self, columns: Mapping[str, Iterable[tuple[int, Sequence[Any]]]]) -> LabelIndex:
        """The index that also has these labels.

        Args:
            columns: what the labels are ("references") -> pairs (row number, its labels).

        Raises:
            LabelError: labels that the index cannot take, each with its row and the nearest label.
        """
        problems: list[str] = []
        new: set[tuple[type, Label]] = set()
        for what, rows in columns.items():
            for row, labels in rows:
                for label in labels:
                    if type(label) in LABEL_TYPES and (_key(label) in self._codes or not self.closed):
                        new.add(_key(label))
                    else:
                        problems.append(f"{what}, row {row}: {self._problem(label)}")
        if problems:
            more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
            raise LabelError("\n".join(problems[:SHOWN] + more))
        if new <= self._codes.keys():
            return self
        return LabelIndex(in_order(label for _, label in new | self._codes.keys()))

    def has_all(self, values: Iterable[Any]) -> bool:
        """Whether every value is a label of the index (the quick way past `including`)."""
        try:
            return {(type(value), value) for value in values} <= self._codes.keys()
        except TypeError:  # not hashable, so no label
            return False

    def merged(self, other: LabelIndex) -> LabelIndex:
        """The index of both, closed when one of them is.

        Raises:
            DataError: both are closed and differ, or an open one has labels that the closed one lacks.
        """
        if self.closed and other.closed:
            if self != other:
                raise DataError(f"label names differ: {list(self.names)} and {list(other.names)}")
            return self
        first, second = (other, self) if other.closed else (self, other)
        return first.including({"the other's labels": enumerate((name,) for name in second.names)})

    def moved(self, larger: LabelIndex) -> Codes:
        """For each code of this index, the code (K,) that the larger index gives the same label."""
        return larger.encode(self.names)

    def _problem(self, label: object) -> str:
        if label is None or (isinstance(label, float) and label != label):
            return f"{label!r} is no label (missing?)"
        if type(label) not in LABEL_TYPES:
            hint = (
                " (numbers to be predicted have regression metrics: mse, r2, ...)" if isinstance(label, float) else ""
            )
            return f"{label!r:.50} is {_kind(label)}, not a label: labels are strings, whole numbers or bools{hint}"
        if label in self.names or any(str(label) == str(name) for name in self.names):
            twin = next(name for name in self.names if label == name or str(label) == str(name))
            return f"{label!r} is {_kind(label)}, the label {twin!r} is {_kind(twin)}"
        return f"unknown label {label!r:.80}: {nearest(label, self.names)}"


def own_types(values: list[Any]) -> list[Any]:
    """The values with numpy and torch scalars turned into Python's own."""
    if set(map(type, values)) <= LABEL_TYPES:
        return values
    return [value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value for value in values]


def in_order(labels: Iterable[Label]) -> list[Label]:
    """Sorted labels; by their text when the types differ."""
    listed = list(labels)
    return sorted(listed) if len(set(map(type, listed))) < 2 else sorted(listed, key=str)


def _key(label: Label) -> tuple[type, Label]:
    return type(label), label


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
