"""Kinds of role whose values are judged one by one, and that are more than a text or a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, final

from sftlib.data.kinds.base import DROP_OR_FILL, RoleKind, TextRole
from sftlib.data.problems import Findings
from sftlib.data.written import bracketed, list_cell


class Fault(NamedTuple):
    """What is wrong with one value.

    Attributes:
        what: the kind of problem, read after "rows with".
        shown: what to show of the value, or None.
        mend: how to mend it.
        note: said of this row alone, beside its value or instead of it.
    """

    what: str
    shown: object
    mend: str
    note: str = ""


class RowKind(RoleKind):
    """A kind that looks at one row at a time, so that a file of any size can be checked and read with it."""

    @abstractmethod
    def fault(self, value: object) -> Fault | None:
        """What is wrong with a value; None for one that can be used."""

    @abstractmethod
    def plain(self, value: object) -> object:
        """A value without fault, as plain Python objects that nobody else holds."""

    @final
    def check(self, values: Sequence[object]) -> Findings:
        """Every row with a fault."""
        findings = Findings()
        for row, value in enumerate(values):
            fault = self.fault(value)
            if fault is not None:
                findings.add(row, fault.what, fault.shown, fault.mend, note=fault.note)
        return findings

    @final
    def normalise(self, values: Sequence[object]) -> list[object]:
        """Plain Python objects."""
        return [self.plain(value) for value in values]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """What the cells say in JSON, or as Python or numpy write lists; an empty cell is missing."""
        return [list_cell(cell) for cell in cells]

    def written(self, values: Sequence[object]) -> Sequence[object]:
        """Lists and mappings that came as texts, as from a table that was read without them."""
        return [bracketed(value) for value in values]


@final
class FilledTextRole(RoleKind):
    r"""A string in every row that holds more than white space.

    Example:
        >>> print(*FilledTextRole().check(["fine", " ", None]).lines("completion"), sep="\n")
        completion: 1 row with a missing value: row 2; drop these rows or fill them in
        completion: 1 row with a blank text, with nothing to learn: row 1 (' '); drop these rows or fill them in
    """

    holds_texts = True

    def learned_texts(self, value: object) -> Sequence[str]:
        """The text."""
        return (str(value),)

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, no string, blank, or cannot be encoded as UTF-8."""
        findings = TextRole().check(values)
        for row, value in enumerate(values):
            if isinstance(value, str) and not value.strip():
                findings.add(row, "a blank text, with nothing to learn", value, DROP_OR_FILL)
        return findings

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Python's own strings, unchanged."""
        return TextRole().normalise(values)
