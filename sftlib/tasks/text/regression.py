"""Text regression: one number per text or pair of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sftlib.support.checking import checked_fields
from sftlib.tasks.regression import RegressionTask
from sftlib.tasks.text.texts import SequenceTask


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class TextRegression(RegressionTask, SequenceTask):
    """A number per text or pair of texts, by squared error, or Huber's loss when ``huber_delta`` is given.

    The output is the number itself: targets are not rescaled, so that the saved model means the same elsewhere.
    Targets of a few units are learned best; scale wide ones beforehand.

    Args:
        huber_delta: error at which the loss turns from squared to linear (Huber, 1964), or None.
        learned: whether rows are pairs; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> TextRegression(huber_delta=1.0).head.outputs
        1
    """

    name = "text-regression"
    told_by = ("regression",)
