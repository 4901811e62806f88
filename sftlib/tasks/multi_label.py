"""Any number of ``K`` labels per row: the head, the loss and the prediction of every task that has them.

Letters: ``N`` rows, ``B`` rows of a batch, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

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
from sftlib.tasks.labels import Labels, check_labels
from sftlib.tasks.vector import VectorTask


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


@dataclass(frozen=True, kw_only=True, repr=False)
class MultiLabelTask(VectorTask):
    """Any of ``K`` labels per row, by binary cross-entropy averaged over rows and labels, whatever a row is made of."""

    usual_metrics = ("subset_accuracy", "hamming", "f1_micro", "f1_macro", "f1_samples")
    family = MultiLabelMetrics

    learned: Labels | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=Labels(label_names=labels_of(data)))

    @property
    def _label_names(self) -> tuple[Label, ...]:
        names: tuple[Label, ...] = self.known.label_names
        return names

    @final
    @property
    def head(self) -> Head:
        return Head(
            auto_class=self.auto_class,
            outputs=len(self._label_names),
            problem_type="multi_label_classification",
            labels=tuple(str(name) for name in self._label_names),
        )

    @final
    def check_targets(self, data: TaskDataset) -> None:
        check_labels(data.column("labels"), self._label_names, column=data.roles["labels"])

    @final
    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, K) 1 where a row has the label."""
        number = {name: k for k, name in enumerate(self._label_names)}
        hot = np.zeros((len(data), len(number)), dtype=np.float32)
        for row, labels in zip(hot, data.column("labels"), strict=True):
            row[[number[label] for label in labels]] = 1.0
        return hot

    @final
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed binary cross-entropy; the count is rows times labels."""
        scores = self.scores(outputs, batch)
        target = batch.targets["target"].to(scores.dtype)  # (B, K) both
        total = functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")
        return LossSum(total, scores.new_tensor(target.numel()))

    @final
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

    @final
    def references(self, data: TaskDataset) -> Sequence[Sequence[Label]]:
        labels: Sequence[Sequence[Label]] = data.column("labels")
        return labels


def labels_of(data: TaskDataset) -> tuple[Label, ...]:
    """The labels of training data.

    Raises:
        LabelError: no row has any.
    """
    if not data.label_names or not any(data.column("labels")):
        raise LabelError(f"column {data.roles['labels']!r}: no row has any label; there is nothing to learn")
    return data.label_names
