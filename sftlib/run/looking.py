"""What lies between a model's inputs and its answers: raw scores, and what its body makes of rows.

Letters: ``N`` rows, ``B`` rows of a pass, ``T`` positions, ``H`` width, ``K`` outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.layouts.layout import SideBySide
from sftlib.models.structure import body_of, hooked
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.tasks.vector import VectorTask


def scores_of(fitted: Fitted, data: TaskDataset) -> NDArray[np.float64]:
    """(N, K) what the model's head says of each row, before any softmax.

    Raises:
        OptionError: a task whose rows have no scores of their own.
    """
    encoded = fitted.encode(data)
    ready, task = settled(fitted, encoded), fitted.task
    if not isinstance(task, VectorTask):
        raise OptionError(f"{task.name} has no scores of whole rows")
    found: NDArray[np.float64] = np.empty((len(encoded), task.head.outputs or 0))
    forward = ready.forward()
    fitted.model.eval()
    with forward.prepared(), torch.no_grad():
        for rows, batch in ready.feed(encoded).everything():
            found[rows] = task.scores(forward(batch), batch).double().cpu().numpy()
    return found


def features_of(fitted: Fitted, encoded: Encoded) -> NDArray[np.float32]:
    """(N, H) what the body makes of each row: the mean of its hidden states over the row.

    Raises:
        OptionError: a model whose body cannot be told from its head.
    """
    body = body_of(fitted.model)
    if body is None:
        raise OptionError(f"{type(fitted.model).__name__}: its body cannot be told from its head")
    found: list[Tensor] = []
    forward = fitted.forward(SideBySide())
    parts: list[tuple[NDArray[np.int64], Tensor]] = []
    fitted.model.eval()

    def keep(_: nn.Module, __: Any, outputs: Any) -> None:
        found.append(_hidden(outputs))

    with forward.prepared(), torch.no_grad(), hooked([body.register_forward_hook(keep)]):
        for rows, batch in fitted.feed(encoded).everything():
            found.clear()
            forward(batch)
            parts.append((rows, _mean(found[-1], batch.inputs.get("attention_mask")).float().cpu()))
    features: NDArray[np.float32] = np.empty((len(encoded), parts[0][1].shape[1]), np.float32)
    for rows, part in parts:
        features[rows] = part.numpy()
    return features


def _hidden(outputs: Any) -> Tensor:
    hidden = getattr(outputs, "last_hidden_state", None)
    if hidden is None:
        hidden = outputs[0] if isinstance(outputs, tuple) else outputs
    if not isinstance(hidden, Tensor):
        raise OptionError(f"the body returned {type(outputs).__name__} without hidden states")
    return hidden


def _mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """(B, H) of (B, T, H), of (B, H, height, width) as convolutions have it, or of (B, H)."""
    if hidden.dim() == 4:
        return hidden.mean(dim=(2, 3))
    if hidden.dim() == 2:
        return hidden
    if mask is None or mask.shape != hidden.shape[:2]:
        return hidden.mean(dim=1)
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
