"""Values that lie in files: read to their end once, known by what they hold, and named by where they lie."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from sftlib.data.kinds.base import RoleKind
from sftlib.data.kinds.stamped import StampedFile, in_threads, unwrapped
from sftlib.data.kinds.values import Fault
from sftlib.data.pictures import NOT_THERE, UnreadableError, nearby, path_of
from sftlib.data.problems import Findings, listed_rows
from sftlib.errors import DataError
from sftlib.support.display import counted

#: How many files a message names for each kind of problem: more than of other values, since each is mended by hand.
SHOWN = 100


class FiledRole(RoleKind):
    """A picture, a sound, or what else lies in a file of its own.

    Args:
        folder: what relative paths start from; None for the working directory.
        seen: what is known of files and bytes that were read; None to forget it. `bound` makes one for a data set.

    Attributes:
        thing: what one value is called.
    """

    thing: ClassVar[str] = ""

    def __init__(self, folder: Path | None = None, seen: dict[StampedFile | bytes, Any] | None = None) -> None:
        self._folder = folder
        self._seen = seen

    def bound(self, folder: Path | None) -> Self:
        """One that reads relative paths from a folder, and remembers what it has read."""
        return type(self)(folder, {} if self._seen is None else self._seen)

    def joined(self, other: RoleKind) -> Self:
        """One that remembers what both have read."""
        more = other._seen if isinstance(other, type(self)) else None
        return type(self)(self._folder, (self._seen or {}) | (more or {}))

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, something else, damaged, or not whole; everything is read to its end."""
        findings, hinted = Findings(shown=SHOWN), False
        for row, fault in enumerate(in_threads(self._looking(), values)):
            if fault is None:
                continue
            note = fault.note
            if fault.what == NOT_THERE and not hinted:  # once: files that are not there are often not there together
                hinted, note = True, f"{note}, {nearby(path_of(unwrapped(values[row]), self._folder))}"
            findings.add(row, fault.what, fault.shown, fault.mend, note=note)
        return findings

    @abstractmethod
    def _looking(self) -> Callable[[object], Fault | None]:
        """What says what is wrong with one value, for as long as values are looked through; called in threads."""

    def _unreadable(self, value: object, problem: UnreadableError) -> Fault:
        return Fault(problem.what, None, problem.mend, ", ".join(filter(None, [self._name(value), problem.note])))

    def _name(self, value: object) -> str:
        """What a message calls a value."""
        if not isinstance(value, str | os.PathLike):
            return f"{len(value):,} bytes" if isinstance(value, bytes) else ""
        try:
            return repr(path_of(value, self._folder))
        except UnreadableError:
            return repr(os.fspath(value))

    def _gone(self, value: object, problem: UnreadableError) -> DataError:
        note = f" ({problem.note})" if problem.note else ""
        return DataError(
            f"{self._name(value)} is {problem.what}{note}, and was a {self.thing} when the data set was made: "
            "put it back, or make the data set again"
        )

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Paths; an empty cell is missing."""
        return [None if cell == "" else cell for cell in cells]

    def remarks(self, values: Sequence[object]) -> Iterator[str]:
        """Which values are not read as they stand."""
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            for remark in self._remarks(value):
                rows.setdefault(remark, []).append(row)
        for remark, found in rows.items():
            yield f"{counted(len(found), self.thing)} {remark}: {listed_rows(found)}"

    @abstractmethod
    def _remarks(self, value: object) -> tuple[str, ...]:
        """What is to be said of one value."""
