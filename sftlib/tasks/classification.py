"""Text classification: one of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.models.sources import Head
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.options import refuse_options
from sftlib.tasks.single_label import Classification, SingleLabel
from sftlib.tasks.text.texts import SequenceTask


@final
class TextClassification(SequenceTask):
    """Cross-entropy over ``K`` labels.

    Args:
        label_names: the labels in the order of the outputs.
        pair: whether rows have a second text.
        class_weights: a weight for each label, or None.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).

    Example:
        >>> task = TextClassification(label_names=("bad", "good"))
        >>> task.head.outputs, task.head.labels
        (2, ('bad', 'good'))
    """

    name = "text-classification"
    usual_metrics = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "mcc")
    family = ClassificationMetrics

    def __init__(
        self,
        *,
        label_names: Sequence[Label],
        pair: bool = False,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(pair=pair)
        self._labels = SingleLabel(label_names, weights=class_weights, smoothing=label_smoothing)

    @classmethod
    def for_data(cls, data: TaskDataset, options: Mapping[str, Any]) -> Self:
        refuse_options(cls.name, options, known=("class_weights", "label_smoothing"))
        return cls(pair="text_pair" in data.roles, **SingleLabel.for_data(data, options).config())

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)

    def config(self) -> dict[str, Any]:
        return {"pair": self.pair, **self._labels.config()}

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._labels.names

    @property
    def head(self) -> Head:
        return self._labels.head

    def check_targets(self, data: TaskDataset) -> None:
        self._labels.check(data)

    def targets(self, data: TaskDataset) -> NDArray[np.int64]:
        return self._labels.numbers(data)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        return self._labels.loss(self.scores(outputs, batch), batch.targets["target"])

    def decode(self, outputs: Any, batch: Batch) -> list[Classification]:
        return self._labels.decode(self.scores(outputs, batch))

    def references(self, data: TaskDataset) -> Sequence[Label]:
        labels: Sequence[Label] = data.column("label")
        return labels
