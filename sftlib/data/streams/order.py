"""In which order the rows of a stream come: a pure function of (seed, pass, shard, row)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.streams.base import Reading, Shard
from sftlib.errors import DataError


@final
@dataclass(frozen=True)
class Cursor:
    """Before which row of a stream a reader stands.

    Attributes:
        done: whole passes before.
        place: in the order of the shards of this pass.
        row: number of the row in its shard.
        mark: where that row begins, as its shard says.
    """

    done: int = 0
    place: int = 0
    row: int = 0
    mark: Any = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """What `to_dict` gave.

        Raises:
            ValueError: numbers that cannot be.
        """
        done, place, row = (int(given[name]) for name in ("done", "place", "row"))
        if min(done, place, row) < 0:
            raise ValueError(f"a cursor before the first row: {given!r:.80}")
        return cls(done, place, row, given["mark"])


class Taken(NamedTuple):
    """A row as it was read.

    Attributes:
        shard: it comes from.
        number: of the row in it.
        value: a mapping, if all is well.
    """

    shard: Shard
    number: int
    value: object

    @property
    def place(self) -> str:
        """What a message calls it."""
        return self.shard.place(self.number)


def order_of_shards(count: int, *, seed: int, done: int) -> NDArray[np.int64]:
    """(count,) the shards of a pass, in its order."""
    return _generator(seed, done, 0).permutation(count)


def order_of_rows(count: int, *, seed: int, block: int) -> NDArray[np.int64]:
    """(count,) the rows of a block, by its number in the run, in the order in which they are learned from."""
    return _generator(seed, 0, block + 1).permutation(count)


def _generator(seed: int, done: int, number: int) -> np.random.Generator:
    key = np.array([seed, done], dtype=np.uint64)
    counter = np.array([0, 0, 0, number], dtype=np.uint64)  # 2^192 draws apart: no two overlap
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@final
class Reader:
    """Reads a stream from a cursor on, pass after pass.

    Args:
        shards: of the stream.
        seed: of the order of the shards; None to read them as they were given.
        cursor: before the first row that is wanted.

    Attributes:
        cursor: before the next row.

    Example:
        >>> from sftlib.data.streams.iterables import shards_of
        >>> reader = Reader(shards_of([{"text": "a"}, {"text": "b"}, {"text": "c"}]), seed=0)
        >>> [[row.value["text"] for row in reader.block(2)] for _ in range(3)], reader.cursor.done
        ([['a', 'b'], ['c'], ['a', 'b']], 1)
    """

    def __init__(self, shards: Sequence[Shard], *, seed: int | None, cursor: Cursor = Cursor()) -> None:
        self.cursor = cursor
        self._shards = shards
        self._seed = seed
        self._reading: Reading | None = None

    def block(self, size: int) -> list[Taken]:
        """The next rows, all of one pass: as many as wanted, or those that are left of the pass, but one at least.

        Raises:
            DataError: a whole pass has no rows, or a shard cannot be read.
        """
        found = self._of_pass(size)
        if not found and self.cursor != Cursor(self.cursor.done):  # at the end of a pass
            self.cursor = Cursor(self.cursor.done + 1)
            found = self._of_pass(size)
        if not found:
            raise DataError(f"the stream holds no rows: {len(self._shards):,} shards, nothing in any of them")
        return found

    def _of_pass(self, size: int) -> list[Taken]:
        """As many of the rows that are left of this pass."""
        found: list[Taken] = []
        order = self._order()
        while len(found) < size and self.cursor.place < len(order):
            shard = self._shards[order[self.cursor.place]]
            reading = self._reading = self._reading or shard.read(self.cursor.row, self.cursor.mark)
            row = self.cursor.row
            for number, value in reading:
                found.append(Taken(shard, number, value))
                row = number + 1
                if len(found) == size:
                    break
            if len(found) == size:
                self.cursor = Cursor(self.cursor.done, self.cursor.place, row, reading.mark())
            else:
                self._end_shard()
        return found

    def _end_shard(self) -> None:
        self.close()
        self.cursor = Cursor(self.cursor.done, self.cursor.place + 1)

    def _order(self) -> list[int]:
        if self._seed is None:
            return list(range(len(self._shards)))
        return [int(n) for n in order_of_shards(len(self._shards), seed=self._seed, done=self.cursor.done)]

    def close(self) -> None:
        """Let go of what is open."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None
