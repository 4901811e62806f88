"""Which tasks answer a row with one number."""

from __future__ import annotations

from sftlib.tasks.base import Task
from sftlib.tasks.regression import RegressionTask
from sftlib.tasks.sequence.regression import SequenceRegression


def has_one_number(task: Task) -> bool:
    """Whether a prediction of a task has one ``value``, so that it may have an interval; several targets have none.

    Example:
        >>> from sftlib import ImageRegression, TextClassification
        >>> has_one_number(ImageRegression()), has_one_number(TextClassification())
        (True, False)
    """
    if isinstance(task, SequenceRegression):
        return task.learned is not None and not task.learned.several
    return isinstance(task, RegressionTask)
