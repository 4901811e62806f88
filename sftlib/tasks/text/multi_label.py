"""Multi-label classification: any number of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self, final

from sftlib.data.dataset import TaskDataset
from sftlib.support.checking import checked_fields
from sftlib.tasks.base import Label
from sftlib.tasks.labels import SeveralLabels
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.pairs import Form
from sftlib.tasks.text.texts import SequenceTask


@dataclass(frozen=True, kw_only=True)
class Learned(SeveralLabels, Form):
    """What training data decided."""


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class MultiLabelClassification(MultiLabelTask, SequenceTask):
    """Any of ``K`` labels per text or pair of texts, by binary cross-entropy averaged over rows and labels.

    Args:
        thresholds: the probability from which a label is given: a number for all, label -> number, or ``"valid"`` for
            those under which the F1 of each label is highest on the validation rows, chosen when a run is over; one
            half when None.
        class_weights: ``"balanced"``, or label -> weight: how much a yes for a label counts beside a no.
        learned: labels, thresholds, weights, and whether rows are pairs; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> data = TaskDataset({"text": ["Ha!", "Oh."], "labels": [["fun"], ["sad"]]})
        >>> MultiLabelClassification().learned_from(data).head.problem_type
        'multi_label_classification'
    """

    name = "multi-label-classification"
    told_by = ("multi_label_classification",)

    learned: Learned | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=Learned(**self.facts_of(data), pair=self.has_pairs(data.roles)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=Learned(**self.facts_by_hand(names), pair=self.has_pairs(roles)))
