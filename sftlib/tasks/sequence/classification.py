"""Sequence classification: one of ``K`` labels per sequence."""

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
from sftlib.tasks.sequence.letters import LetterTask
from sftlib.tasks.single_label import OneLabelTask, SingleLabel


@dataclass(frozen=True, kw_only=True)
class Learned(WeightedLabels, Form):
    """What training data decided."""


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceClassification(OneLabelTask, LetterTask):
    """One of ``K`` labels per sequence of DNA, RNA, a protein or a molecule, or per pair of them, by cross-entropy.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        learned: labels, weights, and whether rows are pairs; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> from sftlib import TaskDataset
        >>> data = TaskDataset({"sequence": ["ACGT", "GGTA"], "label": ["donor", "none"]})
        >>> data.task, SequenceClassification().learned_from(data).label_names
        ('sequence-classification', ('donor', 'none'))
    """

    name = "sequence-classification"
    family = ClassificationMetrics

    learned: Learned | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        labels = SingleLabel.learned_from(data, self.class_weights)
        return replace(self, learned=Learned(**labels, pair=self.has_pairs(data.roles)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        labels = SingleLabel.brought(names, self.class_weights)
        return replace(self, learned=Learned(**labels, pair=self.has_pairs(roles)))
