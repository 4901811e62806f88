"""Multi-label classification: any number of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import LabelError
from sftlib.metrics import MultiLabel as MultiLabelMetrics
from sftlib.models.sources import Head
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.labels import check_labels
from sftlib.tasks.options import refuse_options
from sftlib.tasks.text.texts import SequenceTask


@final
@dataclass(frozen=True)
class MultiLabel:
    """The labels whose probability reaches one half.

    Attributes:
        labels: in the order of the task's label names; may be empty.
        probabilities: label -> probability, each between 0 and 1 for itself.
    """

    labels: tuple[Label, ...]
    probabilities: Mapping[Label, float] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        sure = ", ".join(f"{name!r}: {self.probabilities[name]:.4g}" for name in self.labels)
        return f"Prediction(labels={{{sure}}})"


@final
class MultiLabelClassification(SequenceTask):
    """Binary cross-entropy for each of ``K`` labels, averaged over rows and labels as torch does.

    Args:
        label_names: the labels in the order of the outputs.
        pair: whether rows have a second text.

    Example:
        >>> MultiLabelClassification(label_names=("fun", "sad")).head.problem_type
        'multi_label_classification'
    """

    name = "multi-label-classification"
    usual_metrics = ("subset_accuracy", "hamming", "f1_micro", "f1_macro", "f1_samples")
    family = MultiLabelMetrics

    def __init__(self, *, label_names: Sequence[Label], pair: bool = False) -> None:
        super().__init__(pair=pair)
        self._label_names = tuple(label_names)

    @classmethod
    def for_data(cls, data: TaskDataset, options: Mapping[str, Any]) -> MultiLabelClassification:
        refuse_options(cls.name, options, known=())
        if not data.label_names or not any(data.column("labels")):
            raise LabelError(f"column {data.roles['labels']!r}: no row has any label; there is nothing to learn")
        return cls(label_names=data.label_names, pair="text_pair" in data.roles)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MultiLabelClassification:
        return cls(**config)

    def config(self) -> dict[str, Any]:
        return {"label_names": list(self._label_names), "pair": self.pair}

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._label_names

    @property
    def head(self) -> Head:
        return Head(
            auto_class="AutoModelForSequenceClassification",
            outputs=len(self._label_names),
            problem_type="multi_label_classification",
            labels=tuple(str(name) for name in self._label_names),
        )

    def check_targets(self, data: TaskDataset) -> None:
        check_labels(data.column("labels"), self._label_names, column=data.roles["labels"])

    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, K) 1 where a row has the label."""
        number = {name: k for k, name in enumerate(self._label_names)}
        hot = np.zeros((len(data), len(number)), dtype=np.float32)
        for row, labels in zip(hot, data.column("labels"), strict=True):
            row[[number[label] for label in labels]] = 1.0
        return hot

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed binary cross-entropy; the count is rows times labels."""
        scores = self.scores(outputs, batch)
        target = batch.targets["target"].to(scores.dtype)  # (B, K) both
        total = functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")
        return LossSum(total, scores.new_tensor(target.numel()))

    def decode(self, outputs: Any, batch: Batch) -> list[MultiLabel]:
        rows = torch.sigmoid(self.scores(outputs, batch)).tolist()  # (B, K)
        names = self._label_names
        return [
            MultiLabel(
                tuple(name for name, value in zip(names, row, strict=True) if value >= 0.5),
                dict(zip(names, row, strict=True)),
            )
            for row in rows
        ]

    def references(self, data: TaskDataset) -> Sequence[Sequence[Label]]:
        labels: Sequence[Sequence[Label]] = data.column("labels")
        return labels
