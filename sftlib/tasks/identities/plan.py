"""Steps of so many rows of each identity."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from numpy.typing import NDArray

from sftlib.tasks.plan import Plan


@final
class IdentityPlan(Plan):
    """Steps of so many rows of each of several identities: a pure function of (seed, epoch).

    In every epoch each row comes at least once. The rows of an identity are shuffled and cut into groups of
    ``rows_of_each``; the last group is filled up with others of the identity, if it has so many. Groups are dealt in
    rounds, one of each identity that has any left, so that the identities of a step are different ones.

    Args:
        identities: (N,) number of each row's identity.
        batch_size: rows of a step, at most; as many identities as fit.
        rows_of_each: rows of an identity in a step.
        seed: of the run.

    Example:
        >>> plan = IdentityPlan(np.repeat([0, 1, 2], 4), batch_size=4, rows_of_each=2, seed=0)
        >>> plan.steps_per_epoch, [len(plan.rows(step)) for step in range(3)]
        (3, [4, 4, 4])
    """

    def __init__(self, identities: NDArray[np.int64], *, batch_size: int, rows_of_each: int, seed: int) -> None:
        order = np.argsort(identities, kind="stable")
        _, starts = np.unique(identities[order], return_index=True)
        self._members = np.split(order, starts[1:])
        self._of_each = rows_of_each
        self._seed = seed
        self._groups = max(1, batch_size // rows_of_each)  # of a step
        groups = sum(math.ceil(len(rows) / rows_of_each) for rows in self._members)
        self.steps_per_epoch = math.ceil(groups / self._groups)
        self._dealt: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def rows(self, step: int) -> NDArray[np.int64]:
        epoch, index = divmod(step, self.steps_per_epoch)
        dealt = self._dealt
        if dealt[0] != epoch:
            self._dealt = dealt = (epoch, self._deal(epoch))  # whole at once: threads ask too
        return dealt[1][index]

    def _deal(self, epoch: int) -> list[NDArray[np.int64]]:
        generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64)))
        rounds: dict[int, list[NDArray[np.int64]]] = {}
        for members in self._members:
            shuffled = generator.permutation(members)
            for number, start in enumerate(range(0, len(shuffled), self._of_each)):
                group = shuffled[start : start + self._of_each]
                missing = self._of_each - len(group)
                rounds.setdefault(number, []).append(np.concatenate([group, shuffled[: min(missing, start)]]))
        groups = [part[i] for part in rounds.values() for i in generator.permutation(len(part))]
        steps = [groups[start : start + self._groups] for start in range(0, len(groups), self._groups)]
        return [_each_once(np.concatenate(step)) for step in steps]


def _each_once(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the second of two rows that are the same: where two rounds meet, an identity may come twice."""
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]
