"""AdamW with weight decay where it belongs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import nn

from sftlib.train.held import Whole
from sftlib.train.state import Training

#: Of a group of parameters: the peak of its own learning rate, where that is not the run's.
PEAK = "peak"


def make_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    peaks: Mapping[str, float] = MappingProxyType({}),
    parameters: Sequence[tuple[str, nn.Parameter]] | None = None,
) -> torch.optim.Optimizer:
    """AdamW over the trained parameters; biases and norms (one-dimensional) are not decayed.

    Fused kernels are used where the device has them: one pass over the weights instead of a dozen.

    Args:
        model: lies on its device already.
        learning_rate: the schedule multiplies it.
        weight_decay: of matrices and embeddings (Loshchilov and Hutter, 2019).
        peaks: name of a parameter -> its own rate, in place of ``learning_rate``.
        parameters: what is trained of the model, by name, where it is held elsewhere (`sftlib.train.held`).
    """
    named = Whole().trained(model) if parameters is None else parameters
    trained = [(peaks.get(name, learning_rate), p) for name, p in named]
    groups = [
        {
            "params": [p for own, p in trained if own == peak and (p.dim() >= 2) == decayed],
            "weight_decay": weight_decay if decayed else 0.0,
            **({} if peak == learning_rate else {PEAK: peak}),
        }
        for peak in dict.fromkeys(own for own, _ in trained)
        for decayed in (True, False)
    ]
    fused = all(p.device.type in ("cpu", "cuda", "mps") for _, p in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=fused)


def decay_factors(training: Training, weight_decay: float, share: float = 1.0) -> list[float]:
    """What each step that was taken multiplied a decayed weight without gradient by.

    Args:
        training: so far.
        weight_decay: of the optimizer.
        share: of the run's learning rate that this weight has.
    """
    last = training.step if training.weights_of is None else training.weights_of
    return [
        1.0 - record["learning_rate"] * share * weight_decay
        for record in training.history.steps
        if record["step"] <= last and math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])
    ]
