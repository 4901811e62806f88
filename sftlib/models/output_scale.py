"""Outputs in the units of the data from a layer that learns in units of its own.

A regression is learned best where targets have mean 0 and deviation 1. The last layer of a model holds such weights,
and what it computes with is ``weight * deviation`` and ``bias * deviation + mean``: so the model itself answers in the
units of the data, and what is left of it is one plain layer that gives the same numbers (`sftlib.models.units`).

Letters: ``K`` outputs, ``H`` values that the last layer reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import final

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from sftlib.models.structure import body_of, hooked
from sftlib.models.units import Units


@final
class _Units(Units):
    """What is learned -> what is computed with: ``(K, ...)`` times a deviation, plus a mean."""

    deviations: Tensor
    means: Tensor

    def __init__(self, deviations: Tensor, means: Tensor) -> None:
        super().__init__()
        self.register_buffer("deviations", deviations, persistent=False)
        self.register_buffer("means", means, persistent=False)

    def forward(self, learned: Tensor) -> Tensor:
        return learned * self.deviations + self.means

    def right_inverse(self, used: Tensor) -> Tensor:
        return (used - self.means) / self.deviations


def scale_output(model: nn.Module, deviations: Sequence[float], means: Sequence[float]) -> bool:
    """Let the last layer of a fresh model learn in units of its own.

    A layer that is new (its bias is 0) begins at the mean of the targets; one that was trained goes on where it stood.
    Without a bias there is no mean to begin at. A model that is not of transformers is left as it is.

    Args:
        model: with its head; an adapter may be in it.
        deviations: (K,) of the targets.
        means: (K,) of the targets.

    Returns:
        Whether such a layer was found.
    """
    layer = _last_layer(model, len(deviations))
    if layer is None:
        return False
    scale, shift = (torch.tensor(values, dtype=layer.weight.dtype) for values in (deviations, means))
    fresh = layer.bias is not None and not layer.bias.any()
    if isinstance(model, transformers.PreTrainedModel) and not _has_adapter(model):
        parametrize.register_parametrization(layer, "weight", _Units(scale[:, None], torch.zeros_like(scale[:, None])))
        if layer.bias is not None:
            parametrize.register_parametrization(layer, "bias", _Units(scale, shift))
        if fresh:
            with torch.no_grad():
                weight, bias = (getattr(layer.parametrizations, name).original for name in ("weight", "bias"))
                weight.mul_(scale[:, None])  # as it was drawn
                bias.zero_()
    elif fresh:  # beside an adapter, whose folder has the names of its weights: only the beginning is set
        with torch.no_grad():
            layer.weight.mul_(scale[:, None])
            layer.bias.copy_(shift)
    return True


def _has_adapter(model: nn.Module) -> bool:
    return any(".modules_to_save." in name for name, _ in model.named_modules())


def _last_layer(model: nn.Module, outputs: int) -> nn.Linear | None:
    """The last linear layer of so many outputs in the head of a model of transformers."""
    if not isinstance(model, transformers.PreTrainedModel):
        return None
    inside = set() if (body := body_of(model)) is None else set(body.modules())
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == outputs
        and module not in inside
        and "original_module" not in name
    ]
    return found[-1] if found else None


def exactly(model: nn.Module, outputs: int) -> AbstractContextManager[None]:
    """Within this context the last layer of so many outputs computes in fp32, whatever the others do.

    Numbers in units of the data may lie far from 0: bf16 cannot tell 1,001 from 1,002.
    """
    layer = _last_layer(model, outputs)
    return hooked([] if layer is None else [layer.register_forward_hook(_in_full)])


def _in_full(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    if output.dtype == torch.float32:
        return None
    assert isinstance(layer, nn.Linear)
    bias = None if layer.bias is None else layer.bias.float()
    with torch.autocast(output.device.type, enabled=False):
        return functional.linear(inputs[0].float(), layer.weight.float(), bias)
