"""A last layer whose scores are divided by a temperature, and whose order of scores is the same in every precision.

The temperature is in the weights: whatever opens them has the divided scores. Where products are computed in fewer
bits, rounding divided weights would now and then change places of two labels that are nearly tied. There the product
is that of the weights before the division, and the scores are divided after it.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class TemperedLinear(nn.Linear):
    """A linear layer whose weights were divided by a temperature; its parameters are those of another.

    Args:
        layer: the other, divided already.
        temperature: by what.
    """

    def __init__(self, layer: nn.Linear, temperature: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.temperature = temperature

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in fp32 under autocast."""
        if not torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        bias = None if self.bias is None else self.bias * self.temperature
        return functional.linear(input, self.weight * self.temperature, bias).float() / self.temperature


def temper(model: nn.Module, name: str, temperature: float) -> None:
    """Put a `TemperedLinear` in the place of a layer whose weights were divided.

    Args:
        model: is changed.
        name: of the layer.
        temperature: by what its weights were divided, in all.

    Raises:
        ValueError: there is no linear layer of that name.
    """
    layer = dict(model.named_modules()).get(name)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"tempered={name!r}: the model has no linear layer of that name")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, TemperedLinear(layer, temperature).train(layer.training))
