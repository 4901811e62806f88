"""One of ``K`` labels per row: the head, the loss and the prediction of every task that has them.

Letters: ``B`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import LabelError
from sftlib.models.sources import Head
from sftlib.support.checking import share
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.labels import ClassWeights, WeightedLabels, check_labels, label_weights, weights_problems
from sftlib.tasks.vector import VectorTask, as_tensor


@final
@dataclass(frozen=True)
class Classification:
    """A label and how sure the model is.

    Attributes:
        label: the most probable label, of the labels' own type.
        probability: its probability, 0 to 1.
        probabilities: label -> probability, summing to 1.
        abstained: whether the probability is below what ``predict(..., abstain_below=...)`` asked for.
        labels: of ``predict(..., sets=True)`` the labels that may be true, the most probable first; else None.
    """

    label: Label
    probability: float
    probabilities: Mapping[Label, float] = field(repr=False, compare=False)
    abstained: bool = False
    labels: tuple[Label, ...] | None = None

    def __repr__(self) -> str:
        more = ", abstained=True" if self.abstained else ""
        more += "" if self.labels is None else f", labels={self.labels!r}"
        return f"Prediction(label={self.label!r}, probability={self.probability:.4g}{more})"


@final
@dataclass(frozen=True)
class SingleLabel:
    """Cross-entropy over labels that exclude each other.

    Attributes:
        names: the labels in the order of the outputs.
        weights: a weight for each label, or None.
        smoothing: share of the target spread over all labels (Szegedy et al., 2016).
    """

    names: tuple[Label, ...]
    weights: tuple[float, ...] | None = None
    smoothing: float = 0.0

    @staticmethod
    def learned_from(data: TaskDataset, class_weights: ClassWeights) -> dict[str, Any]:
        """The fields of `WeightedLabels` for training data.

        Raises:
            LabelError: all rows have the same label.
            OptionError: weights that do not fit the labels.
        """
        labels, names = data.column("label"), data.label_names or ()
        if len(set(labels)) < 2:
            raise LabelError(
                f"column {data.roles['label']!r}: all {len(labels):,} rows have the label {labels[0]!r}; "
                "classification needs at least two labels in the training data"
            )
        return {"label_names": names, "class_weights": label_weights(class_weights, labels, names)}

    @staticmethod
    def brought(names: Sequence[Label], class_weights: ClassWeights) -> dict[str, Any]:
        """The fields of `WeightedLabels` for a model that has its labels; without rows none is rarer than another.

        Raises:
            OptionError: weights that do not fit the labels.
        """
        given = class_weights if isinstance(class_weights, Mapping) else None
        return {"label_names": tuple(names), "class_weights": label_weights(given, (), names)}

    def head(self, auto_class: str) -> Head:
        """A classification head of a model that transformers opens by this class."""
        return Head(
            auto_class=auto_class,
            outputs=len(self.names),
            problem_type="single_label_classification",
            labels=tuple(str(name) for name in self.names),
        )

    def check(self, data: TaskDataset) -> None:
        """Refuse labels that are not known.

        Raises:
            LabelError: every one of them.
        """
        check_labels(data.column("label"), self.names, column=data.roles["label"])

    def numbers(self, data: TaskDataset) -> NDArray[np.int64]:
        """(N,) the number of each row's label."""
        number = {name: i for i, name in enumerate(self.names)}
        return np.fromiter((number[label] for label in data.view("label")), np.int64, len(data))

    def loss(self, scores: Tensor, target: Tensor) -> LossSum:
        """Weighted, smoothed cross-entropy as torch defines it: the weighted mean, before its division.

        The count is the sum of the weights of the rows' labels; the number of rows without weights. A row that is
        partly of one label and partly of another counts for each by its share.

        Args:
            scores: (B, K)
            target: (B,), or (B, K) the share of each label.
        """
        weights = as_tensor(self.weights, scores)
        target = target.to(scores.dtype) if target.is_floating_point() else target
        total = functional.cross_entropy(
            scores, target, weight=weights, label_smoothing=self.smoothing, reduction="sum"
        )
        if weights is None:
            return LossSum(total, scores.new_full((), len(target)))
        return LossSum(total, (target * weights).sum() if target.is_floating_point() else weights[target].sum())

    def decode(self, scores: Tensor) -> list[Classification]:
        """The label of each row.

        Args:
            scores: (B, K)
        """
        probabilities = torch.softmax(scores, dim=-1)  # (B, K)
        best, rows = probabilities.argmax(dim=-1).tolist(), probabilities.tolist()
        return [
            Classification(self.names[k], row[k], dict(zip(self.names, row, strict=True)))
            for k, row in zip(best, rows, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, repr=False)
class OneLabelTask(VectorTask):
    """One of ``K`` labels per row, by cross-entropy, whatever the row is made of.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
    """

    usual_metrics = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "mcc")

    class_weights: ClassWeights = None
    label_smoothing: float = 0.0
    learned: WeightedLabels | None = None

    def problems(self) -> Iterable[Problem]:
        return [*weights_problems(self.class_weights), share("label_smoothing", self.label_smoothing)]

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=WeightedLabels(**SingleLabel.learned_from(data, self.class_weights)))

    @cached_property
    def _labels(self) -> SingleLabel:
        return SingleLabel(self.known.label_names, self.known.class_weights, self.label_smoothing)

    @final
    @property
    def head(self) -> Head:
        return self._labels.head(self.auto_class)

    @final
    def check_targets(self, data: TaskDataset) -> None:
        self._labels.check(data)

    @final
    def targets(self, data: TaskDataset) -> NDArray[np.int64]:
        return self._labels.numbers(data)

    @final
    def units(self, data: TaskDataset) -> float:
        weights = self._labels.weights
        return float(len(data) if weights is None else sum(weights[number] for number in self.targets(data).tolist()))

    @final
    def shares(self, target: Tensor) -> Tensor:
        """(B, K) 1 for the label of each row."""
        return functional.one_hot(target, len(self.known.label_names)).to(torch.float32)

    @final
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        return self._labels.loss(self.scores(outputs, batch), batch.targets["target"])

    @final
    def decode(self, outputs: Any, batch: Batch) -> list[Classification]:
        return self._labels.decode(self.scores(outputs, batch))

    @final
    def references(self, data: TaskDataset) -> Sequence[Label]:
        labels: Sequence[Label] = data.column("label")
        return labels
