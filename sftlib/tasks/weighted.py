"""Rows that weigh more or less than others: a task around a task.

Letters: ``N`` rows, ``B`` rows of a micro-batch, ``K`` outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.tasks.around import Around
from sftlib.tasks.base import LossSum
from sftlib.tasks.vector import VectorTask


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Weighted(Around):
    """The inner task's own sum and count of each row, each times the weight of the row: the weighted mean, undivided.

    Args:
        inner: what rows are, and how they are read.
        weights: (N,) of the training rows, in their order, each above 0.
    """

    inner: VectorTask
    weights: NDArray[np.float32]

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found = self.inner.encode(data, encoder, columns)
        return found.with_targets({**found.targets, "weight": self.weights[found.owners]})

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        scores = self.inner.scores(outputs, batch)  # (B, K)
        weights = batch.targets["weight"].to(scores.dtype)  # (B,)
        alone = [self.inner.loss(scores[row : row + 1], _only(batch, row)) for row in range(len(scores))]
        totals, counts = (torch.stack([getattr(one, part) for one in alone]) for part in ("total", "count"))
        return LossSum((weights * totals).sum(), (weights * counts).sum())


def _only(batch: Batch, row: int) -> Batch:
    """One row of a batch, as a loss sees it."""
    targets = {name: value[row : row + 1] for name, value in batch.targets.items() if name != "weight"}
    return replace(batch, rows=batch.rows[row : row + 1], targets=targets)
