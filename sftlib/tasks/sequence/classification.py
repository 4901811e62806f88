"""Sequence classification: one of ``K`` labels per sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.support.checking import checked_fields
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.sequence.letters import LetterTask
from sftlib.tasks.single_label import OneLabelTask


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceClassification(OneLabelTask, LetterTask):
    """One of ``K`` labels per sequence of DNA, RNA, a protein or a molecule, by cross-entropy.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        learned: labels and weights; from the training data.

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

    learned: WeightedLabels | None = None
