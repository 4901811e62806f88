"""AdamW with weight decay where it belongs."""

from __future__ import annotations

import math

import torch
from torch import nn

from sftlib.train.state import Training


def make_optimizer(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over the trained parameters; biases and norms (one-dimensional) are not decayed.

    Fused kernels are used where the device has them: one pass over the weights instead of a dozen.

    Args:
        model: lies on its device already.
        learning_rate: the schedule multiplies it.
        weight_decay: of matrices and embeddings (Loshchilov and Hutter, 2019).
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda", "mps") for p in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=fused)


def decay_factors(training: Training, weight_decay: float) -> list[float]:
    """What each step that was taken multiplied a decayed weight without gradient by."""
    last = training.step if training.weights_of is None else training.weights_of
    return [
        1.0 - record["learning_rate"] * weight_decay
        for record in training.history.steps
        if record["step"] <= last and math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])
    ]
