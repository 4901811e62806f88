"""Multi-label classification: any number of ``K`` labels per text or pair of texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, final

from sftlib.data.dataset import TaskDataset
from sftlib.support.checking import checked_fields
from sftlib.tasks.labels import Labels
from sftlib.tasks.multi_label import MultiLabelTask, labels_of
from sftlib.tasks.text.texts import Form, SequenceTask


@dataclass(frozen=True, kw_only=True)
class Learned(Labels, Form):
    """What training data decided."""


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class MultiLabelClassification(MultiLabelTask, SequenceTask):
    """Any of ``K`` labels per text or pair of texts, by binary cross-entropy averaged over rows and labels.

    Args:
        learned: labels, and whether rows are pairs; from the training data.

    Raises:
        OptionError: there is no such option.

    Example:
        >>> data = TaskDataset({"text": ["Ha!", "Oh."], "labels": [["fun"], ["sad"]]})
        >>> MultiLabelClassification().learned_from(data).head.problem_type
        'multi_label_classification'
    """

    name = "multi-label-classification"

    learned: Learned | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=Learned(label_names=labels_of(data), pair="text_pair" in data.roles))
