"""Text classification: one of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, share
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.labels import ClassWeights, WeightedLabels, weights_problems
from sftlib.tasks.single_label import Classification, SingleLabel
from sftlib.tasks.text.texts import Form, SequenceTask


@dataclass(frozen=True, kw_only=True)
class Learned(WeightedLabels, Form):
    """What training data decided."""


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class TextClassification(SequenceTask):
    """One of ``K`` labels per text or pair of texts, by cross-entropy.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        learned: labels, weights, and whether rows are pairs; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> task = TextClassification(label_smoothing=0.1)
        >>> task
        TextClassification(label_smoothing=0.1)
        >>> task.learned_from(TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})).label_names
        ('bad', 'good')
    """

    name = "text-classification"
    usual_metrics = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "mcc")
    family = ClassificationMetrics

    class_weights: ClassWeights = None
    label_smoothing: float = 0.0
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        return [*weights_problems(self.class_weights), share("label_smoothing", self.label_smoothing)]

    def learned_from(self, data: TaskDataset) -> Self:
        labels = SingleLabel.learned_from(data, self.class_weights)
        return replace(self, learned=Learned(**labels, pair="text_pair" in data.roles))

    @cached_property
    def _labels(self) -> SingleLabel:
        return SingleLabel(self.known.label_names, self.known.class_weights, self.label_smoothing)

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
