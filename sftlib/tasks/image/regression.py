"""Image regression: one number per picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from sftlib.support.checking import checked_fields
from sftlib.support.values import Problem
from sftlib.tasks.image.pictures import PictureTask
from sftlib.tasks.regression import RegressionTask


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class ImageRegression(RegressionTask, PictureTask):
    """A number per picture, by squared error, or Huber's loss when ``huber_delta`` is given.

    The output is the number itself: targets are not rescaled, so that the saved model means the same elsewhere.
    Targets of a few units are learned best; scale wide ones beforehand.

    Args:
        huber_delta: error at which the loss turns from squared to linear (Huber, 1964), or None.
        output_layer: of a module of your own, the name of its last layer; see `ImageClassification`.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> ImageRegression(huber_delta=1.0).head.outputs
        1
    """

    name = "image-regression"
    auto_class = "AutoModelForImageClassification"

    def problems(self) -> Iterable[Problem]:
        return [*super().problems(), self.layer_problem()]
