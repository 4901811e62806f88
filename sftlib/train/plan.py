"""Which rows make up which optimizer step: a pure function of (seed, epoch), so that resuming needs no memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.tasks.plan import Plan

Rows = NDArray[np.int64]


@final
class ShuffledPlan(Plan):
    """All rows in every epoch.

    Each epoch is one permutation of all rows, drawn from a counter-based generator keyed by (seed, epoch) and cut into
    batches; the last batch of an epoch may be smaller. Nothing is consumed: ``plan.rows(step)`` can be asked in any
    order, which is what makes resuming exact.

    Args:
        rows: number of rows in the data set.
        batch_size: rows of one optimizer step.
        seed: the run's seed.

    Example:
        >>> plan = ShuffledPlan(5, batch_size=2, seed=0)
        >>> plan.steps_per_epoch, plan.epoch(4), len(plan.rows(2))
        (3, 1, 1)
        >>> sorted(int(row) for step in range(3) for row in plan.rows(step))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, rows: int, *, batch_size: int, seed: int) -> None:
        self.steps_per_epoch = math.ceil(rows / batch_size)
        self._batch_size = batch_size
        self._rows = rows
        self._seed = seed
        self._drawn: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))

    def rows(self, step: int) -> Rows:
        """The row numbers of one optimizer step, in the order of the draw."""
        epoch, index = divmod(step, self.steps_per_epoch)
        drawn = self._drawn
        if drawn[0] != epoch:
            generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64)))
            self._drawn = drawn = (epoch, generator.permutation(self._rows))  # whole at once: threads ask too
        return drawn[1][index * self._batch_size : (index + 1) * self._batch_size]


def pack(rows: Rows, costs: NDArray[np.int64], *, max_rows: int, max_cost: int) -> list[Rows]:
    """Put rows into as few parts as best-fit finds, for models that lay them end to end.

    Args:
        rows: row numbers.
        costs: (N,) of every row of the data.
        max_rows: rows of a part at most.
        max_cost: of a part, all its rows together, at most; a larger row is a part of its own.

    Example:
        >>> parts = pack(np.arange(4), np.array([6, 5, 4, 3]), max_rows=9, max_cost=9)
        >>> [part.tolist() for part in parts]
        [[0, 3], [1, 2]]
    """
    parts: list[list[int]] = []
    left: list[int] = []
    for row in rows[np.argsort(-costs[rows], kind="stable")].tolist():
        length = int(costs[row])
        open_parts = [i for i, room in enumerate(left) if room >= length and len(parts[i]) < max_rows]
        if open_parts:
            best = min(open_parts, key=lambda i: left[i])
        else:
            best = len(parts)
            parts.append([])
            left.append(max_cost)
        parts[best].append(row)
        left[best] -= length
    return [np.array(part, dtype=np.int64) for part in parts]


def cut(rows: Rows, costs: NDArray[np.integer[Any]], *, max_rows: int, max_cost: int) -> list[Rows]:
    """Cut rows into micro-batches of like cost, the largest first.

    The largest first shows at once whether the memory suffices. A row larger than ``max_cost`` stands alone.

    Args:
        rows: (B,) row numbers.
        costs: (N,) of every row of the data set.
        max_rows: rows of a micro-batch.
        max_cost: rows times the largest row of a micro-batch.

    Example:
        >>> [part.tolist() for part in cut(np.arange(4), np.array([9, 2, 8, 1]), max_rows=2, max_cost=99)]
        [[0, 2], [1, 3]]
    """
    ordered = rows[np.argsort(-costs[rows], kind="stable")]
    parts = []
    while len(ordered):
        longest = max(int(costs[ordered[0]]), 1)
        size = max(1, min(max_rows, max_cost // longest))
        parts.append(ordered[:size])
        ordered = ordered[size:]
    return parts


@final
@dataclass(frozen=True)
class Budget:
    """How much one pass may hold.

    Attributes:
        rows: at most.
        cost: rows times the largest row, at most.
        flat: whether rows lie end to end, and only their own cost counts.
    """

    rows: int
    cost: int
    flat: bool = False

    def cut(self, rows: Rows, costs: NDArray[np.int64]) -> list[Rows]:
        """Cut rows into parts of like cost that keep to the budget; ``costs`` (N,) of every row of the data."""
        parts = pack if self.flat else cut
        return parts(rows, costs, max_rows=self.rows, max_cost=self.cost)
