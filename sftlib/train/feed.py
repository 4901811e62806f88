"""The one place that loads rows, draws for them, lays them out, and hands them to the device.

Letters: ``N`` rows of the data set, ``B`` rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.encoders.base import Draws, Encoder
from sftlib.encoders.batch import Batch, laid_out
from sftlib.encoders.draws import Draw
from sftlib.encoders.encoded import Encoded
from sftlib.tasks.base import Task
from sftlib.tasks.plan import Plan
from sftlib.train.ahead import Ahead, Making, WhenAsked
from sftlib.train.comm import Comm
from sftlib.train.plan import Budget

Rows = NDArray[np.int64]
Part = tuple[int, int]  # of a step: its number, and which of its micro-batches


@final
class Feed:
    """Rows of a data set as batches on the device.

    In training rows are drawn (augmented, as their encoder has it) and cut within a budget, which is halved when memory
    runs out; in evaluation they are as they are. Where loading takes time it is done in threads, ahead of time; what is
    drawn depends on (seed, epoch, row) alone, so neither threads nor cutting can change it.

    Args:
        task: lays out what is learned.
        encoded: the rows.
        encoder: loads and lays out what the model sees.
        device: where the batches go.
        budget: of one pass.
        comm: the processes that share the rows.
        plan: which rows make up which step; None where nothing is trained.
        seed: of what is drawn.
        identified: whether batches say what identifies each row.
        knows: whether what a model makes of rows is known by what identifies them; these are not read then.
    """

    def __init__(
        self,
        task: Task,
        encoded: Encoded,
        encoder: Encoder,
        *,
        device: torch.device,
        budget: Budget,
        comm: Comm,
        plan: Plan | None = None,
        seed: int = 0,
        identified: bool = False,
        knows: Callable[[Sequence[bytes]], bool] | None = None,
    ) -> None:
        self.encoded = encoded
        self.budget = budget
        self._task = task
        self._encoder = encoder
        self._device = device
        self._comm = comm
        self._plan = plan
        self._seed = seed
        self._identified = identified
        self._knows = knows
        self._steps = self._making(self._of_step)

    # Training.

    def step(self, step: int) -> Iterator[Batch]:
        """The micro-batches of an optimizer step that this process computes, the largest rows first."""
        then = range(len(self._cut(step + 1))) if self._encoder.slow else range(0)
        for batch in self._steps([(step, n) for n in range(len(self._cut(step)))], [(step + 1, n) for n in then]):
            yield batch.to(self._device)

    def spare_of(self, step: int) -> Batch:
        """The cheapest row of a step, whoever computes it: for a pass that only keeps others company."""
        rows, encoded = self._planned.rows(step), self.columns(step)
        one = rows[[encoded.cost[rows].argmin()]]
        batch = self._made(encoded, one, partial(Draw, self._seed, self._planned.epoch(step)))
        return replace(batch, of_step=self._task.counts(encoded, rows)).to(self._device)

    def columns(self, step: int) -> Encoded:
        """The rows that a step's are numbers of."""
        return self._planned.columns(step, self.encoded)

    def whole(self, step: int, rows: Rows) -> Batch:
        """Targets of these rows of a step without their inputs, for a loss over rows that were computed in parts."""
        encoded = self.columns(step)
        fixed = {name: part for name, part in encoded.targets.items() if isinstance(part, np.ndarray)}
        cost = torch.from_numpy(encoded.cost[rows])
        batch = Batch(torch.from_numpy(rows), cost, inputs={}, targets=laid_out(fixed, rows, 0))
        return batch.to(self._device)

    def halve(self, step: int) -> bool:
        """Halve the budget for good; False when the largest micro-batch of this step is a single row already."""
        largest = max(self._cut(step), key=len)
        if len(largest) == 1:
            return False
        self.budget = replace(self.budget, rows=(len(largest) + 1) // 2)
        self._steps.forget()
        return True

    @property
    def _planned(self) -> Plan:
        assert self._plan is not None, "these rows are not trained on"
        return self._plan

    def _of_step(self, part: Part) -> Batch:
        step, number = part
        rows, encoded = self._planned.rows(step), self.columns(step)
        draws = partial(Draw, self._seed, self._planned.epoch(step))
        batch = self._made(encoded, self._cut(step)[number], draws)
        return replace(batch, of_step=self._task.counts(encoded, rows))

    def _cut(self, step: int) -> Sequence[Rows]:
        encoded = self.columns(step)
        return self._parts(encoded, self._comm.share(self._planned.rows(step), encoded.cost))

    def _parts(self, encoded: Encoded, rows: Rows) -> list[Rows]:
        """These rows within the budget; those that are to be apart are."""
        return [part for alike in self._alike(encoded, rows) for part in self.budget.cut(alike, encoded.cost)]

    @staticmethod
    def _alike(encoded: Encoded, rows: Rows) -> list[Rows]:
        """The rows that may share a pass, in their order."""
        apart = encoded.apart
        return [rows] if apart is None else [rows[apart[rows] == number] for number in np.unique(apart[rows])]

    # Evaluation.

    def everything(self) -> Iterator[tuple[Rows, Batch]]:
        """Every row once, as it is: those that this process computes, by cost."""
        return self.passes(self._comm.share(np.arange(len(self.encoded)), self.encoded.cost))

    def spare(self) -> tuple[Rows, Batch]:
        """No row, and a batch of the cheapest: for a pass that only keeps others company."""
        one = np.array([self.encoded.cost.argmin()])
        return one[:0], self.of(one)

    def passes(self, rows: Rows) -> Iterator[tuple[Rows, Batch]]:
        """These rows as they are, cut within the budget."""
        parts = self._parts(self.encoded, rows)
        batches = self._making(lambda part: self._as_it_is(parts[part[1]]))([(0, n) for n in range(len(parts))])
        for part, batch in zip(parts, batches, strict=True):
            yield part, batch.to(self._device)

    def of(self, rows: Rows) -> Batch:
        """One batch of these rows as they are."""
        return self._as_it_is(rows).to(self._device)

    def probes(self) -> list[Batch]:
        """A few rows of different cost, the largest among them; a batch of each kind that has to be apart."""
        by_cost = self._alike(self.encoded, np.argsort(self.encoded.cost, kind="stable"))
        return [self.of(np.unique(rows[[0, len(rows) // 2, -1]])) for rows in by_cost]

    def _making(self, make: Callable[[Part], Batch]) -> Making[Part, Batch]:
        return Ahead(make) if self._encoder.slow else WhenAsked(make)

    def _as_it_is(self, rows: Rows) -> Batch:
        return self._made(self.encoded, rows, None)

    def _made(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Batch:
        """One batch; of rows that are drawn nothing can be known."""
        if not self._identified or (draws is not None and self._encoder.draws):
            return self._task.collate(encoded, rows, self._encoder, draws)
        known_by = tuple(encoded.identity(row) for row in rows.tolist())
        read = self._knows is None or not self._knows(known_by)
        return replace(self._task.collate(encoded, rows, self._encoder, draws, read=read), known_by=known_by)
