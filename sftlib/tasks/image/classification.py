"""Image classification: one of ``K`` labels per picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.support.checking import checked_fields
from sftlib.tasks.image.pictures import PictureTask
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.single_label import OneLabelTask


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class ImageClassification(OneLabelTask, PictureTask):
    """One of ``K`` labels per picture, by cross-entropy.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        learned: labels and weights; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> ImageClassification(label_smoothing=0.1)
        ImageClassification(label_smoothing=0.1)
    """

    name = "image-classification"
    told_by = (None, "single_label_classification")
    auto_class = "AutoModelForImageClassification"
    family = ClassificationMetrics

    learned: WeightedLabels | None = None
