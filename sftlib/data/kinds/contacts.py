"""Which letters of a sequence touch each other: as pairs, or as the structure that they are read from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, final

from sftlib.data.kinds.base import DROP_OR_FILL, is_missing, kind_of
from sftlib.data.kinds.filed import FiledRole
from sftlib.data.kinds.stamped import stamp_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.pictures import UnreadableError, path_of
from sftlib.data.plain import as_list, whole
from sftlib.data.structures import Chain, Places, placed, read_structure

_FORM = "write [[0, 7], [2, 9], ...], letters counted from 0 and the first of a pair before the second; [] for none"


@final
class ContactsRole(RowKind):
    """The letters of every row that touch each other: a list of pairs i < j, letters counted from 0.

    Example:
        >>> ContactsRole().plain([(2, 9), (0, 7)])
        [[0, 7], [2, 9]]
        >>> print(*ContactsRole().check([[[7, 0]]]).lines("contacts"))
        contacts: 1 row with a pair whose first letter does not come before its second: row 0 (pair 0: [7, 0]); write
        [[0, 7], [2, 9], ...], letters counted from 0 and the first of a pair before the second; [] for none
    """

    def fault(self, value: object) -> Fault | None:
        pairs = as_list(value)
        if is_missing(value) or pairs is None:
            what = "missing contacts" if is_missing(value) else f"{kind_of(value)} instead of a list of pairs"
            return Fault(what, None, _FORM)
        seen = set()
        for number, given in enumerate(pairs):
            pair = tuple(whole(letter) for letter in as_list(given) or ())
            wrong = "a pair given twice" if pair in seen else _fault(pair)
            if wrong is not None:
                return Fault(wrong, None, _FORM, f"pair {number}: {given!r:.40}")
            seen.add(pair)
        return None

    def plain(self, value: object) -> object:
        return sorted([int(letter) for letter in as_list(pair) or ()] for pair in as_list(value) or ())


def _fault(pair: tuple[int | None, ...]) -> str | None:
    """What is wrong with one pair."""
    if len(pair) != 2 or None in pair:
        return "a pair that is not of two whole numbers"
    first, second = pair
    assert first is not None
    assert second is not None
    if min(first, second) < 0:
        return "a negative number of a letter"
    return None if first < second else "a pair whose first letter does not come before its second"


@final
class StructureRole(FiledRole):
    """The path of a PDB file in every row, plain or gzipped, with the structure of its sequence.

    Every file is read before it passes; paths become absolute.

    Args:
        folder: what relative paths start from; None for the working directory.
        seen: what is known of files that were read; None to forget it. `bound` makes one for a data set.

    Example:
        >>> print(*StructureRole().check([None]).lines("structure"))
        structure: 1 row with a missing value: row 0; drop these rows or fill them in
    """

    thing = "structure"

    def _looking(self) -> Callable[[object], Fault | None]:
        return self._fault

    def _fault(self, value: object) -> Fault | None:
        if is_missing(value) or (isinstance(value, str) and not value):
            return Fault("a missing value", None, DROP_OR_FILL)
        if not isinstance(value, str | os.PathLike):
            return Fault(f"{kind_of(value)} instead of the path of a structure", None, "give the path of a PDB file")
        try:
            self._chains(path_of(value, self._folder))
        except UnreadableError as problem:
            return self._unreadable(value, problem)
        return None

    def _chains(self, path: str) -> tuple[Chain, ...]:
        """The chains of a file, which is read if it was not read before or has changed."""
        seen: dict[Any, tuple[Chain, ...]] = {} if self._seen is None else self._seen
        stamp = stamp_of(path)
        if stamp is not None and stamp in seen:
            return seen[stamp]
        chains = read_structure(path)
        if stamp is not None:
            seen[stamp] = chains
        return chains

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Absolute paths."""
        return [path_of(value, self._folder) for value in values]

    def places(self, value: object, sequence: str) -> Places:
        """(L, 3) where each letter of a sequence lies; see `placed`.

        Raises:
            DataError: the file is not there any more, or holds another structure.
        """
        try:
            return placed(self._chains(str(value)), sequence.upper())
        except UnreadableError as problem:
            raise self._gone(value, problem) from None

    def identity(self, value: object) -> bytes:
        """SHA-256 of what is known of the chains.

        Raises:
            DataError: the file is not there any more, or is no structure any more.
        """
        try:
            chains = self._chains(str(value))
        except UnreadableError as problem:
            raise self._gone(value, problem) from None
        sha = hashlib.sha256()
        for chain in chains:
            sha.update(repr((chain.name, chain.letters, chain.numbers)).encode() + chain.places.tobytes())
        return sha.digest()

    def comparable(self, value: object) -> bytes:
        """The same for two files that say the same."""
        return self.identity(value)

    def size(self, value: object) -> int:
        """Residues of all chains."""
        return sum(len(chain.letters) for chain in self._chains(str(value)))

    def _remarks(self, value: object) -> tuple[str, ...]:
        return ()
