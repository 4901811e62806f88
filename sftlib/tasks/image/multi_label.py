"""Multi-label image classification: any number of ``K`` labels per picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from sftlib.support.checking import checked_fields
from sftlib.support.values import Problem
from sftlib.tasks.image.pictures import PictureTask
from sftlib.tasks.labels import SeveralLabels
from sftlib.tasks.multi_label import MultiLabelTask


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class MultiLabelImageClassification(MultiLabelTask, PictureTask):
    """Any of ``K`` labels per picture, by binary cross-entropy averaged over rows and labels.

    Args:
        output_layer: of a module of your own, the name of its last layer; see `ImageClassification`.
        thresholds: the probability from which a label is given: a number for all, label -> number, or ``"valid"`` for
            those under which the F1 of each label is highest on the validation rows; one half when None.
        class_weights: ``"balanced"``, or label -> weight: how much a yes for a label counts beside a no.
        learned: labels, thresholds and weights; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> import numpy as np
        >>> from sftlib import TaskDataset
        >>> black = np.zeros((8, 8), np.uint8)
        >>> data = TaskDataset({"image": [black, 255 - black], "labels": [[], ["light", "plain"]]})
        >>> MultiLabelImageClassification().learned_from(data).head.labels
        ('light', 'plain')
    """

    name = "multi-label-image-classification"
    auto_class = "AutoModelForImageClassification"
    usual_metrics = ("map", "subset_accuracy", "hamming", "f1_micro", "f1_macro", "f1_samples")

    learned: SeveralLabels | None = None

    def problems(self) -> Iterable[Problem]:
        return [*super().problems(), self.layer_problem()]
