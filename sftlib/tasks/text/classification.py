"""Text classification: one of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self, final

from sftlib.data.dataset import TaskDataset
from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.support.checking import checked_fields
from sftlib.tasks.base import Label
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.pairs import Form
from sftlib.tasks.single_label import OneLabelTask, SingleLabel
from sftlib.tasks.text.texts import SequenceTask


@dataclass(frozen=True, kw_only=True)
class Learned(WeightedLabels, Form):
    """What training data decided."""


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class TextClassification(OneLabelTask, SequenceTask):
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
    told_by = (None, "single_label_classification")
    family = ClassificationMetrics

    learned: Learned | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        labels = SingleLabel.learned_from(data, self.class_weights)
        return replace(self, learned=Learned(**labels, pair=self.has_pairs(data.roles)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        labels = SingleLabel.brought(names, self.class_weights)
        return replace(self, learned=Learned(**labels, pair=self.has_pairs(roles)))
