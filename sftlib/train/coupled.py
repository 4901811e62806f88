"""Batches whose rows are coupled by the loss, cut exactly: embeddings first, then their gradient once, then the rest.

Everything random about a row is a function of (seed, step, row), so a micro-batch can be computed twice and comes out
the same. First all are computed without a graph, which leaves an embedding for each row; the loss of the whole batch
and its gradient by the embeddings need no model; then each micro-batch is computed once more, with its graph, and is
handed its part of that gradient. (The idea is that of Gao et al., 2021, "Scaling deep contrastive learning batch size
under memory limited setup"; there the generators' states are stored and put back.)

Letters: ``B`` rows of the effective batch, ``b`` of a micro-batch, ``S`` sides of a row (such as a text, its pair and
its negative), ``D`` numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from sftlib.encoders.batch import Batch
from sftlib.models.device import sent
from sftlib.tasks.base import LossSum, Task
from sftlib.train.backward import backward_of
from sftlib.train.comm import Comm
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward


@final
class Coupled:
    """Micro-batches, and processes, whose rows have one loss together.

    Args:
        forward: calls the model.
        task: sums the loss; `Task.by_row` and `Task.from_rows` say how its outputs belong to rows.
        feed: the micro-batches of a step.
        comm: the processes that share the rows.
    """

    def __init__(self, forward: Forward, task: Task, feed: Feed, comm: Comm) -> None:
        self._forward = forward
        self._task = task
        self._feed = feed
        self._comm = comm

    def __call__(self, step: int) -> list[LossSum]:
        batches = list(self._feed.step(step))
        if self._comm.size == 1 and len(batches) == 1:
            return [backward_of(self._forward, self._task, batches[0], step)]
        with torch.no_grad():
            parts = [self._rows(batch, step) for batch in batches]
        own, gradient, loss = self._of_whole(step, parts, batches)
        for batch, above in zip(batches, torch.split(gradient, [len(part) for part in parts]), strict=True):
            self._rows(batch, step).backward(above)  # type: ignore[no-untyped-call]
        return [loss] if own else []

    def _rows(self, batch: Batch, step: int) -> Tensor:
        """(b, S, D) embeddings of a micro-batch."""
        return self._task.by_row(self._forward.train(batch, step=step), batch)

    def _of_whole(self, step: int, parts: Sequence[Tensor], batches: Sequence[Batch]) -> tuple[bool, Tensor, LossSum]:
        """The loss of the effective batch, and its gradient by the rows of this process.

        Every process computes the same loss from the embeddings of all; the first alone reports it.

        Returns:
            Whether this process reports it; (b, S, D) the gradient, of a loss that is scaled as the precision asks; the
            loss.
        """
        numbers = torch.cat([batch.at_hand.rows[: len(batch.cost)] for batch in batches]) if batches else torch.empty(0)
        mine = torch.cat(list(parts)) if parts else torch.empty(0, device=self._forward.device)
        everyone = self._comm.collect(mine)
        rows = torch.cat([part for part in self._comm.collect(numbers) if len(part)]).long()
        order = torch.argsort(rows)
        there = sent(order, mine.device)
        leaf = torch.cat([part for part in everyone if len(part)])[there].requires_grad_()
        total, count = self._task.loss(self._task.from_rows(leaf), self._feed.whole(step, rows[order].numpy()))
        (gradient,) = torch.autograd.grad(self._forward.precision.scale(total), leaf)
        first = sum(len(part) for part in everyone[: self._comm.rank])
        back = torch.empty_like(gradient).index_copy_(0, there, gradient)  # in the order of the processes again
        own = back[first : first + len(mine)]
        return self._comm.rank == 0, own, LossSum(total.detach(), count.detach())
