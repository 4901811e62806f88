"""Inputs in the middle and of one size, for a last layer that learns in units of its own.

What a body makes of rows mostly lies to one side: the mean of all rows is often many times what tells them apart, and
how large that is differs from body to body. A layer that has to learn it all from such numbers spends its steps on what
rows have in common. This one learns as if the mean of its inputs were 0 and their usual distance from it `SIZE`; what
it computes with is one plain layer on the inputs as they are (`sftlib.models.units`).

Letters: ``N`` rows, ``H`` values that the layer reads, ``K`` outputs.
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sftlib.models.units import Units

#: About that of a sentence encoder's, for which the rates were measured (docs/benchmarks.md).
SIZE: Final = 4.0
_FARTHEST: Final = 16.0  # of the mean, in usual distances from it: what lies closer together is not blown up further


@final
class _Spread(Units):
    """Of the weight: what is learned is for inputs of `SIZE`."""

    scale: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones((), dtype=like.dtype, device=like.device))

    def forward(self, learned: Tensor) -> Tensor:
        return learned * self.scale

    def right_inverse(self, used: Tensor) -> Tensor:
        return used / self.scale


@final
class _Shift(Units):
    """Of the bias: what is learned is for inputs from which their mean was taken away."""

    mean: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._layer = [layer]  # it holds this: not one of its modules
        self.register_buffer("mean", layer.weight.new_zeros(layer.in_features))

    def forward(self, learned: Tensor) -> Tensor:
        return learned - self._of_mean()

    def right_inverse(self, used: Tensor) -> Tensor:
        return used + self._of_mean()

    def _of_mean(self) -> Tensor:
        """(K,) what the layer makes of the mean; no product of matrices, which autocast would round."""
        return (self._layer[0].weight * self.mean).sum(dim=1)


def let_scale(layer: nn.Linear) -> None:
    """Let a layer learn in units of its own: those of its inputs until `scale_input` has seen some."""
    parametrize.register_parametrization(layer, "weight", _Spread(layer.weight))
    parametrize.register_parametrization(layer, "bias", _Shift(layer))


def scaled(model: nn.Module) -> nn.Linear | None:
    """The layer that learns so, if there is one."""
    found = (
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Linear)
        and parametrize.is_parametrized(layer, "bias")
        and isinstance(layer.parametrizations.bias[0], _Shift)  # type: ignore[index, union-attr]
    )
    return next(found, None)


def scale_input(layer: nn.Linear, inputs: Tensor) -> None:
    """Learn, from now on, in the units of these inputs; the layer was not trained yet.

    Args:
        layer: prepared by `let_scale`.
        inputs: (N, H) of training rows; where all are alike nothing changes.
    """
    mean = inputs.double().mean(dim=0)
    spread = (inputs.double() - mean).square().sum(dim=1).mean().sqrt()
    distance = torch.maximum(spread, mean.norm() / _FARTHEST)  # rounding would grow with the differences
    if not spread > 0:
        return
    steps = layer.parametrizations
    steps.weight[0].scale.copy_(SIZE / distance)  # type: ignore[index, union-attr]
    steps.bias[0].mean.copy_(mean)  # type: ignore[index, union-attr]
