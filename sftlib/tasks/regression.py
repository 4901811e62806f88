"""One number per row: the loss and the prediction of every task that has one.

Letters: ``N`` rows, ``B`` rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.metrics import Regression as RegressionMetrics
from sftlib.models.sources import Head
from sftlib.support.checking import above_zero
from sftlib.support.values import Problem
from sftlib.tasks.base import LossSum
from sftlib.tasks.vector import VectorTask


@final
@dataclass(frozen=True)
class Regression:
    """A number.

    Attributes:
        value: in the units of the training targets.
        low: of ``predict(..., sets=True)`` the lower end of the interval; else None.
        high: the upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __repr__(self) -> str:
        more = "" if self.low is None else f", low={self.low:.6g}, high={self.high:.6g}"
        return f"Prediction(value={self.value:.6g}{more})"


@dataclass(frozen=True, kw_only=True, repr=False)
class RegressionTask(VectorTask):
    """A number per row, by squared error, or Huber's loss when ``huber_delta`` is given, whatever the row is made of.

    Args:
        huber_delta: error at which the loss turns from squared to linear (Huber, 1964), or None.
    """

    usual_metrics = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
    family = RegressionMetrics

    huber_delta: float | None = None

    def problems(self) -> Iterable[Problem]:
        delta = self.huber_delta
        return [delta is not None and above_zero("huber_delta", delta, otherwise="None for squared error")]

    @final
    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, outputs=1, problem_type="regression")

    @final
    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, 1) the numbers."""
        return np.fromiter(data.view("target"), np.float32, len(data))[:, None]

    @final
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed error; the count is the number of rows."""
        scores = self.scores(outputs, batch)
        target = batch.targets["target"].to(scores.dtype)  # (B, 1) both
        if self.huber_delta is None:
            total = functional.mse_loss(scores, target, reduction="sum")
        else:
            total = functional.huber_loss(scores, target, reduction="sum", delta=self.huber_delta)
        return LossSum(total, scores.new_full((), len(target)))

    @final
    def decode(self, outputs: Any, batch: Batch) -> list[Regression]:
        return [Regression(value) for value in self.scores(outputs, batch)[:, 0].tolist()]

    @final
    def references(self, data: TaskDataset) -> Sequence[float]:
        targets: Sequence[float] = data.column("target")
        return targets
