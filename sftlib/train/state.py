"""What a run knows about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import nn

if TYPE_CHECKING:
    from sftlib.train.history import History


@final
@dataclass
class Training:
    """A run in progress, as callbacks see it.

    Attributes:
        model: the model being tuned.
        history: records so far.
        steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of an epoch.
        step: optimizer steps done.
        weights_of: the step whose weights the model holds at the end; `KeepBest` goes back to an earlier one.
        epoch_end_due: whether the run was saved between the last step of an epoch and its evaluation.
        stop_reason: why the run ends early; set it from a callback to end the run after this step.
    """

    model: nn.Module
    history: History
    steps: int
    steps_per_epoch: int
    step: int = 0
    weights_of: int | None = None
    epoch_end_due: bool = False
    stop_reason: str | None = None

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.step / self.steps_per_epoch
