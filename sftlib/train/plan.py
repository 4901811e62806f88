"""Which rows make up which optimizer step: a pure function of (seed, epoch), so that resuming needs no memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.encoded import Encoded

Rows = NDArray[np.int64]


@final
class BatchPlan:
    """The effective batch of every optimizer step.

    Each epoch is one permutation of all rows, drawn from a counter-based generator keyed by (seed, epoch) and cut into
    batches; the last batch of an epoch may be smaller. Nothing is consumed: ``plan.rows(step)`` can be asked in any
    order, which is what makes resuming exact.

    Args:
        rows: number of rows in the data set.
        batch_size: rows of one optimizer step.
        steps: optimizer steps of the whole run.
        seed: the run's seed.

    Example:
        >>> plan = BatchPlan(5, batch_size=2, steps=6, seed=0)
        >>> plan.steps_per_epoch, plan.epoch(4), len(plan.rows(2))
        (3, 1, 1)
        >>> sorted(int(row) for step in range(3) for row in plan.rows(step))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, rows: int, *, batch_size: int, steps: int, seed: int) -> None:
        self.batch_size = batch_size
        self.steps = steps
        self.steps_per_epoch = math.ceil(rows / batch_size)
        self._rows = rows
        self._seed = seed
        self._drawn: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))

    def epoch(self, step: int) -> int:
        """The epoch (from 0) that a step (from 0) belongs to."""
        return step // self.steps_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Whether a step (from 0) is the last of its epoch, or of the run."""
        return (step + 1) % self.steps_per_epoch == 0 or step + 1 == self.steps

    def rows(self, step: int) -> Rows:
        """The row numbers of one optimizer step, in the order of the draw."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._drawn[0] != epoch:
            generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64)))
            self._drawn = (epoch, generator.permutation(self._rows))
        return self._drawn[1][index * self.batch_size : (index + 1) * self.batch_size]


def pack(rows: Rows, lengths: NDArray[np.int64], *, max_rows: int, max_tokens: int) -> list[Rows]:
    """Put rows into as few parts as best-fit finds, for models that lay them end to end.

    Args:
        rows: row numbers.
        lengths: tokens of every row of the data.
        max_rows: rows of a part at most.
        max_tokens: tokens of a part, all its rows together, at most; a longer row is a part of its own.

    Example:
        >>> parts = pack(np.arange(4), np.array([6, 5, 4, 3]), max_rows=9, max_tokens=9)
        >>> [part.tolist() for part in parts]
        [[0, 3], [1, 2]]
    """
    parts: list[list[int]] = []
    left: list[int] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        length = int(lengths[row])
        open_parts = [i for i, room in enumerate(left) if room >= length and len(parts[i]) < max_rows]
        if open_parts:
            best = min(open_parts, key=lambda i: left[i])
        else:
            best = len(parts)
            parts.append([])
            left.append(max_tokens)
        parts[best].append(row)
        left[best] -= length
    return [np.array(part, dtype=np.int64) for part in parts]


def cut(rows: Rows, lengths: NDArray[np.integer[Any]], *, max_rows: int, max_tokens: int) -> list[Rows]:
    """Cut rows into micro-batches of like length, the longest first.

    The longest first shows at once whether the memory suffices. A row longer than ``max_tokens`` stands alone.

    Args:
        rows: (B,) row numbers.
        lengths: (N,) tokens of every row of the data set.
        max_rows: rows of a micro-batch.
        max_tokens: rows times longest row of a micro-batch.

    Example:
        >>> [part.tolist() for part in cut(np.arange(4), np.array([9, 2, 8, 1]), max_rows=2, max_tokens=99)]
        [[0, 2], [1, 3]]
    """
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    parts = []
    while len(ordered):
        longest = max(int(lengths[ordered[0]]), 1)
        size = max(1, min(max_rows, max_tokens // longest))
        parts.append(ordered[:size])
        ordered = ordered[size:]
    return parts


@final
@dataclass(frozen=True)
class Budget:
    """How much one pass may hold.

    Attributes:
        rows: at most.
        tokens: rows times the largest row, at most.
        flat: whether rows lie end to end, and only their own tokens count.
    """

    rows: int
    tokens: int
    flat: bool = False

    def cut(self, rows: NDArray[np.int64], encoded: Encoded) -> list[NDArray[np.int64]]:
        """Cut rows into parts of like size that keep to the budget."""
        parts = pack if self.flat else cut
        return parts(rows, encoded.sizes, max_rows=self.rows, max_tokens=self.tokens)
