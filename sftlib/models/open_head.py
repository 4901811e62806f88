"""The output layer of a model, off and on again: meanwhile the model answers with what that layer reads.

Letters: ``H`` features, ``K`` outputs.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from sftlib.models.structure import body_of


@final
class Open(nn.Identity):
    """Stands where the output layer was, so that the model answers with what that layer reads."""


def output_layer(model: nn.Module, outputs: int) -> str | None:
    """The name of the last linear layer outside the body that has so many outputs; None without one."""
    body = body_of(model)
    inside = set() if body is None else set(body.modules())
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module not in inside and module.out_features == outputs
    ]
    return found[-1] if found else None


def open_head(model: nn.Module, outputs: int) -> bool:
    """Take the output layer away, in place; False where there is none that can be told."""
    name = output_layer(model, outputs)
    if name is None:
        return False
    _put(model, name, Open())
    return True


def close_head(model: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Put an output layer in the place that `open_head` left.

    Args:
        model: opened.
        weight: (K, H)
        bias: (K,)
    """
    name = next(name for name, module in model.named_modules() if isinstance(module, Open))
    device = next(model.parameters()).device
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    _put(model, name, layer)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
