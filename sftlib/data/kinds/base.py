"""Kinds of role: what the values of a column must be for a role to use it, and what they become.

A kind has four small jobs: `check` finds every bad row of a column, `normalise` makes plain Python values of a
column that has none, `parse` reads the cells of a text file, `identity` says when two values are the same.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, final

import numpy as np

from sftlib.data.problems import Findings
from sftlib.data.splitting import encode
from sftlib.support.display import Html

Label: TypeAlias = str | int | bool

_NUMBER = re.compile(r"[-+]?(nan|inf(inity)?|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)", re.IGNORECASE | re.ASCII)

DROP_OR_FILL = "drop these rows or fill them in"


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


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class RoleKind(ABC):
    """What every kind of role can do. Two instances of one kind are interchangeable, whatever they remember."""

    #: Whether the values are labels: they are fitted, and their problems are `LabelError`.
    holds_labels = False
    #: Whether every row has exactly one label, so that rows can be grouped by it.
    one_label = False
    #: What a label belongs to: "rows", or "words" where a row has one for each.
    unit = "rows"
    #: What `size` of a value counts, where that says how large it is: "characters", "words", "turns" or "pixels".
    measure = ""
    #: Whether a value of an input may say what is to be learnt, or not; see `has_target`.
    may_lack_target = False
    #: Whether the values hold texts, which `texts` and `learned_texts` give.
    holds_texts = False
    #: Whether the role stands beside the inputs of a conversation, says nothing by itself, and may say nothing at all.
    beside = False

    @abstractmethod
    def check(self, values: Sequence[object]) -> Findings:
        """Every problem of a column, under its row."""

    @abstractmethod
    def normalise(self, values: Sequence[object]) -> list[object]:
        """The values of a column without problems, as plain Python objects."""

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Values from the text cells of a file; what cannot be read stays text, for `check` to find."""
        return cells

    def unfilled(self, values: Sequence[object]) -> Sequence[object]:
        """Values of a column whose mappings all have the same keys, None where one has nothing, as Arrow makes them."""
        return values

    def written(self, values: Sequence[object]) -> Sequence[object]:
        """Values of no file of text, in which lists may still have come as texts; of kinds that hold lists."""
        return values

    def separated(self, values: Sequence[object], separator: str) -> Sequence[object]:
        """Texts cut into lists at a separator; of kinds whose values are lists of words."""
        return values

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        """Class numbers as the names that a `datasets` feature declares for them; only label kinds do so."""
        return values

    def numbers_of(self, value: object) -> Sequence[object] | None:
        """What in a raw value may be numbers of classes; None for a value that holds no labels."""
        return None

    def drawn(self, value: object) -> Html | None:
        """A drawing of a normalised value, for tables in a notebook; None where its text says as much."""
        return None

    def labels_of(self, value: object) -> Sequence[Label]:
        """The labels in one value: none, unless the kind holds labels."""
        return ()

    def has_target(self, value: object) -> bool:
        """Whether a normalised value of an input that supervises itself says what is to be learnt."""
        return True

    def input_of(self, value: object) -> object:
        """The part of a normalised value that a model is given when it predicts; all of it, in most kinds."""
        return value

    def identity(self, value: object) -> object:
        """What two normalised values have in common that are the same to a split: most are what they say.

        Media are what they hold: the digest of that stands for them.
        """
        return value

    def texts(self, value: object) -> Sequence[str]:
        """The texts in a normalised value that a model reads."""
        return ()

    def learned_texts(self, value: object) -> Sequence[str]:
        """The texts in a normalised value that a model learns to write."""
        return ()

    def likeness(self, value: object) -> object:
        """What two normalised inputs have in common that must not be taken apart: their identity, in most kinds.

        Bytes are compared as they are; of strings case, width and white space may be set aside.
        """
        return self.identity(value)

    def size(self, value: object) -> int:
        """How large a normalised value is, in what `measure` says."""
        return len(value)  # type: ignore[arg-type]

    def bound(self, folder: Path | None) -> RoleKind:
        """This kind for the columns of one data set.

        Args:
            folder: where the file lies that they were read from, which names of files in them start from.
        """
        return self

    def named(self, names: tuple[Label, ...] | None) -> RoleKind:
        """This kind where these are the names of the labels; None where they are to be fitted.

        Asked before anything is checked, of kinds whose values are not labels but say which.
        """
        return self

    def completed(self, names: tuple[Label, ...]) -> tuple[Label, ...]:
        """The names of the labels, from those that occur, sorted; the same, in most kinds."""
        return names

    def fitted(self, values: Sequence[object]) -> RoleKind:
        """This kind for a column of these values, as they came: some kinds learn from all rows what one may be."""
        return self

    def joined(self, other: RoleKind) -> RoleKind:
        """This kind for the columns of two data sets, one after the other."""
        return self

    def remarks(self, values: Sequence[object]) -> Iterable[str]:
        """What is to be said of normalised values that can be used, but not as they stand."""
        return ()

    def comparable(self, value: object) -> Hashable:
        """Equal for two normalised values that say the same."""
        return encode(value) if isinstance(value, list | tuple | Mapping) else value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self).__name__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@final
class TextRole(RoleKind):
    r"""A string in every row. Blank ones are allowed: the report counts them.

    Example:
        >>> print(*TextRole().check(["fine", None, 3]).lines("text"), sep="\n")
        text: 1 row with a missing value: row 1; drop these rows or fill them in
        text: 1 row with an int instead of a string: row 2 (3); convert with str()
    """

    measure = "characters"
    holds_texts = True

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, no string, or cannot be encoded as UTF-8."""
        findings = Findings()
        # Blocks joined and encoded at once: many times faster than row by row, for rows that are nearly all good.
        for start in range(0, len(values), 512):
            block = values[start : start + 512]
            if not _all_text(block):
                for row, value in enumerate(block, start):
                    self._check_one(row, value, findings)
        return findings

    def texts(self, value: object) -> Sequence[str]:
        """The text."""
        return (str(value),)

    def _check_one(self, row: int, value: object, findings: Findings) -> None:
        if is_missing(value):
            findings.add(row, "a missing value", None, DROP_OR_FILL)
        elif isinstance(value, bytes):
            findings.add(row, "bytes instead of a string", value, "decode them, for example with .decode('utf-8')")
        elif not isinstance(value, str):
            findings.add(row, f"{kind_of(value)} instead of a string", value, _instead_of_a_text(value))
        elif not encodable(value):
            findings.add(
                row,
                "a lone surrogate, which is no character",
                value,
                "read the source with its right encoding, or repair it with .encode('utf-16', 'surrogatepass')"
                ".decode('utf-16', 'replace')",
            )

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Python's own strings, unchanged."""
        return [value if type(value) is str else str.__str__(value) for value in values]


def _instead_of_a_text(value: object) -> str:
    """How to mend a value that is no text; a list or mapping would be learned with its brackets."""
    if isinstance(value, Mapping):
        return "give one of its texts as a column of its own"
    if not isinstance(value, list | tuple | np.ndarray):
        return "convert with str()"
    members = list(value)
    if members and all(isinstance(member, Mapping) for member in members):
        return "give a conversation as messages=..., or the text of one turn"
    if members and all(isinstance(member, str) for member in members):
        return "join words with ' '.join(...), give them as tokens=..., or give one text a row"
    return "give one text a row"


def _all_text(block: Sequence[object]) -> bool:
    try:
        return encodable("".join(block))  # type: ignore[arg-type]
    except TypeError:
        return False


def kind_of(value: object) -> str:
    """The type of a value for a message, with its article."""
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


@final
class NumberRole(RoleKind):
    """A finite number in every row, an int or a float but not a bool; it becomes a float.

    Example:
        >>> NumberRole().normalise(NumberRole().parse(["1", "-2.5e1"]))
        [1.0, -25.0]
    """

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, no number, or not finite."""
        findings = Findings()
        for row, value in enumerate(values):
            if type(value) is not float or not math.isfinite(value):
                self._check_one(row, value, findings)
        return findings

    def _check_one(self, row: int, value: object, findings: Findings) -> None:
        if is_missing(value):
            findings.add(row, "a missing value", None, DROP_OR_FILL)
        elif isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            findings.add(row, f"{kind_of(value)} instead of a number", value, "convert with float()")
        elif not _finite(value):
            findings.add(row, "a number that is not finite", value, "drop these rows or mend them")

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Floats."""
        return [value if type(value) is float else float(value) for value in values]  # type: ignore[arg-type]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Numbers where a cell is one; an empty cell is missing."""
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
