"""What a run knows about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

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


def changing_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model that a run may change, by name: all but those of frozen parameters."""
    frozen = {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if frozen.isdisjoint(_prefixes(name))}


def _prefixes(name: str) -> list[str]:
    """A name and the names it lies under: quantised weights keep their scales beneath their own name.

    Example:
        >>> _prefixes("head.weight.absmax")
        ['head', 'head.weight', 'head.weight.absmax']
    """
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def put_back(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model the weights that `changing_weights` gave; the others stay.

    Raises:
        ValueError: these are not the weights that may change.
    """
    expected = changing_weights(model).keys()
    if expected != weights.keys():
        raise ValueError(f"other weights than those that are trained: {sorted(expected ^ weights.keys())[:3]}")
    model.load_state_dict(weights, strict=False)
