"""Steps that hold rows of several tasks, by temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from sftlib.tasks.plan import Plan

Rows = NDArray[np.int64]

_PLACES = 2**63  # the counter of what spreads tasks over an epoch; those of tasks are their numbers


@final
class MixedPlan(Plan):
    """As many rows of each task in every epoch as its share, drawn anew only when all of them have come.

    An epoch has as many rows as there are. The rows of a task come from one endless stream, permutation after
    permutation; which places of an epoch are a task's is a permutation too. All are drawn from counters, so that any
    step can be asked for by itself. One task alone has the very steps of `sftlib.train.plan.ShuffledPlan`.

    Args:
        members: the row numbers of each task.
        mixing: share of a task ∝ rows ** mixing.
        batch_size: rows of a step.
        seed: of the draws.

    Example:
        >>> plan = MixedPlan([np.arange(6), np.arange(6, 8)], mixing=0.0, batch_size=4, seed=0)
        >>> plan.counts, plan.steps_per_epoch
        ((4, 4), 2)
        >>> sorted(np.concatenate([plan.rows(0), plan.rows(1)]).tolist())[-4:]
        [6, 6, 7, 7]
    """

    def __init__(self, members: Sequence[Rows], *, mixing: float, batch_size: int, seed: int) -> None:
        self.counts = shares([len(rows) for rows in members], mixing)
        self.steps_per_epoch = math.ceil(sum(self.counts) / batch_size)
        self._members = members
        self._batch_size = batch_size
        self._seed = seed
        self._drawn: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))

    def rows(self, step: int) -> Rows:
        epoch, index = divmod(step, self.steps_per_epoch)
        drawn = self._drawn
        if drawn[0] != epoch:
            self._drawn = drawn = (epoch, self._of_epoch(epoch))  # whole at once: threads ask too
        return drawn[1][index * self._batch_size : (index + 1) * self._batch_size]

    def _of_epoch(self, epoch: int) -> Rows:
        places = self._permuted(np.repeat(np.arange(len(self.counts)), self.counts), epoch, _PLACES)
        rows = np.empty(len(places), dtype=np.int64)
        for number, count in enumerate(self.counts):
            rows[places == number] = self._stream(number, epoch * count, count)
        return rows

    def _stream(self, number: int, start: int, count: int) -> Rows:
        """These places of the endless stream of a task."""
        members = self._members[number]
        if not count:
            return np.empty(0, dtype=np.int64)
        first, last = start // len(members), (start + count - 1) // len(members)
        passes = [self._permuted(members, turn, number) for turn in range(first, last + 1)]
        offset = start - first * len(members)
        return np.concatenate(passes)[offset : offset + count]

    def _permuted(self, values: Rows, turn: int, stream: int) -> Rows:
        counter = np.array([0, 0, 0, stream], dtype=np.uint64)
        bits = np.random.Philox(counter=counter, key=np.array([self._seed, turn], dtype=np.uint64))
        return values[np.random.Generator(bits).permutation(len(values))]


def shares(sizes: Sequence[int], mixing: float) -> tuple[int, ...]:
    """How many rows of an epoch are each task's; they add up to the rows of all, and none that has rows has none.

    Args:
        sizes: rows of each task.
        mixing: 1 for their own numbers, 0 for equal ones.

    Example:
        >>> shares([900, 100], 1.0), shares([900, 100], 0.5), shares([900, 100], 0.0)
        ((900, 100), (750, 250), (500, 500))
    """
    weights = np.array([float(size) ** mixing if size else 0.0 for size in sizes])
    total = sum(sizes)
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    counts[(counts == 0) & (weights > 0)] = 1
    order = np.argsort(counts - exact, kind="stable")  # those that lost most first
    missing = total - int(counts.sum())
    for place in range(abs(missing)):
        if missing > 0:
            counts[order[place % len(order)]] += 1
        else:
            counts[counts.argmax()] -= 1
    return tuple(counts.tolist())
