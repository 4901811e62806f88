"""Two models on the same rows: how often they say the same, and how fast each is beside the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sftlib.selection.paired import has_rows
from sftlib.tasks.base import Task
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.regression import RegressionTask

_NEAR = 0.1  # standard deviations
_ROUNDS = 3


def agreement(task: Task, first: Sequence[Any], second: Sequence[Any]) -> float:
    """The share of rows of which both say the same: the label, all labels, or nearly the same number.

    Numbers are the same when less than a tenth of the standard deviation of the first lies between them.

    Args:
        task: whose predictions they are.
        first: one prediction a row.
        second: of the same rows.
    """
    if isinstance(task, RegressionTask):
        one, two = (np.array([found.value for found in part]) for part in (first, second))
        return float((np.abs(one - two) <= _NEAR * max(float(one.std()), 1e-12)).mean())
    said = "labels" if isinstance(task, MultiLabelTask) else "label"
    same = [getattr(one, said) == getattr(two, said) for one, two in zip(first, second, strict=True)]
    return float(np.mean(same))


def first_metric(task: Task) -> str:
    """The first of a task's usual metrics that is a function of predictions."""
    return next(name for name in task.usual_metrics if has_rows(name))


def seconds_of(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The least time that each call took, in rounds that ask one after the other: what slows one slows all."""
    for call in calls.values():
        call()
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            found[name] = min(found[name], time.perf_counter() - started)
    return found
