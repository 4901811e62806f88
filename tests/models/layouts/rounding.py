"""How far the rounding of bf16 takes scores and gradients from those of fp32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sftlib.encoders.batch import Batch
from sftlib.models.layouts.layout import Layout, Padded
from sftlib.models.outputs import logits
from sftlib.models.precision import Bf16
from tests.models.layouts.test_layout import forward_of, scores_and_gradient


def require_rounding_of_autocast(model: Any, layout: Layout, batch: Batch) -> None:
    """Whether a layout in bf16 is no further from fp32 than autocast of the layers as they are."""
    exact = scores_and_gradient(model, Padded(), batch)
    padded, other = (_distances(_in_bf16(model, way, batch), exact) for way in (Padded(), layout))
    for found, bound in zip(other, padded, strict=True):
        assert found <= 2 * bound + 1e-3


def _in_bf16(model: Any, layout: Layout, batch: Batch) -> tuple[Tensor, Tensor]:
    model.train()
    model.zero_grad()
    forward = forward_of(model, layout, Bf16())
    with forward.prepared():
        scores = logits(forward.train(batch, step=5))
        scores.square().sum().backward()
    return scores.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _distances(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> list[float]:
    """Relative, of the scores and of the gradient."""
    return [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
