"""Rows that say the same: exactly, or once case, width, spaces and invisible characters are set aside."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sftlib.data.splitting import encode, keys

#: How many pairs of rows are kept beside a count.
MAX_PAIRS = 1000

# Characters that print nothing: soft hyphen, zero-width spaces and joiners, direction marks, variation selectors.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]"
)


def normalised(text: str) -> str:
    """A text without what readers overlook: NFKC, casefold, no invisible characters, white space collapsed.

    Example:
        >>> normalised("  \uff26ine\u200b,  thank  YOU ")
        'fine, thank you'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold())
    return " ".join(folded.split())


@final
@dataclass(frozen=True)
class Matches:
    """Pairs of rows that match.

    Args:
        count: how many rows match an earlier row (or a row of the other data set).
        pairs: (the row it matches, the row) for the first ``MAX_PAIRS`` of them.
    """

    count: int = 0
    pairs: tuple[tuple[int, int], ...] = ()


class _Collected:
    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[int, int]] = []

    def add(self, first: int, row: int) -> None:
        self._count += 1
        if self._count <= MAX_PAIRS:
            self._pairs.append((first, row))

    def done(self) -> Matches:
        return Matches(self._count, tuple(self._pairs))


@final
class Inputs:
    """The inputs of a data set as keys, exact and normalised; rows whose inputs are all blank have none.

    Args:
        columns: the values of each input role.
    """

    def __init__(self, columns: Mapping[str, Sequence[object]]) -> None:
        parts = [[_normalised_value(value) for value in column] for column in columns.values()]
        self.blank = [
            row for row, values in enumerate(zip(*parts, strict=True)) if any(value == "" for value in values)
        ]
        empty = {row for row in self.blank if all(part[row] == "" for part in parts)}
        self.exact: list[Hashable] = [
            None if row in empty else key for row, key in enumerate(keys(list(columns.values())))
        ]
        # 16 bytes instead of the text, so that a report does not hold a second copy of the data.
        self.loose: list[Hashable] = [
            None if row in empty else hashlib.blake2b(b"".join(map(encode, values)), digest_size=16).digest()
            for row, values in enumerate(zip(*parts, strict=True))
        ]

    def duplicates(self) -> tuple[Matches, Matches]:
        """Rows that repeat an earlier one: exactly, and only after normalising."""
        return self._matches(self)

    def found_in(self, other: Inputs) -> tuple[Matches, Matches]:
        """Rows of ``other`` whose inputs are here too: exactly, and only after normalising."""
        return self._matches(other)

    def _matches(self, other: Inputs) -> tuple[Matches, Matches]:
        exact, loose = _Collected(), _Collected()
        first_exact, first_loose = _first_rows(self.exact), _first_rows(self.loose)
        for row, (key, loose_key) in enumerate(zip(other.exact, other.loose, strict=True)):
            earlier = len(self.exact) if other is not self else row  # only an earlier row can be repeated
            if key is None:
                continue
            if first_exact.get(key, earlier) < earlier:
                exact.add(first_exact[key], row)
            elif first_loose.get(loose_key, earlier) < earlier:
                loose.add(first_loose[loose_key], row)
        return exact.done(), loose.done()

    def conflicts(self, targets: Sequence[Hashable]) -> Matches:
        """Rows whose target differs from that of the first row with the same normalised inputs."""
        found = _Collected()
        first: dict[Hashable, int] = {}
        for row, key in enumerate(self.loose):
            if key is not None and targets[first.setdefault(key, row)] != targets[row]:
                found.add(first[key], row)
        return found.done()


def _first_rows(keys: Sequence[Hashable]) -> dict[Hashable, int]:
    return {key: row for row, key in zip(range(len(keys) - 1, -1, -1), reversed(keys), strict=True)}


def _normalised_value(value: object) -> object:
    return normalised(value) if isinstance(value, str) else value
