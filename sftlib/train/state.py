"""What a run knows about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from torch import nn

from sftlib.train.held import Held, Whole

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
        told: what callbacks had to say, each line once; whoever shows the run shows it.
        held: how the weights are held meanwhile: with ``shard=True`` those of the model are parts.
    """

    model: nn.Module
    history: History
    steps: int
    steps_per_epoch: int
    step: int = 0
    weights_of: int | None = None
    epoch_end_due: bool = False
    stop_reason: str | None = None
    told: list[str] = field(default_factory=list)
    held: Held = field(default_factory=Whole)

    def tell(self, line: str) -> None:
        """Have a line shown, once."""
        if line not in self.told:
            self.told.append(line)

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step done was the last of its epoch, or of the run."""
        return self.step % self.steps_per_epoch == 0 or self.step == self.steps

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.step / self.steps_per_epoch
