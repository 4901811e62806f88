"""What stands in for a layer of a model while its body is called, and computes the same in fewer, larger pieces."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StandIn(nn.Module, ABC):
    """Stands in for a layer while the body of a model is called; it holds no parameter of its own.

    Args:
        layer: that it computes.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple: it does not become a child
        # Bodies of transformers before 5.4 ask each layer which of their masks it wants.
        if hasattr(layer, "attention_type"):
            self.attention_type = layer.attention_type

    @property
    def layer(self) -> nn.Module:
        """The layer itself."""
        return self._layer[0]

    def train(self, mode: bool = True) -> StandIn:
        """Switch the layer itself, too: whoever switches the body while this stands in it means the layer."""
        super().train(mode)
        self.layer.train(mode)
        return self

    @property
    def fits(self) -> bool:
        """Whether nobody listens inside the layer, it is computed once, and either all of it is trained or nothing."""
        grad = torch.is_grad_enabled()
        if grad and getattr(self.layer, "gradient_checkpointing", False):
            return False
        return not any(
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
            for module in self.layer.modules()
        ) and (not grad or len({p.requires_grad for p in self.layer.parameters()}) == 1)


def product_type(x: Tensor) -> torch.dtype:
    """The type of matrix products: as autocast says, where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def cast(dtype: torch.dtype, *parameters: Tensor) -> Tensor:
    """Parameters one below the other in the type of the products, without their graph.

    Made anew in every pass, as autocast does: fused optimizers leave no trace of having changed a weight (neither its
    version nor its address), so a copy that outlived a step would never learn.
    """
    first = parameters[0].detach()
    if len(parameters) == 1:
        return first.to(dtype)
    made = torch.empty(sum(map(len, parameters)), *first.shape[1:], dtype=dtype, device=first.device)
    start = 0
    for parameter in parameters:
        made[start : start + len(parameter)].copy_(parameter.detach())
        start += len(parameter)
    return made


def cast_all(dtype: torch.dtype, *groups: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Weight and bias of each group of linear layers, those of a group one below the other."""
    return tuple(cast(dtype, *(getattr(x, kind) for x in group)) for group in groups for kind in ("weight", "bias"))
