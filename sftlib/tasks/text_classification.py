"""Text classification: one of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sftlib.data.collate import Batch
from sftlib.data.dataset import TaskDataset
from sftlib.errors import LabelError
from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.models.backbone import Head
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.labels import check_labels
from sftlib.tasks.options import label_weights, refuse_options
from sftlib.tasks.sequence import SequenceTask, as_tensor


@final
@dataclass(frozen=True)
class Classification:
    """A label and how sure the model is.

    Attributes:
        label: the most probable label, of the labels' own type.
        probability: its probability, 0 to 1.
        probabilities: label -> probability, summing to 1.
    """

    label: Label
    probability: float
    probabilities: Mapping[Label, float] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Prediction(label={self.label!r}, probability={self.probability:.4g})"


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
        self._label_names = tuple(label_names)
        self._weights = None if class_weights is None else tuple(class_weights)
        self._smoothing = label_smoothing

    @classmethod
    def for_data(cls, data: TaskDataset, options: Mapping[str, Any]) -> TextClassification:
        refuse_options(cls.name, options, known=("class_weights", "label_smoothing"))
        labels = data.column("label")
        names = data.label_names or ()
        if len(set(labels)) < 2:
            raise LabelError(
                f"column {data.roles['label']!r}: all {len(labels):,} rows have the label {labels[0]!r}; "
                "classification needs at least two labels in the training data"
            )
        return cls(
            label_names=names,
            pair="text_pair" in data.roles,
            class_weights=label_weights(options.get("class_weights"), labels, names),
            label_smoothing=options.get("label_smoothing", 0.0),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TextClassification:
        return cls(**config)

    def config(self) -> dict[str, Any]:
        return {
            "label_names": list(self._label_names),
            "pair": self.pair,
            "class_weights": None if self._weights is None else list(self._weights),
            "label_smoothing": self._smoothing,
        }

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._label_names

    @property
    def head(self) -> Head:
        return Head(
            auto_class="AutoModelForSequenceClassification",
            outputs=len(self._label_names),
            problem_type="single_label_classification",
            labels=tuple(str(name) for name in self._label_names),
        )

    def check_targets(self, data: TaskDataset) -> None:
        check_labels(data.column("label"), self._label_names, column=data.roles["label"])

    def targets(self, data: TaskDataset) -> NDArray[np.int64]:
        """(N,) the number of each row's label."""
        number = {name: i for i, name in enumerate(self._label_names)}
        return np.fromiter((number[label] for label in data.view("label")), np.int64, len(data))

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Weighted, smoothed cross-entropy as torch defines it: the weighted mean, before its division.

        The count is the sum of the weights of the rows' labels; the number of rows without weights.
        """
        scores, target = self.scores(outputs, batch), batch.targets["target"]  # (B, K), (B,)
        weights = as_tensor(self._weights, scores)
        total = functional.cross_entropy(
            scores, target, weight=weights, label_smoothing=self._smoothing, reduction="sum"
        )
        count = scores.new_tensor(len(target)) if weights is None else weights[target].sum()
        return LossSum(total, count)

    def decode(self, outputs: Any, batch: Batch) -> list[Classification]:
        probabilities = torch.softmax(self.scores(outputs, batch), dim=-1)  # (B, K)
        best, rows = probabilities.argmax(dim=-1).tolist(), probabilities.tolist()
        names = self._label_names
        return [
            Classification(names[k], row[k], dict(zip(names, row, strict=True)))
            for k, row in zip(best, rows, strict=True)
        ]

    def references(self, data: TaskDataset) -> Sequence[Label]:
        labels: Sequence[Label] = data.column("label")
        return labels
