"""How the processes of a run hold its weights while it steps: whole in each, or each a part of them.

Whole is the rule, and the null object. Parts are what `sftlib.train.sharded` makes of them for models that do not fit.
Before the first step and after the last, weights are whole in every process, whichever it was: so whatever tries,
names, narrows, saves or uses a model need not know. What happens between asks this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sftlib.train.backward import Backward, Separate
    from sftlib.train.forward import Ask

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Part:
    """What one process has of a tensor that is cut along its first dimension.

    Attributes:
        rows: its own; those of the processes before it come first.
        of: how many rows the whole has.
    """

    rows: Tensor
    of: int


Weights = Mapping[str, Tensor | Part]


def rows_of(rows: int, rank: int, size: int) -> tuple[int, int]:
    """The rows of a tensor that a process has, as torch cuts it.

    Example:
        >>> [rows_of(7, rank, 3) for rank in range(3)], [rows_of(2, rank, 3) for rank in range(3)]
        ([(0, 3), (3, 6), (6, 7)], [(0, 1), (1, 2), (2, 2)])
    """
    each = -(-rows // size)
    return min(rank * each, rows), min((rank + 1) * each, rows)


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


def require_names(model: nn.Module, weights: Weights) -> None:
    """Refuse other weights than those that may change.

    Raises:
        ValueError: naming some that are too many or missing.
    """
    expected = changing_weights(model).keys()
    if expected != weights.keys():
        raise ValueError(f"other weights than those that are trained: {sorted(expected ^ weights.keys())[:3]}")


class Held(ABC):
    """How weights are held.

    Attributes:
        parts: over how many processes they are cut; 1 where each has all of them.
        lines: what to tell before the first step.
    """

    parts: int = 1
    lines: Sequence[str] = ()

    @property
    def parted(self) -> bool:
        """Whether each process has a part of them."""
        return self.parts > 1

    # A pass.

    @abstractmethod
    def installed(self, model: nn.Module) -> AbstractContextManager[None]:
        """The context of the steps; before and after it weights are whole in every process."""

    @abstractmethod
    def asking(self, ask: Ask) -> Ask:
        """How a model is asked, as `sftlib.tasks.base.Task.ask` says it, with the weights that a pass needs at hand."""

    @abstractmethod
    def evenly(self, own: Iterator[T], spare: Callable[[], T]) -> Iterator[tuple[T, bool]]:
        """What this process computes, and whether it is its own.

        Args:
            own: pass by pass.
            spare: makes one more, whose result counts for nothing: where passes take all processes, each has as many.
        """

    @abstractmethod
    def backward(self, passes: Separate) -> Backward:
        """The backward passes of a step."""

    # A step.

    @abstractmethod
    def trained(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """What the optimizer of this process steps, by name."""

    @abstractmethod
    def to_add_up(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Of these, those whose gradients are not added up over the processes yet."""

    @abstractmethod
    def norm(self, parameters: Sequence[Tensor]) -> Tensor:
        """The norm of all gradients as one vector, where they lie."""

    # A run.

    def copied(self, model: nn.Module) -> dict[str, Tensor | Part]:
        """A copy of what `changing` gives, in the memory of the host."""
        return {
            name: Part(_copy(value.rows), value.of) if isinstance(value, Part) else _copy(value)
            for name, value in self.changing(model).items()
        }

    @abstractmethod
    def changing(self, model: nn.Module) -> dict[str, Tensor | Part]:
        """The weights that a run may change, by name, as this process has them."""

    @abstractmethod
    def put_back(self, model: nn.Module, weights: Weights) -> None:
        """Give a model what `changing` gave, in this run or in another of any number of processes.

        Raises:
            ValueError: these are not the weights that may change.
        """

    @abstractmethod
    def of_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state of an optimizer over `trained`, as this process has it."""

    @abstractmethod
    def for_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state that `of_optimizer` gave, in this run or in another, as this optimizer takes it."""


@final
class Whole(Held):
    """All of them, in every process."""

    def installed(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def asking(self, ask: Ask) -> Ask:
        return ask

    def evenly(self, own: Iterator[T], spare: Callable[[], T]) -> Iterator[tuple[T, bool]]:
        return ((item, True) for item in own)

    def backward(self, passes: Separate) -> Backward:
        return passes

    def trained(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in model.named_parameters() if p.requires_grad]

    def to_add_up(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        return parameters

    def norm(self, parameters: Sequence[Tensor]) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def changing(self, model: nn.Module) -> dict[str, Tensor | Part]:
        return dict(changing_weights(model))

    def put_back(self, model: nn.Module, weights: Weights) -> None:
        require_names(model, weights)
        model.load_state_dict(weights, strict=False)

    def of_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return optimizer.state_dict()

    def for_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
        return dict(state)


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True)
