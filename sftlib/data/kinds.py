"""Kinds of role: what the values of a column must be for a role to use it, and what they become.

A kind has three small jobs: `check` finds every bad row of a column, `normalise` makes plain Python values of a
column that has none, `parse` reads the cells of a text file.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias, final

import numpy as np

from sftlib.data.problems import Findings

Label: TypeAlias = str | int | bool

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
# Like Python's own floats, with a point or an exponent: 007 is a code, not a number.
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.?)([eE][-+]?[0-9]+)?")
_NUMBER = re.compile(r"[-+]?(nan|inf(inity)?|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)", re.IGNORECASE | re.ASCII)
_BOOLS = {word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())}

DROP_OR_FILL = "drop these rows or fill them in"
FLOAT_LABELS = (
    "whole numbers that stand for classes: convert them to int; quantities to predict: "
    "give the column as target=... instead of label (task 'text-regression')"
)


def is_missing(value: object) -> bool:
    """Whether ``value`` stands for "nothing here": None, a NaN, or pandas' NA and NaT.

    Example:
        >>> [is_missing(value) for value in (None, float("nan"), "", 0)]
        [True, True, False, False]
    """
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(value != value)
    # Told by name, so that pandas is not imported for data that never saw it.
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas")


def plain_label(value: object) -> object:
    """A label as Python's own str, int or bool: numpy scalars and members of enumerations lose their wrapping."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and type(value) is not str:
        return str.__str__(value)
    if isinstance(value, int) and type(value) not in (int, bool):
        return int(value)
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class RoleKind(ABC):
    """What every kind of role can do. Kinds have no state: two instances of one are interchangeable."""

    #: Whether the values are labels: they are fitted, and their problems are `LabelError`.
    holds_labels = False
    #: Whether every row has exactly one label, so that rows can be grouped by it.
    one_label = False

    @abstractmethod
    def check(self, values: Sequence[object]) -> Findings:
        """Every problem of a column, under its row."""

    @abstractmethod
    def normalise(self, values: Sequence[object]) -> list[object]:
        """The values of a column without problems, as plain Python objects."""

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Values from the text cells of a file; what cannot be read stays text, for `check` to find."""
        return cells

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        """Class numbers as the names that a `datasets` feature declares for them; only label kinds do so."""
        return values

    def labels_of(self, value: object) -> Sequence[Label]:
        """The labels in one value: none, unless the kind holds labels."""
        return ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self).__name__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@final
class TextRole(RoleKind):
    """A string in every row. Blank ones are allowed: the report counts them.

    Example:
        >>> print(*TextRole().check(["fine", None, 3]).lines("text"), sep="\\n")
        text: 1 row with a missing value: row 1; drop these rows or fill them in
        text: 1 row with an int instead of a string: row 2 (3); convert with str()
    """

    def check(self, values: Sequence[object]) -> Findings:
        findings = Findings()
        # Blocks joined and encoded at once: many times faster than row by row, for rows that are nearly all good.
        for start in range(0, len(values), 512):
            block = values[start : start + 512]
            if not _all_text(block):
                for row, value in enumerate(block, start):
                    self._check_one(row, value, findings)
        return findings

    def _check_one(self, row: int, value: object, findings: Findings) -> None:
        if is_missing(value):
            findings.add(row, "a missing value", None, DROP_OR_FILL)
        elif isinstance(value, bytes):
            findings.add(row, "bytes instead of a string", value, "decode them, for example with .decode('utf-8')")
        elif not isinstance(value, str):
            findings.add(row, f"{_a(value)} instead of a string", value, "convert with str()")
        elif not _encodable(value):
            findings.add(
                row,
                "a lone surrogate, which is no character",
                value,
                "read the source with its right encoding, or repair it with .encode('utf-16', 'surrogatepass')"
                ".decode('utf-16', 'replace')",
            )

    def normalise(self, values: Sequence[object]) -> list[object]:
        return [value if type(value) is str else str.__str__(value) for value in values]


def _all_text(block: Sequence[object]) -> bool:
    try:
        return _encodable("".join(block))  # type: ignore[arg-type]
    except TypeError:
        return False


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


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
        findings = Findings()
        _check_labels(enumerate(values), findings)
        return findings

    def normalise(self, values: Sequence[object]) -> list[object]:
        return [plain_label(value) for value in values]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        read = _converter({cell for cell in cells if isinstance(cell, str) and cell != ""})
        return [None if cell == "" else read(cell) if isinstance(cell, str) else cell for cell in cells]

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        return [_class_name(value, names) for value in values]

    def labels_of(self, value: object) -> Sequence[Label]:
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


def _class_name(value: object, names: Sequence[str]) -> object:
    value = plain_label(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value == -1:  # what `datasets` stores for a row of a test split without a label
        return None
    return names[value] if 0 <= value < len(names) else value


def _check_labels(pairs: Iterable[tuple[int, object]], findings: Findings) -> None:
    """Find every label that is missing, not a label, or not of the type that most labels have."""
    typed: list[tuple[int, object]] = []
    verdicts: dict[tuple[type, object], tuple[str, str] | None] = {}  # few distinct labels, so each is judged once
    for row, value in pairs:
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
            typed.append((row, value))
    tally = Counter(type(value) for _, value in typed)
    if len(tally) < 2:
        return
    usual = max(tally, key=lambda kind: tally[kind])  # of equals, the one that came first
    for row, value in typed:
        if type(value) is not usual:
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
        return f"{_a(value)} as label", "labels are strings, integers or booleans"
    if isinstance(value, str) and not value.strip():
        return "a blank label", "drop these rows or fill them in"
    if isinstance(value, str) and not _encodable(value):
        return "a label that holds a lone surrogate", "read the source with its right encoding"
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
        findings = Findings()
        good: list[tuple[int, list[object]]] = []
        for row, value in enumerate(values):
            if is_missing(value):
                findings.add(row, "missing labels", None, "write an empty list for a row that has none")
            elif (members := _members(value)) is None:
                findings.add(row, f"{_a(value)} instead of a list of labels", value, "write a list, such as ['a', 'b']")
            else:
                good.append((row, members))
        _check_labels(((row, member) for row, members in good for member in members), findings)
        if not findings and _indicators([members for _, members in good]):
            row, members = good[0]
            mend = "write each row as the list of its own labels"
            findings.add(row, "a vector of 0 and 1 (as all rows have) instead of a list of labels", members, mend)
        return findings

    def normalise(self, values: Sequence[object]) -> list[object]:
        return [self._normalise_one(value) for value in values]

    def _normalise_one(self, value: object) -> list[object]:
        unique = list(dict.fromkeys(plain_label(member) for member in _members(value) or ()))
        return sorted(unique) if isinstance(value, set | frozenset) else unique  # type: ignore[type-var]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        return [_json_cell(cell) for cell in cells]

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        return [
            value if (members := _members(value)) is None else [_class_name(member, names) for member in members]
            for value in values
        ]

    def labels_of(self, value: object) -> Sequence[Label]:
        return value  # type: ignore[return-value]


def _members(value: object) -> list[object] | None:
    if isinstance(value, np.ndarray):
        return list(value.tolist()) if value.ndim == 1 else None
    return list(value) if isinstance(value, list | tuple | set | frozenset) else None


def _indicators(rows: Sequence[list[object]]) -> bool:
    """Whether these lists look like multi-hot vectors: of one length, of 0 and 1 only, and with repeats."""
    return (
        len({len(row) for row in rows}) == 1
        and all(type(value) in (int, bool, np.int64) and value in (0, 1) for row in rows for value in row)
        and any(len(set(row)) < len(row) for row in rows)
    )


def _json_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    if cell == "":
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


@final
class NumberRole(RoleKind):
    """A finite number in every row, an int or a float but not a bool; it becomes a float.

    Example:
        >>> NumberRole().normalise(NumberRole().parse(["1", "-2.5e1"]))
        [1.0, -25.0]
    """

    def check(self, values: Sequence[object]) -> Findings:
        findings = Findings()
        for row, value in enumerate(values):
            if type(value) is not float or not math.isfinite(value):
                self._check_one(row, value, findings)
        return findings

    def _check_one(self, row: int, value: object, findings: Findings) -> None:
        if is_missing(value):
            findings.add(row, "a missing value", None, DROP_OR_FILL)
        elif isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            findings.add(row, f"{_a(value)} instead of a number", value, "convert with float()")
        elif not _finite(value):
            findings.add(row, "a number that is not finite", value, "drop these rows or mend them")

    def normalise(self, values: Sequence[object]) -> list[object]:
        return [value if type(value) is float else float(value) for value in values]  # type: ignore[arg-type]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        return [_number_cell(cell) for cell in cells]


def _finite(value: int | float | np.integer | np.floating) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an int beyond the range of a float
        return False


def _number_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text:
        return None
    return float(text) if _NUMBER.fullmatch(text) else cell
