"""Loss and gradient of one optimizer step's rows, as sums that the loop divides.

Nearly always each row has a loss of its own, and micro-batches are computed one by one (`Separate`). Where the loss of
a row depends on the others (`Coupled`, in `sftlib.train.coupled`), a batch is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        return [self._backward(batch, step) for batch in self.batches(step)]

    def batches(self, step: int) -> Iterator[Batch]:
        """The micro-batches of a step that this process computes."""
        return self._feed.step(step)

    def spare(self, step: int) -> Batch:
        """One more, of a row of the step."""
        return self._feed.spare_of(step)

    def one(self, batch: Batch, step: int, *, counts: bool) -> LossSum:
        """The sum of one micro-batch; of one that does not count, the gradient is nothing."""
        return self._backward(batch, step) if counts else backward_of(self._forward, self._task, batch, step, share=0.0)

    def _backward(self, batch: Batch, step: int) -> LossSum:
        return backward_of(self._forward, self._task, batch, step)


def backward_of(forward: Forward, task: Task, batch: Batch, step: int, *, share: float = 1.0) -> LossSum:
    """The sum of one micro-batch, whose gradient is added to the parameters; ``share`` is a factor of the gradient."""
    total, count = task.loss(forward.train(batch, step=step), batch)
    scaled = forward.precision.scale(total)
    (scaled if share == 1.0 else scaled * share).backward()  # type: ignore[no-untyped-call]
    return LossSum(total.detach(), count.detach())
