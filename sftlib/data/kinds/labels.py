"""The kinds of role that hold labels: one class in every row, or a list of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import final

import numpy as np

from sftlib.data.kinds.base import Label, RoleKind, encodable, is_missing, kind_of
from sftlib.data.problems import Findings
from sftlib.data.written import bracketed, list_cell, parts_of

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
# Like Python's own floats, with a point or an exponent: 007 is a code, not a number.
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.?)([eE][-+]?[0-9]+)?")
_BOOLS = {word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())}

FLOAT_LABELS = (
    "whole numbers that stand for classes: convert them to int; quantities to predict: "
    "give the column as target=... instead of label (task 'text-regression')"
)


def plain_label(value: object) -> object:
    """A label as Python's own str, int or bool: numpy scalars and members of enumerations lose their wrapping."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and type(value) is not str:
        return str.__str__(value)
    if isinstance(value, int) and type(value) not in (int, bool):
        return int(value)
    return value


@final
class LabelRole(RoleKind):
    """One class in every row: a str, int or bool, of one type in the whole column.

    Example:
        >>> LabelRole().normalise([np.int64(1), 0])
        [1, 0]
        >>> LabelRole().parse(["1", "0", ""]), LabelRole().parse(["1", "x"]), LabelRole().parse(["007"])
        ([1, 0, None], ['1', 'x'], ['007'])
    """

    holds_labels = True
    one_label = True

    def check(self, values: Sequence[object]) -> Findings:
        """Find labels that are missing, floats, not labels, or not of the common type."""
        findings = Findings()
        _check_labels(lambda: enumerate(values), findings)
        return findings

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Python's own str, int or bool."""
        return [plain_label(value) for value in values]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """The narrowest of int, bool, float and str that fits every cell; an empty cell is missing, blanks go."""
        cells = [cell.strip() if isinstance(cell, str) else cell for cell in cells]
        read = _converter({cell for cell in cells if isinstance(cell, str) and cell != ""})
        return [None if cell == "" else read(cell) if isinstance(cell, str) else cell for cell in cells]

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        """The name of each class number; -1 is missing."""
        return [class_name(value, names) for value in values]

    def numbers_of(self, value: object) -> Sequence[object] | None:
        """The value itself."""
        return (value,)

    def labels_of(self, value: object) -> Sequence[Label]:
        """The label itself."""
        return (value,)  # type: ignore[return-value]


def _converter(cells: set[str]) -> type | _Bool:
    """How to read the cells of a label column: as the narrowest type that fits all of them."""
    if not cells or any(not cell.isascii() for cell in cells):
        return str
    if all(_INTEGER.fullmatch(cell) and len(cell) < 4000 for cell in cells):
        return int
    if cells <= _BOOLS.keys():
        return _Bool()
    if all(_FLOAT.fullmatch(cell) for cell in cells):
        return float
    return str


class _Bool:
    def __call__(self, cell: str) -> bool:
        return _BOOLS[cell]


def class_name(value: object, names: Sequence[str]) -> object:
    """The name of a class number; None for -1, and a value that is no class number as it is."""
    value = plain_label(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value == -1:  # what `datasets` stores for a row of a test split without a label
        return None
    return names[value] if 0 <= value < len(names) else value


def _check_labels(pairs: Callable[[], Iterable[tuple[int, object]]], findings: Findings) -> None:
    """Find every label that is missing, not a label, or not of the type that most labels have.

    The labels are gone through once, or twice where they are of several types, and never held.
    """
    tally: Counter[type] = Counter()
    verdicts: dict[tuple[type, object], tuple[str, str] | None] = {}  # few distinct labels, so each is judged once
    for row, value in pairs():
        value = plain_label(value)
        try:
            key = (type(value), value)
            if key not in verdicts:
                verdicts[key] = _verdict(value)
            verdict = verdicts[key]
        except TypeError:  # not hashable: a list, a dict, an array
            verdict = _verdict(value)
        if verdict is not None:
            findings.add(row, verdict[0], None if is_missing(value) else value, verdict[1])
        else:
            tally[type(value)] += 1
    if len(tally) < 2:
        return
    usual = max(tally, key=lambda kind: tally[kind])  # of equals, the one that came first
    for row, value in pairs():
        value = plain_label(value)
        if type(value) is not usual and type(value) in tally and _verdict(value) is None:
            what = f"a label of type {type(value).__name__} where most are {usual.__name__}"
            findings.add(row, what, value, f"give all labels one type, for example with {_common(tally)}()")


def _common(types: Iterable[type]) -> str:
    return "str" if str in set(types) else "int"


def _verdict(value: object) -> tuple[str, str] | None:
    """What is wrong with one label by itself, and how to mend it."""
    if is_missing(value):
        return "a missing label", "drop these rows, or leave the role out to make an unlabelled data set"
    if isinstance(value, float):
        return "a float as label", FLOAT_LABELS
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return "several labels in one row", "give the column as labels=... (task 'multi-label-classification')"
    if not isinstance(value, str | int):
        return f"{kind_of(value)} as label", "labels are strings, integers or booleans"
    if isinstance(value, str) and not value.strip():
        return "a blank label", "drop these rows or fill them in"
    if isinstance(value, str) and not encodable(value):
        return "a label that holds a lone surrogate", "read the source with its right encoding"
    if isinstance(value, str) and isinstance(bracketed(value), list):
        return "a list, written as text, as label", "give the column as labels=... (task 'multi-label-classification')"
    return None


@final
class LabelListRole(RoleKind):
    """Any number of classes in every row: a list, tuple or set of labels of one type.

    A label that a row repeats counts once; sets come out sorted, so that their order does not hang on hashing.

    Example:
        >>> LabelListRole().normalise([["b", "a", "b"], {"d", "c"}, ()])
        [['b', 'a'], ['c', 'd'], []]
    """

    holds_labels = True

    def check(self, values: Sequence[object]) -> Findings:
        """Find rows that are no list, and labels that cannot be one or are not of the common type."""
        findings = Findings()
        for row, value in enumerate(values):
            if is_missing(value):
                findings.add(row, "missing labels", None, "write an empty list for a row that has none")
            elif _members(value) is None:
                findings.add(row, f"{kind_of(value)} instead of a list of labels", value, _instead_of_a_list(value))
        _check_labels(
            lambda: ((row, member) for row, value in enumerate(values) for member in _members(value) or ()), findings
        )
        if not findings and _indicators(values):
            mend = "name the places with label_names=[...], or write each row as the list of its own labels"
            findings.add(
                0, "a vector of 0 and 1 (as all rows have) instead of a list of labels", _members(values[0]), mend
            )
        return findings

    def normalise(self, values: Sequence[object]) -> list[object]:
        """A list for each row, without repeats."""
        return [self._normalise_one(value) for value in values]

    def _normalise_one(self, value: object) -> list[object]:
        unique = list(dict.fromkeys(plain_label(member) for member in _members(value) or ()))
        return sorted(unique) if isinstance(value, set | frozenset) else unique  # type: ignore[type-var]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Lists in JSON, or as Python or numpy write them; an empty cell is missing."""
        return [list_cell(cell) for cell in cells]

    def written(self, values: Sequence[object]) -> Sequence[object]:
        """Lists that came as texts."""
        return [bracketed(value) for value in values]

    def separated(self, values: Sequence[object], separator: str) -> Sequence[object]:
        """The labels of each text."""
        return [parts_of(value, separator) for value in values]

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        """The name of each class number in each row."""
        return [
            value if (members := _members(value)) is None else [class_name(member, names) for member in members]
            for value in values
        ]

    def numbers_of(self, value: object) -> Sequence[object] | None:
        """The members of the list."""
        return _members(value)

    def labels_of(self, value: object) -> Sequence[Label]:
        """The labels of the list."""
        return value  # type: ignore[return-value]

    def comparable(self, value: object) -> Hashable:
        """The labels without their order."""
        return frozenset(self.labels_of(value))


def _instead_of_a_list(value: object) -> str:
    """How to mend a value that is no list of labels."""
    if isinstance(value, str) and value.lstrip().startswith("[") and "..." in value:
        return "numpy cut it short when it was written: make lists of arrays before to_csv, with .tolist()"
    sign = next((sign for sign in "|;,\t" if isinstance(value, str) and sign in value), None)
    if sign is not None:
        return f"give separator={sign!r} where that stands between labels, or write a list, such as ['a', 'b']"
    if isinstance(value, str | int | np.integer):
        return "for one class a row give the column as label=...; for several write a list, such as ['a', 'b']"
    return "write a list, such as ['a', 'b']"


def _members(value: object) -> list[object] | None:
    if isinstance(value, np.ndarray):
        return list(value.tolist()) if value.ndim == 1 else None
    return list(value) if isinstance(value, list | tuple | set | frozenset) else None


def _indicators(values: Sequence[object]) -> bool:
    """Whether these lists look like multi-hot vectors: of one length, of 0 and 1 only, and with repeats."""
    length, repeats = None, False
    for value in values:
        row = _members(value) or []
        if len(row) != (len(row) if length is None else length):
            return False
        if not all(isinstance(plain_label(member), int) and member in (0, 1) for member in row):
            return False
        length, repeats = len(row), repeats or len(set(row)) < len(row)
    return repeats


_MARKS = ("0", "1", "0.0", "1.0", "False", "True")


def are_marks(values: Sequence[object], count: int) -> bool | None:
    """Whether lists of numbers mark with 0 and 1 which of so many classes hold; None where they may be both.

    Example:
        >>> are_marks([[1, 0, 0], [0, 1, 1]], 3), are_marks([[2], [0, 1]], 3), are_marks([[1, 0], [0, 1]], 2)
        (True, False, None)
    """
    rows = [row for row in map(_members, values) if row is not None]
    if not rows or any(len(row) != count for row in rows):
        return False
    if any(str(plain_label(member)).strip() not in _MARKS for row in rows for member in row):
        return False
    return True if any(len(set(map(str, row))) < len(row) for row in rows) else None
