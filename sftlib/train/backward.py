"""Loss and gradient of one optimizer step's rows, as sums that the loop divides.

Nearly always each row has a loss of its own, and micro-batches are computed one by one (`Separate`). Where the loss of
a row depends on the others (`Coupled`, in `sftlib.train.coupled`), a batch is computed twice.
"""

from __future__ import annotations

from typing import Protocol, final

from sftlib.encoders.batch import Batch
from sftlib.tasks.base import LossSum, Task
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward


class Backward(Protocol):
    """Adds the gradient of a step's summed loss to the parameters."""

    def __call__(self, step: int) -> list[LossSum]:
        """The sums of this process's micro-batches, without their graph."""


@final
class Separate:
    """Micro-batches by themselves: their sums add up to those of the whole.

    Args:
        forward: calls the model.
        task: sums the loss.
        feed: the micro-batches of a step.
    """

    def __init__(self, forward: Forward, task: Task, feed: Feed) -> None:
        self._forward = forward
        self._task = task
        self._feed = feed

    def __call__(self, step: int) -> list[LossSum]:
        return [self._backward(batch, step) for batch in self._feed.step(step)]

    def _backward(self, batch: Batch, step: int) -> LossSum:
        return backward_of(self._forward, self._task, batch, step)


def backward_of(forward: Forward, task: Task, batch: Batch, step: int) -> LossSum:
    """The sum of one micro-batch, whose gradient is added to the parameters."""
    total, count = task.loss(forward.train(batch, step=step), batch)
    forward.precision.scale(total).backward()  # type: ignore[no-untyped-call]
    return LossSum(total.detach(), count.detach())
