"""Image classification: one of ``K`` labels per picture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self, final

from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.support.checking import checked_fields
from sftlib.support.values import Problem
from sftlib.tasks.base import Label
from sftlib.tasks.image.pictures import PictureTask
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.single_label import OneLabelTask, SingleLabel

_OF_MANY = 5  # labels beyond which it says something that the true one is among the first five


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class ImageClassification(OneLabelTask, PictureTask):
    """One of ``K`` labels per picture, by cross-entropy.

    Args:
        class_weights: ``"balanced"``, ``"sqrt"`` (half-way there), or label -> weight: how much the
            rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        output_layer: of a module of your own, the dotted name of its last layer, such as ``"classifier.1"``: it is made
            anew with an output for each label. Without it a layer is replaced only where it is certain which one.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learned is not None and len(self.learned.label_names) > _OF_MANY:
            vars(self).update(usual_metrics=(*type(self).usual_metrics, "top_5_accuracy"))

    def problems(self) -> Iterable[Problem]:
        return [*super().problems(), self.layer_problem()]

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=WeightedLabels(**SingleLabel.brought(names, self.class_weights)))
