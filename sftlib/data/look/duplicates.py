"""Rows that say the same: exactly, or once case, width, spaces and invisible characters are set aside."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.splitting import Index, Keys, as_keys, key

#: How many pairs of rows are kept beside a count.
MAX_PAIRS = 1000
_BLOCK = 4096

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


def _loose(value: object) -> object:
    """A value with every text in it normalised."""
    if isinstance(value, str):
        return normalised(value)
    if isinstance(value, Mapping):
        return {key: _loose(item) for key, item in value.items()}
    return [_loose(member) for member in value] if isinstance(value, list) else value


def _is_blank(part: object) -> bool:
    """Whether nothing is said: by a normalised text, or by the user in a turn of a conversation."""
    if not isinstance(part, list) or not part:
        return part == ""
    turns = part[0] if isinstance(part[0], list) else part  # a conversation, or one with what stands beside it
    asked = (turn for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user")
    return any(turn.get("content") == "" for turn in asked)


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


@final
class Inputs:
    """The inputs of a data set as keys, exact and normalised; rows whose inputs are all blank match nothing.

    Keys of 16 bytes stand for the texts, so that memory does not hold a second copy of the data, nor a first.

    Args:
        columns: for each input role what identifies its values, which are texts or digests; gone through once.
        beside: texts that a model reads beside them, in which only blanks are looked for.
    """

    def __init__(self, columns: Mapping[str, Iterable[object]], beside: Sequence[Iterable[object]] = ()) -> None:
        exact, loose = bytearray(), bytearray()
        blank: set[int] = set()
        empty: list[int] = []
        for row, values in enumerate(zip(*columns.values(), strict=True)):
            parts = [_loose(value) for value in values]
            if any(map(_is_blank, parts)):
                blank.add(row)
                if all(part == "" for part in parts):
                    empty.append(row)
            exact += key(values)
            loose += key(parts)
        self.exact, self.loose = as_keys(exact), as_keys(loose)
        self.filled = np.ones(len(self.exact), bool)
        self.filled[empty] = False
        blank.update(row for texts in beside for row, text in enumerate(texts) if _loose(text) == "")
        self.blank = sorted(blank)

    def duplicates(self) -> tuple[Matches, Matches]:
        """Rows that repeat an earlier one: exactly, and only after normalising."""
        return self._matches(self, np.arange(len(self.exact)))

    def found_in(self, other: Inputs) -> tuple[Matches, Matches]:
        """Rows of ``other`` whose inputs are here too: exactly, and only after normalising."""
        return self._matches(other, len(self.exact))

    def repeated(self) -> tuple[Index, Index]:
        """All rows that repeat an earlier one: exactly, and further ones only after normalising."""
        rows = np.arange(len(self.exact))
        same = self.filled & (_first_rows(self.exact, self.exact) < rows)
        alike = self.filled & (_first_rows(self.loose, self.loose) < rows)
        return np.flatnonzero(same), np.flatnonzero(alike & ~same)

    def shared(self, other: Inputs) -> Index:
        """All rows here whose inputs stand in the other, exactly or normalised."""
        return np.flatnonzero(self.filled & (_first_rows(other.loose, self.loose) < len(other.loose)))

    def contradicting(self, targets: Callable[[Index], Sequence[Hashable]]) -> Index:
        """All rows with the normalised inputs of a row whose target is another, that row too.

        Args:
            targets: row numbers -> the target of each.
        """
        differing = np.flatnonzero(self._differing(targets)[1])
        found = _first_rows(self.loose[differing], self.loose) < len(differing)
        return np.flatnonzero(self.filled & found)

    def _matches(self, other: Inputs, limit: Index | int) -> tuple[Matches, Matches]:
        """Rows of ``other`` with the inputs of a row here that comes before a limit."""
        exact = _first_rows(self.exact, other.exact)
        same = other.filled & (exact < limit)
        loose = _first_rows(self.loose, other.loose)
        return _pairs(exact, same), _pairs(loose, other.filled & ~same & (loose < limit))

    def conflicts(self, targets: Callable[[Index], Sequence[Hashable]]) -> Matches:
        """Rows whose target differs from that of the first row with the same normalised inputs.

        Args:
            targets: row numbers -> the target of each.
        """
        return _pairs(*self._differing(targets))

    def _differing(self, targets: Callable[[Index], Sequence[Hashable]]) -> tuple[Index, NDArray[np.bool_]]:
        """For each row the first with its inputs, and whether that has another target."""
        first = _first_rows(self.loose, self.loose)
        differs = self.filled & (first < np.arange(len(first)))
        repeats = np.flatnonzero(differs)
        for start in range(0, len(repeats), _BLOCK):
            rows = repeats[start : start + _BLOCK]
            pairs = zip(targets(rows), targets(first[rows]), strict=True)
            differs[rows] = [here != there for here, there in pairs]
        return first, differs


def _pairs(first: Index, found: NDArray[np.bool_]) -> Matches:
    rows = np.flatnonzero(found)
    shown = rows[:MAX_PAIRS]
    return Matches(len(rows), tuple(zip(first[shown].tolist(), shown.tolist(), strict=True)))


def _first_rows(keys: Keys, wanted: Keys) -> Index:
    """For each wanted key the first row that has it; the number of rows where none has."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = np.full(len(wanted), len(keys))
    for start in range(0, len(wanted) if len(keys) else 0, _BLOCK):
        block = wanted[start : start + _BLOCK]
        places = np.minimum(np.searchsorted(ordered, block), len(keys) - 1)
        found[start : start + _BLOCK] = np.where(ordered[places] == block, order[places], len(keys))
    return found
