"""Where outputs of frozen layers are kept: flat arrays in memory or in a file, found by what they were computed from.

Letters: ``L`` stored vectors of all rows of a block, ``R`` its rows, ``H`` features.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from sftlib.models.memory import memory_limit

_SHARE_OF_MEMORY = 8  # one part in this many may be kept in memory; what is beyond goes to a file
_MOST_IN_MEMORY = 2**32

Place = tuple[int, int, int, int]  # block, first vector, one beyond the last, row of the block


@final
@dataclass
class Block:
    """The outputs of rows that were computed together.

    Attributes:
        hidden: (L, H)
        pooled: (R, H), or None where the body has no pooler.
        on_disk: whether they lie in a file.
        vectors: of ``hidden`` in use.
        rows: of ``pooled`` in use.
    """

    hidden: Tensor
    pooled: Tensor | None
    on_disk: bool
    vectors: int = 0
    rows: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return _bytes(self.hidden) + (0 if self.pooled is None else _bytes(self.pooled))


@final
class Shelf:
    """The rows of one key."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._places: dict[bytes, Place] = {}

    def __contains__(self, row: bytes) -> bool:
        return row in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, rows: Sequence[bytes], counts: Sequence[int], hidden: Tensor, pooled: Tensor | None) -> None:
        """Put the outputs of rows into the newest block.

        Args:
            rows: what identifies each.
            counts: vectors of each row.
            hidden: (sum of counts, H)
            pooled: (len(rows), H), or None.
        """
        block, number = self.blocks[-1], len(self.blocks) - 1
        start, first = block.vectors, block.rows
        block.hidden[start : start + len(hidden)].copy_(hidden)
        block.vectors, block.rows = start + len(hidden), first + len(rows)
        if block.pooled is not None and pooled is not None:
            block.pooled[first : block.rows].copy_(pooled)
        for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
            self._places[row] = (number, start, start + count, first + i)
            start += count

    def find(self, rows: Sequence[bytes]) -> list[Place] | None:
        """Where the outputs of these rows lie; None when one of them is not here."""
        found = [self._places[row] for row in rows if row in self._places]
        return found if len(found) == len(rows) else None

    def hidden(self, places: Sequence[Place]) -> Tensor:
        """(sum of counts, H) vectors of rows, one after the other."""
        return torch.cat([self.blocks[block].hidden[start:stop] for block, start, stop, _ in places])

    def pooled(self, places: Sequence[Place]) -> Tensor | None:
        """(rows, H), or None where the body has no pooler."""
        found = [pooled[row] for block, _, _, row in places if (pooled := self.blocks[block].pooled) is not None]
        return torch.stack(found) if found else None


@final
class PrefixStore:
    """Outputs of frozen layers, kept for further runs; a tuner shares it with its clones.

    Shelves are told apart by a key that names everything their contents depend on. When memory is short, the shelf that
    was asked for least recently goes first, and what does not fit alone lies in a file without a name, which the system
    removes when it is no longer used, however the process ends.

    Args:
        memory: bytes to be kept in memory at most; an eighth of what there is when None.

    Example:
        >>> store = PrefixStore()
        >>> store.shelf("a key") is store.shelf("a key"), store.in_memory
        (True, 0)
    """

    def __init__(self, memory: int | None = None) -> None:
        limit = min(_MOST_IN_MEMORY, memory_limit(torch.device("cpu")) // _SHARE_OF_MEMORY)
        self._memory = limit if memory is None else memory
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()

    def __reduce__(self) -> tuple[type[PrefixStore], tuple[int]]:
        return PrefixStore, (self._memory,)  # a copy, or another process, starts empty

    @property
    def in_memory(self) -> int:
        """Bytes in memory."""
        blocks = [block for shelf in self._shelves.values() for block in shelf.blocks]
        return sum(block.size for block in blocks if not block.on_disk)

    def shelf(self, key: str) -> Shelf:
        """The shelf of a key, empty when it is new."""
        self._shelves.setdefault(key, Shelf())
        self._shelves.move_to_end(key)
        return self._shelves[key]

    def make_room(
        self, shelf: Shelf, *, vectors: int, rows: int, width: int, pooled: int | None, dtype: torch.dtype
    ) -> bool:
        """Add a block to a shelf: in memory where it fits, else in a file.

        Args:
            shelf: of this store.
            vectors: L
            rows: R
            width: H of the hidden states.
            pooled: H of the pooled output, or None without one.
            dtype: of both.

        Returns:
            Whether there is room at all.
        """
        size = (vectors * width + rows * (pooled or 0)) * dtype.itemsize
        for key, other in list(self._shelves.items()):
            if self.in_memory + size > self._memory and other is not shelf:
                del self._shelves[key]
        on_disk = self.in_memory + size > self._memory
        try:
            make = _in_file if on_disk else _in_memory
            hidden = make(vectors, width, dtype)
            shelf.blocks.append(Block(hidden, None if pooled is None else make(rows, pooled, dtype), on_disk))
        except (OSError, RuntimeError, MemoryError):
            return False
        return True


def _in_memory(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(rows, width, dtype=dtype)


def _in_file(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """A tensor in a file without a name; its space is taken at once, since running out later would end the process."""
    size = rows * width * dtype.itemsize
    if size == 0:
        return _in_memory(rows, width, dtype)
    if size > shutil.disk_usage(tempfile.gettempdir()).free // 2:
        raise OSError("no space that could be taken without trouble for others")
    with tempfile.TemporaryFile() as file:
        with contextlib.suppress(AttributeError):  # where the system has no such call, the file is extended as it is
            os.posix_fallocate(file.fileno(), 0, size)
        mapped = np.memmap(file, dtype=np.uint8, mode="r+" if os.fstat(file.fileno()).st_size else "w+", shape=(size,))
    return torch.from_numpy(mapped).view(dtype).view(rows, width)


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()
