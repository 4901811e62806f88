"""Layers that learn in units of their own: what is learned, what is computed with, and the plain layer that is left.

What a weight is in the units in which it is learned best is seldom what the model computes with. Such a weight is
parametrised while it is trained; whatever reads the layer sees what is computed with, and at the end that alone is left
(`make_plain`), bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn.utils import parametrize


class Units(nn.Module, ABC):
    """From what is learned to what is computed with, and back."""

    @abstractmethod
    def forward(self, learned: Tensor) -> Tensor:
        """What is computed with."""

    @abstractmethod
    def right_inverse(self, used: Tensor) -> Tensor:
        """What has to be learned for this to be computed with."""


def make_plain(model: nn.Module) -> None:
    """Leave one plain layer in place of each that learns in units of its own, with what it computes with."""
    for module in list(model.modules()):
        for name in _in_units(module):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model under the names of its plain layers, as they are computed with."""
    weights = {name: weight.detach() for name, weight in model.state_dict().items()}
    for place, module in model.named_modules():
        prefix = f"{place}." if place else ""
        for name in _in_units(module):
            within = f"{prefix}parametrizations.{name}."
            weights = {own: part for own, part in weights.items() if not own.startswith(within)}
            weights[f"{prefix}{name}"] = getattr(module, name).detach()
    return weights


def _in_units(module: nn.Module) -> list[str]:
    """The weights of a layer that are learned in units of their own; those of a model's own make are left alone."""
    if not parametrize.is_parametrized(module):
        return []
    found = module.parametrizations
    assert isinstance(found, nn.ModuleDict)
    return [name for name, steps in found.items() if any(isinstance(step, Units) for step in steps.children())]
