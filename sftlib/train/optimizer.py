"""AdamW with weight decay where it belongs."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn

from sftlib.train.state import Training


def make_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float, faster: Collection[str] = (), peak: float = 0.0
) -> torch.optim.Optimizer:
    """AdamW over the trained parameters; biases and norms (one-dimensional) are not decayed.

    Fused kernels are used where the device has them: one pass over the weights instead of a dozen.

    Args:
        model: lies on its device already.
        learning_rate: the schedule multiplies it.
        weight_decay: of matrices and embeddings (Loshchilov and Hutter, 2019).
        faster: names of parameters with a rate of their own.
        peak: that rate; groups of such parameters hold it under this name, and the schedule multiplies it.
    """
    trained = [(name in faster, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for fast, p in trained if fast is own and (p.dim() >= 2) is decayed],
            "weight_decay": weight_decay if decayed else 0.0,
            **({"peak": peak} if own else {}),
        }
        for own in (False, True)
        for decayed in (True, False)
    ]
    fused = all(p.device.type in ("cpu", "cuda", "mps") for _, p in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=fused)


def decay_factors(training: Training, weight_decay: float) -> list[float]:
    """What each step that was taken multiplied a decayed weight without gradient by."""
    last = training.step if training.weights_of is None else training.weights_of
    return [
        1.0 - record["learning_rate"] * weight_decay
        for record in training.history.steps
        if record["step"] <= last and math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])
    ]
