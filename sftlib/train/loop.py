"""The training loop, by hand, to be read aloud.

::

    for each optimizer step:
        rows = plan.rows(step)                               # an effective batch, a pure function of (seed, epoch)
        for each micro-batch, cut from rows by cost:
            outputs = model(inputs)                          # never sees labels
            total, count = task.loss(outputs, targets)       # a sum and a count
            total.backward()
        comm.add_up(sums, gradients)                         # over all processes; nothing to do where there is one
        gradients /= sum of counts                           # the only division
        norm = clip(gradients)                               # read with the sums: here the host waits for the device
        if loss and norm are finite: optimizer.step()        # otherwise the weights stay as they are
        callbacks.on_step_end()
        at the end of an epoch: evaluate(); callbacks.on_epoch_end()

Everything a user can ask for enters elsewhere: as a transform of the data, as a transform of the model before the
optimizer is built, as a task around a task, or as a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.models.device import sent
from sftlib.models.memory import is_out_of_memory
from sftlib.tasks.base import LossSum
from sftlib.tasks.plan import Plan
from sftlib.train.backward import Backward
from sftlib.train.callbacks import Callback
from sftlib.train.comm import Comm, EndedElsewhere
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward
from sftlib.train.optimizer import PEAK
from sftlib.train.schedules import Schedule
from sftlib.train.state import Training

Rows = NDArray[np.int64]


class NonFinitePolicy(Protocol):
    """What happens when a loss or a gradient is not finite: it raises, or returns to have the step skipped."""

    def __call__(self, *, step: int, rows: Rows, loss: float, grad_norm: float) -> None: ...


@final
@dataclass(frozen=True)
class Loop:
    """The parts of a run; `run` puts them to work.

    Attributes:
        forward: calls the model.
        backward: computes loss and gradient of a step's rows, as sums; see `sftlib.train.backward`.
        plan: which rows make up which step.
        feed: cuts an effective batch into micro-batches.
        learning_rate: of the schedule's factor 1.
        schedule: factor of the learning rate at each step.
        max_grad_norm: gradients are scaled down to this norm; infinity to leave them.
        evaluate: metrics on the validation data, or None without any.
        on_nonfinite: hears of losses and gradients that are not finite.
        callbacks: watch.
        comm: the processes of the run.
    """

    forward: Forward
    backward: Backward
    plan: Plan
    feed: Feed
    learning_rate: float
    schedule: Schedule
    max_grad_norm: float
    evaluate: Callable[[], Mapping[str, float] | None]
    on_nonfinite: NonFinitePolicy
    callbacks: Callback
    comm: Comm

    def run(self, training: Training, optimizer: torch.optim.Optimizer) -> None:
        """Train from ``training.step`` to the end, or until a callback asks to stop."""
        model = training.model
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.callbacks.on_fit_start(training)
        if training.epoch_end_due:
            self._end_epoch(training, epoch=self.plan.epoch(training.step - 1) + 1)

        while training.step < training.steps and training.stop_reason is None:
            step = training.step
            rows = self.plan.rows(step)
            if not model.training:  # here, because a callback may have looked at predictions
                model.train()

            # Forward and backward: sums only.
            try:
                sums = self._accumulate(step, optimizer)
                summed, counted = self.comm.add_up(sums, training.held.to_add_up(parameters))
            except EndedElsewhere:  # after the step before: here the same
                optimizer.zero_grad()
                self._end_epoch(training, epoch=self.plan.epoch(step - 1) + 1)
                break

            # The only division.
            divide_gradients(parameters, counted * self.forward.precision.divisor())
            norm = training.held.norm(parameters)

            # The only time that the host waits for the device.
            total, count, grad_norm = on_host(summed, counted, norm)
            clip_gradients(parameters, norm, grad_norm, self.max_grad_norm)
            loss = total / count if count else 0.0

            # The gate: nothing that is not finite reaches the weights.
            factor = self.schedule.factor(step)
            rate = self.learning_rate * factor
            finite = bool(np.isfinite(loss) and np.isfinite(grad_norm))
            if finite and count:
                for group in optimizer.param_groups:
                    group["lr"] = group.get(PEAK, self.learning_rate) * factor
                optimizer.step()
            optimizer.zero_grad()
            harmless = self.forward.precision.after_step(finite)

            # Tell.
            training.step += 1
            record = {
                "step": training.step,
                "epoch": self.plan.epoch(step) + 1,
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": grad_norm,
                "rows": len(rows),
            }
            training.history.add_step(record)
            if not harmless:
                self.on_nonfinite(step=training.step, rows=rows, loss=loss, grad_norm=grad_norm)
            self.callbacks.on_step_end(training, record)
            if training.ends_epoch or training.stop_reason is not None:
                self._end_epoch(training, epoch=self.plan.epoch(step) + 1)

        model.eval()
        self.callbacks.on_fit_end(training)

    def _accumulate(self, step: int, optimizer: torch.optim.Optimizer) -> list[LossSum]:
        """The sums of every micro-batch; when memory runs out, the same step again in smaller ones.

        Dropout masks depend on the step and the row alone, so the second try computes the same.
        """
        while True:
            try:
                return self.backward(step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self.feed.halve(step):
                    raise
            optimizer.zero_grad()

    def _end_epoch(self, training: Training, *, epoch: int) -> None:
        training.model.eval()
        metrics = self.evaluate()
        if metrics is not None:
            values = {f"valid_{name}": value for name, value in metrics.items()}
            training.history.add_evaluation({"step": training.step, "epoch": epoch, **values})
        training.epoch_end_due = False
        self.callbacks.on_epoch_end(training, metrics)


def divide_gradients(parameters: Iterable[Tensor], count: Tensor) -> None:
    """Divide every gradient by a number in place, where it lies; a count of 0 leaves them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        finest = max({gradient.dtype for gradient in gradients}, key=lambda dtype: dtype.itemsize)
        torch._foreach_div_(gradients, sent(torch.where(count == 0, 1.0, count).to(finest), gradients[0].device))


def clip_gradients(parameters: Iterable[Tensor], norm: Tensor, known: float, most: float) -> None:
    """Scale gradients down in place to a norm, as torch does; of smaller ones none is touched.

    Args:
        parameters: with gradients.
        norm: of them, where they lie.
        known: the same number, on the host.
        most: the norm.
    """
    if most / (torch.tensor(known, dtype=norm.dtype) + 1e-6) < 1.0:  # torch's own factor, to the bit
        nn.utils.clip_grads_with_norm_([p for p in parameters if p.grad is not None], most, norm)


def on_host(*numbers: Tensor) -> list[float]:
    """Scalars that lie on a device, all read at once."""
    found: list[float] = torch.stack([number.to(numbers[0].device).double() for number in numbers]).tolist()
    return found
