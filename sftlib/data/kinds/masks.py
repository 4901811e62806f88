"""Masks: the class of each pixel of a picture, by path or as they are."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.kinds.base import DROP_OR_FILL, Label, RoleKind, is_missing
from sftlib.data.kinds.filed import SHOWN
from sftlib.data.masks import MaskFacts, facts_of_mask, numbers_of
from sftlib.data.pictures import UnreadableError, path_of
from sftlib.data.problems import Findings, listed
from sftlib.errors import DataError

#: Stands for a pixel that does not count, in what `MaskRole.classes` gives.
NO_CLASS = -1
#: The number of pixels that do not count where nobody says another: what most data sets have.
USUALLY_IGNORED = 255

_MOST_UNNAMED = 128  # different numbers in one mask, from which on it is a picture rather than a mask


class _File(NamedTuple):
    path: str
    size: int
    changed: int


@final
class MaskRole(RoleKind):
    r"""A mask in every row: a path, bytes, a PIL image, or an (H, W) array of whole numbers.

    A number is the place of its class among the names, from 0; of a palette the indices count. Masks that hold nothing
    but 0 and 255 have two classes, 0 and 1.

    Args:
        names: of the classes; None where the numbers themselves are the labels.
        ignore: the number of pixels that do not count; 255 when None.
        folder: what relative paths start from; None for the working directory.
        seen: what is known of masks that were read; None to forget it. `bound` makes one for a data set.

    Example:
        >>> role = MaskRole(("sky", "road"))
        >>> print(*role.check([np.array([[0, 1]]), np.array([[0, 7]])]).lines("mask"), sep="\n")
        mask: 1 row with a number that is no class: row 1 (7 in 1 pixel); there are 2 names, for 0 to 1: give
        ignore_index=7 if such pixels do not count
        >>> role.classes(np.array([[0, 1, 255]])).tolist()
        [[0, 1, -1]]
    """

    holds_labels = True
    measure = "pixels"

    def __init__(
        self,
        names: tuple[Label, ...] | None = None,
        ignore: int | None = None,
        folder: Path | None = None,
        seen: dict[_File | bytes, MaskFacts] | None = None,
    ) -> None:
        self._names = names
        self._ignore = ignore
        self._folder = folder
        self._seen = seen
        self._binary = False

    def bound(self, folder: Path | None) -> MaskRole:
        """One that reads relative paths from a folder, and remembers what it has read."""
        return MaskRole(self._names, self._ignore, folder, {} if self._seen is None else self._seen)

    def named(self, names: tuple[Label, ...] | None) -> MaskRole:
        """One whose classes have these names."""
        return self if names is None else MaskRole(names, self._ignore, self._folder, self._seen)

    def joined(self, other: RoleKind) -> MaskRole:
        """One that remembers what both have read."""
        more = other._seen if isinstance(other, MaskRole) else None
        both = MaskRole(self._names, self._ignore, self._folder, (self._seen or {}) | (more or {}))
        both._binary = self._binary
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskRole) and self._way == other._way

    def __hash__(self) -> int:
        return hash(self._way)

    @property
    def _way(self) -> tuple[object, ...]:
        """How numbers are read."""
        return self._names, self._ignore, self._binary

    # Checking.

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, no mask, damaged, or holds numbers that are no class."""
        findings = Findings(shown=SHOWN)
        found = list(_in_threads(self._read, values))
        numbers = {number for facts in found if isinstance(facts, MaskFacts) for number in facts.counts}
        self._binary = self._ignore is None and len(self._names or (0, 1)) == 2 and numbers == {0, 255}
        for row, (value, facts) in enumerate(zip(values, found, strict=True)):
            if facts is None:
                findings.add(row, "a missing value", None, DROP_OR_FILL)
            elif isinstance(facts, UnreadableError):
                note = ", ".join(filter(None, [self._name(value), facts.note]))
                findings.add(row, facts.what, None, facts.mend, note=note)
            else:
                self._check_numbers(row, value, facts, findings)
        return findings

    def _read(self, value: object) -> MaskFacts | UnreadableError | None:
        if is_missing(value) or (isinstance(value, str) and not value):
            return None
        try:
            return self._facts_of(value)
        except UnreadableError as problem:
            return problem

    def _check_numbers(self, row: int, value: object, facts: MaskFacts, findings: Findings) -> None:
        wrong = {number: count for number, count in facts.counts.items() if self._code(number) is None}
        name = self._name(value)
        if self._names is None and len(facts.counts) > _MOST_UNNAMED:
            what = f"more than {_MOST_UNNAMED} different numbers, as pictures have"
            findings.add(row, what, None, "give masks, and names= if there are so many classes", note=name)
        elif wrong:
            shown = [f"{number} in {count:,} pixel{'s' if count > 1 else ''}" for number, count in wrong.items()]
            note = ", ".join([*([name] if name else []), *shown[:3], *(["..."] if len(shown) > 3 else [])])
            findings.add(row, "a number that is no class", None, self._mend(next(iter(wrong))), note=note)

    def _mend(self, number: int) -> str:
        if self._names is None:
            return "number classes from 0 to 254, or give names="
        known = f"there are {len(self._names)} names, for 0 to {len(self._names) - 1}"
        if isinstance(self._names[0], int):
            known = f"the label names are {listed(self._names, 10)}"
        return f"{known}: give ignore_index={number} if such pixels do not count"

    def _name(self, value: object) -> str:
        return repr(os.fspath(value)) if isinstance(value, str | os.PathLike) else ""

    # Numbers.

    @property
    def _ignored(self) -> int | None:
        if self._binary:
            return None
        return USUALLY_IGNORED if self._ignore is None else self._ignore

    def _code(self, number: int) -> int | None:
        """The class of a number; None of one that is none, `NO_CLASS` of one that does not count."""
        if number == self._ignored:
            return NO_CLASS
        if self._binary:
            return {0: 0, 255: 1}.get(number)
        if self._names is None:
            return number if 0 <= number < USUALLY_IGNORED else None
        if isinstance(self._names[0], int):  # the numbers themselves
            return self._names.index(number) if number in self._names else None
        return number if 0 <= number < len(self._names) else None

    def classes(self, value: object) -> NDArray[np.int16]:
        """(H, W) the class of each pixel of a normalised value, from 0; `NO_CLASS` where it does not count.

        Raises:
            DataError: the file is not there any more, or is no mask any more.
        """
        try:
            numbers = numbers_of(value)
            found, places = np.unique(numbers, return_inverse=True)
            codes = [self._code(number) for number in found.tolist()]
            if None in codes:
                raise UnreadableError("a mask with other numbers than it had", "make the data set again")
        except UnreadableError as problem:
            note = f" ({problem.note})" if problem.note else ""
            raise DataError(
                f"{self._name(value) or 'a mask'} is {problem.what}{note}, and could be used when the data set was "
                "made: put it back, or make the data set again"
            ) from None
        return np.array(codes, np.int16)[places.reshape(numbers.shape)]

    def pixels(self, value: object) -> Counter[int]:
        """Class -> how many pixels of a normalised value have it."""
        codes = Counter[int]()
        for number, count in self._known(value).counts.items():
            code = self._code(number)
            if code is not None and code != NO_CLASS:
                codes[code] += count
        return codes

    def labels_of(self, value: object) -> Sequence[Label]:
        """The labels that occur in a mask."""
        codes = sorted(self.pixels(value))
        return codes if self._names is None else [self._names[code] for code in codes]

    def completed(self, names: tuple[Label, ...]) -> tuple[Label, ...]:
        """Numbers without a gap, as far as the largest: each is its class."""
        return tuple(range(max((int(name) for name in names), default=0) + 1))

    # Values.

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Absolute paths, bytes, and arrays that nobody else holds."""
        return [self._plain(value) for value in values]

    def _plain(self, value: Any) -> object:
        if isinstance(value, str | os.PathLike):
            return path_of(value, self._folder)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        numbers = np.array(numbers_of(value))
        numbers.flags.writeable = False
        return numbers

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Paths; an empty cell is missing."""
        return [None if cell == "" else cell for cell in cells]

    def identity(self, value: object) -> bytes:
        """SHA-256 of the numbers, wherever they lie.

        Raises:
            DataError: the file is not there any more, or is no mask any more.
        """
        return self._known(value).digest

    def comparable(self, value: object) -> bytes:
        return self.identity(value)

    def size(self, value: object) -> int:
        """Width times height."""
        height, width = self._known(value).shape
        return height * width

    def remarks(self, values: Sequence[object]) -> Iterator[str]:
        """That masks of 0 and 255 are taken for two classes."""
        if self._binary:
            yield "masks hold 0 and 255 alone: two classes, of which 255 is the second; ignore_index=255 says otherwise"

    def _known(self, value: object) -> MaskFacts:
        try:
            return self._facts_of(value)
        except UnreadableError as problem:
            raise DataError(
                f"{self._name(value) or 'a mask'} is {problem.what}, and could be used when the data set was made: "
                "put it back, or make the data set again"
            ) from None

    def _facts_of(self, value: object) -> MaskFacts:
        seen: dict[Any, MaskFacts] = {} if self._seen is None else self._seen
        key = self._key(value)
        if key is None or key not in seen:
            given = path_of(value, self._folder) if isinstance(value, str | os.PathLike) else value
            facts = facts_of_mask(numbers_of(given))
            if key is None:
                return facts
            seen[key] = facts
        return seen[key]

    def _key(self, value: object) -> _File | bytes | None:
        """Under what a value is remembered; None of one that is read anew, for which there is no cheap name."""
        if isinstance(value, bytes):
            return hashlib.sha256(value).digest()
        if not isinstance(value, str | os.PathLike):
            return None
        path = path_of(value, self._folder)
        try:
            found = os.stat(path)
        except (OSError, ValueError):  # which opening it will say better
            return None
        return _File(path, found.st_size, found.st_mtime_ns)


def _in_threads(function: Any, values: Sequence[object]) -> Iterator[Any]:
    """What a function says of each value, in order; pillow decodes without holding the interpreter."""
    if len(values) < 2:
        yield from map(function, values)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(function, values)
