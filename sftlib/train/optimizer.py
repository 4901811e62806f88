"""AdamW with weight decay where it belongs."""

from __future__ import annotations

import torch
from torch import nn


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
