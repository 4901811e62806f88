"""Evaluation and prediction: sorted by length inside, in input order outside, the same answer for any batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.data.batching import cut
from sftlib.data.collate import Batch
from sftlib.data.encoded import Encoded
from sftlib.metrics import Metrics
from sftlib.models.tokenizer import TextEncoder
from sftlib.tasks.base import Task
from sftlib.train.forward import Forward


@final
@dataclass(frozen=True)
class Budget:
    """How much one pass may hold.

    Attributes:
        rows: at most.
        tokens: rows times the longest row, at most.
    """

    rows: int
    tokens: int

    def cut(self, rows: NDArray[np.int64], encoded: Encoded) -> list[NDArray[np.int64]]:
        """Cut rows into parts of like length that keep to the budget."""
        return cut(rows, encoded.lengths, max_rows=self.rows, max_tokens=self.tokens)


@final
class Inference:
    """Runs a model over encoded rows without gradients.

    Args:
        forward: calls the model.
        task: turns outputs into losses and predictions.
        encoder: knows what fills up a row.
        budget: of one pass.
    """

    def __init__(self, forward: Forward, task: Task, encoder: TextEncoder, budget: Budget) -> None:
        self._forward = forward
        self._task = task
        self._encoder = encoder
        self._budget = budget

    def predict(self, encoded: Encoded) -> list[Any]:
        """One prediction per row, in the order of the rows."""
        found: list[Any] = [None] * len(encoded)
        for rows, batch, outputs in self._passes(encoded):
            for row, prediction in zip(rows.tolist(), self._task.decode(outputs, batch), strict=True):
                found[row] = prediction
        return found

    def evaluate(self, encoded: Encoded, references: Sequence[Any], metrics: Metrics) -> Metrics:
        """Fill metrics with every row.

        Args:
            encoded: labelled rows.
            references: one per row.
            metrics: empty; is returned.
        """
        totals, counts = [0.0], [0.0]
        for rows, batch, outputs in self._passes(encoded):
            total, count = self._task.loss(outputs, batch)
            totals.append(float(total))
            counts.append(float(count))
            metrics.update(self._task.decode(outputs, batch), [references[row] for row in rows.tolist()])
        metrics.update([], [], loss_sum=math.fsum(totals), count=math.fsum(counts))
        return metrics

    def _passes(self, encoded: Encoded) -> Iterator[tuple[NDArray[np.int64], Batch, Any]]:
        self._forward.model.eval()
        with torch.inference_mode():
            for rows in self._budget.cut(np.arange(len(encoded)), encoded):
                batch = self._task.collate(encoded, rows, self._encoder).to(self._forward.device)
                yield rows, batch, self._forward(batch)
