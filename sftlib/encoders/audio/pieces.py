"""Sounds that are too long for one pass, cut into pieces that overlap.

Letters: ``N`` sounds, ``P`` pieces of all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final, overload

import numpy as np
from numpy.typing import NDArray


class Piece(NamedTuple):
    """A part of a sound.

    Attributes:
        sound: as a data set keeps it.
        start: its first sample, at the rate that the model hears.
        stop: the sample behind its last.
        whole: whether the part is all there is.
    """

    sound: Any
    start: int
    stop: int
    whole: bool


@final
class Pieces(Sequence[Piece]):
    """The pieces of sounds, in order; sounds stay where they are.

    Args:
        sounds: of the data, asked for one at a time.
        owners: (P,) ascending, the sound of each piece.
        starts: (P,) the first sample of each.
        stops: (P,) the sample behind the last of each.
    """

    def __init__(
        self,
        sounds: Sequence[Any],
        owners: NDArray[np.int64],
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
    ) -> None:
        self._sounds = sounds
        self._owners = owners
        self._starts = starts
        self._stops = stops
        self._counts = np.bincount(owners, minlength=len(sounds))

    def __len__(self) -> int:
        return len(self._owners)

    @overload
    def __getitem__(self, piece: int) -> Piece: ...
    @overload
    def __getitem__(self, piece: slice) -> list[Piece]: ...
    def __getitem__(self, piece: int | slice) -> Piece | list[Piece]:
        if isinstance(piece, slice):
            return [self[i] for i in range(*piece.indices(len(self)))]
        owner = int(self._owners[piece])
        whole = bool(self._counts[owner] == 1)
        return Piece(self._sounds[owner], int(self._starts[piece]), int(self._stops[piece]), whole)


def identified(identity: Callable[[Any], bytes]) -> Callable[[Piece], bytes]:
    """What identifies a piece, from what identifies a sound."""

    def of(piece: Piece) -> bytes:
        known = identity(piece.sound)
        return known if piece.whole else hashlib.sha256(known + repr((piece.start, piece.stop)).encode()).digest()

    return of


class Cuts(NamedTuple):
    """Where sounds are cut.

    Attributes:
        owners: (P,) the sound of each piece, ascending.
        starts: (P,) its first sample.
        stops: (P,) the sample behind its last.
    """

    owners: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def cuts(lengths: Sequence[int], longest: int, overlap: int) -> Cuts:
    """Pieces of at most ``longest`` samples; those of one sound are equally long, and the last ends where it ends.

    Args:
        lengths: (N,) samples of each sound.
        longest: samples of a piece.
        overlap: samples that two neighbours share at least.

    Example:
        >>> cut = cuts([3, 10], longest=4, overlap=1)
        >>> list(zip(cut.owners.tolist(), cut.starts.tolist(), cut.stops.tolist()))
        [(0, 0, 3), (1, 0, 4), (1, 3, 7), (1, 6, 10)]
    """
    owners, starts, stops = [], [], []
    for owner, length in enumerate(lengths):
        last = max(0, length - longest)
        firsts = [*range(0, last, longest - overlap), last]
        owners += [owner] * len(firsts)
        starts += firsts
        stops += [min(first + longest, length) for first in firsts]
    return Cuts(*(np.array(column, np.int64) for column in (owners, starts, stops)))
