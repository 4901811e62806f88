"""Rows that are too long for one pass, cut into windows that overlap.

Nothing is lost: every place of a row is *owned* by exactly one window, the one in which it has most context, and only
there it is supervised and predicted.

Letters: ``N`` rows, ``L`` places (tokens) of all rows together, ``W`` windows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.encoded import IntArray, Ragged, offsets_of, ranges
from sftlib.errors import OptionError

IntVector = NDArray[np.int64]


class Windows(NamedTuple):
    """Windows over rows that stand one after the other in a flat array.

    Attributes:
        owners: (W,) ascending, the row of each window.
        starts: (W,) its first place in the flat array.
        ends: (W,) the place after its last.
        firsts: (W,) the first place that it owns.
        lasts: (W,) the place after the last that it owns.
    """

    owners: IntVector
    starts: IntVector
    ends: IntVector
    firsts: IntVector
    lasts: IntVector

    @property
    def lengths(self) -> IntVector:
        """(W,) places of each window."""
        return self.ends - self.starts

    def places(self) -> IntVector:
        """The places of every window in the flat array, one window after the other."""
        return ranges(self.starts, self.lengths)

    def owned(self) -> NDArray[np.bool_]:
        """Whether each of `places` belongs to its window."""
        places, lengths = self.places(), self.lengths
        inside = (places >= np.repeat(self.firsts, lengths)) & (places < np.repeat(self.lasts, lengths))
        return np.asarray(inside)

    def keep(self, which: NDArray[np.bool_]) -> Windows:
        """Some of the windows."""
        return Windows(*(part[which] for part in self))


def cut_windows(
    lengths: IntArray, rooms: IntArray, strides: IntArray, breaks: NDArray[np.bool_] | None = None
) -> Windows:
    """Cut rows into windows.

    A row that fits is one window. Of a longer one, each window but the last is full, and shares ``strides`` places
    with the next, or a few more: a window begins where a word does, as far as it can.

    Args:
        lengths: (N,) places of each row.
        rooms: (N,) places that a window of the row has, at least 1.
        strides: (N,) places that two windows share, fewer than their room.
        breaks: (L,) where a window should begin; anywhere when None.

    Example:
        >>> found = cut_windows(np.array([3, 10]), np.array([6, 6]), np.array([2, 2]))
        >>> found.owners.tolist(), found.starts.tolist(), found.ends.tolist()
        ([0, 1, 1], [0, 3, 7], [3, 9, 13])
        >>> found.firsts.tolist(), found.lasts.tolist()
        ([0, 3, 8], [3, 8, 13])
    """
    offsets = offsets_of(lengths)
    owners, starts, ends = [], [], []
    long = np.flatnonzero(np.asarray(lengths) > rooms)
    for row in long.tolist():
        for start, end in _of_row(int(offsets[row]), int(offsets[row + 1]), int(rooms[row]), int(strides[row]), breaks):
            owners.append(row)
            starts.append(start)
            ends.append(end)
    short = np.flatnonzero(np.asarray(lengths) <= rooms)
    all_owners = np.concatenate([short, np.array(owners, np.int64)])
    order = np.argsort(all_owners, kind="stable")
    whole = Windows(
        all_owners[order],
        np.concatenate([offsets[short], np.array(starts, np.int64)])[order],
        np.concatenate([offsets[short + 1], np.array(ends, np.int64)])[order],
        *(np.empty(0, np.int64),) * 2,
    )
    return whole._replace(**_owned(whole))


def _of_row(begin: int, end: int, room: int, stride: int, breaks: NDArray[np.bool_] | None) -> list[tuple[int, int]]:
    found = [(begin, begin + room)]
    while found[-1][1] < end:
        last = found[-1][0]
        start = last + room - stride
        if breaks is not None:
            before = np.flatnonzero(breaks[last + 1 : start + 1])
            start = last + 1 + int(before[-1]) if len(before) else start
        found.append((start, min(start + room, end)))
    return found


def _owned(windows: Windows) -> dict[str, IntVector]:
    """Where two windows share places, the middle of what they share parts what they own."""
    firsts, lasts = windows.starts.copy(), windows.ends.copy()
    later = np.flatnonzero(windows.owners[1:] == windows.owners[:-1]) + 1
    middle = (windows.ends[later - 1] + windows.starts[later]) // 2
    firsts[later] = lasts[later - 1] = middle
    return {"firsts": firsts, "lasts": lasts}


def framed(bodies: Ragged, before: Ragged | IntArray, after: IntArray) -> Ragged:
    """Windows between what stands around them.

    Args:
        bodies: the windows.
        before: what stands before each window: the same for all, or a row for each.
        after: what stands after each window.

    Example:
        >>> framed(Ragged.from_lists([[7, 8], [9]]), np.array([1]), np.array([2])).values.tolist()
        [1, 7, 8, 2, 1, 9, 2]
    """
    count = len(bodies)
    if not isinstance(before, Ragged):
        before = Ragged(np.tile(before, count), offsets_of(np.full(count, len(before))))
    offsets = offsets_of(before.lengths + bodies.lengths + len(after))
    out = np.empty(int(offsets[-1]), bodies.values.dtype)
    starts = offsets[:-1] + before.lengths
    out[ranges(offsets[:-1], before.lengths)] = before.values
    out[ranges(starts, bodies.lengths)] = bodies.values
    out[ranges(starts + bodies.lengths, np.full(count, len(after)))] = np.tile(after, count)
    return Ragged(out, offsets)


def settled_stride(stride: int | None, rooms: IntArray) -> IntVector:
    """Places that two windows share: as asked, or a quarter of a window; never more than half of one.

    Args:
        stride: as asked; None for a quarter.
        rooms: (N,) places that a window of each row has.
    """
    return np.asarray(rooms // 4 if stride is None else np.minimum(stride, rooms // 2), np.int64)


def window_room(room: int, max_length: int, stride: int | None) -> int:
    """Tokens of the data that a window holds.

    Args:
        room: what the control tokens leave of the limit.
        max_length: the limit.
        stride: as it was given.

    Raises:
        OptionError: there is no room, or two windows would share more than half of it.
    """
    if room < 1:
        raise OptionError(f"max_length={max_length}: the control tokens of this model leave no room for words")
    if stride is not None and stride > room // 2 and stride > 0:
        raise OptionError(
            f"stride={stride}: two windows may share half of their {room} tokens at most, {room // 2}; lower it, or "
            f"raise max_length={max_length}"
        )
    return room
