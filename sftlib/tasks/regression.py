"""Text regression: one number per text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import OptionError
from sftlib.metrics import Regression as RegressionMetrics
from sftlib.models.sources import Head
from sftlib.tasks.base import LossSum
from sftlib.tasks.options import refuse_options
from sftlib.tasks.text.texts import SequenceTask


@final
@dataclass(frozen=True)
class Regression:
    """A number.

    Attributes:
        value: in the units of the training targets.
    """

    value: float

    def __repr__(self) -> str:
        return f"Prediction(value={self.value:.6g})"


@final
class TextRegression(SequenceTask):
    """Squared error, or Huber's loss when ``huber_delta`` is given.

    The output is the number itself: targets are not rescaled, so that the saved model means the same elsewhere.
    Targets of a few units are learned best; scale wide ones beforehand.

    Args:
        pair: whether rows have a second text.
        huber_delta: error at which the loss turns from squared to linear (Huber, 1964), or None.

    Example:
        >>> TextRegression().head.outputs
        1
    """

    name = "text-regression"
    usual_metrics = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
    family = RegressionMetrics

    def __init__(self, *, pair: bool = False, huber_delta: float | None = None) -> None:
        super().__init__(pair=pair)
        self._delta = huber_delta

    @classmethod
    def for_data(cls, data: TaskDataset, options: Mapping[str, Any]) -> TextRegression:
        refuse_options(cls.name, options, known=("huber_delta",))
        delta = options.get("huber_delta")
        if delta is not None and not delta > 0:
            raise OptionError(f"huber_delta={delta!r}: expected a number above 0")
        return cls(pair="text_pair" in data.roles, huber_delta=delta)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TextRegression:
        return cls(**config)

    def config(self) -> dict[str, Any]:
        return {"pair": self.pair, "huber_delta": self._delta}

    @property
    def label_names(self) -> None:
        return None

    @property
    def head(self) -> Head:
        return Head(auto_class="AutoModelForSequenceClassification", outputs=1, problem_type="regression")

    def check_targets(self, data: TaskDataset) -> None:
        """Any finite number will do, and the data set has checked that."""

    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, 1) the numbers."""
        return np.fromiter(data.view("target"), np.float32, len(data))[:, None]

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed error; the count is the number of rows."""
        scores = self.scores(outputs, batch)
        target = batch.targets["target"].to(scores.dtype)  # (B, 1) both
        if self._delta is None:
            total = functional.mse_loss(scores, target, reduction="sum")
        else:
            total = functional.huber_loss(scores, target, reduction="sum", delta=self._delta)
        return LossSum(total, scores.new_tensor(len(target)))

    def decode(self, outputs: Any, batch: Batch) -> list[Regression]:
        return [Regression(value) for value in self.scores(outputs, batch)[:, 0].tolist()]

    def references(self, data: TaskDataset) -> Sequence[float]:
        targets: Sequence[float] = data.column("target")
        return targets
