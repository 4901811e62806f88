"""Predictions that say more: that no answer is given, which labels are possible, between which numbers it lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sftlib.support.checking import raise_together, real_number, true_or_false
from sftlib.sure.conformal import label_set
from sftlib.sure.numbers import has_one_number
from sftlib.tasks.base import Task
from sftlib.tasks.single_label import OneLabelTask


def saying_more(
    task: Task, settings: Mapping[str, Any], *, abstain_below: float | None, sets: bool
) -> Callable[[Sequence[Any]], list[Any]]:
    """A function that adds to predictions what is asked for beside; label and probability stay as they are.

    Args:
        task: whose predictions they are.
        settings: of the model.
        abstain_below: the probability below which no answer is given.
        sets: whether sets, or intervals, are wanted.

    Raises:
        OptionError: what cannot be said of them, all of it at once, before anything is computed.
    """
    _check(task, settings, abstain_below, sets)
    return lambda predictions: [_one(prediction, settings, abstain_below, sets) for prediction in predictions]


def _one(prediction: Any, settings: Mapping[str, Any], abstain_below: float | None, sets: bool) -> Any:
    more: dict[str, Any] = {}
    if abstain_below is not None:
        more["abstained"] = prediction.probability < abstain_below
    if sets and hasattr(prediction, "value"):
        reach = float(settings["conformal_threshold"])
        more |= {"low": prediction.value - reach, "high": prediction.value + reach}
    elif sets:
        more["labels"] = label_set(prediction.probabilities, settings["conformal_threshold"])
    return replace(prediction, **more)


def _check(task: Task, settings: Mapping[str, Any], abstain_below: float | None, sets: bool) -> None:
    one_label = isinstance(task, OneLabelTask)
    raise_together(
        [
            abstain_below not in (None, math.inf)  # as `decide` says it where nothing can be promised
            and real_number("abstain_below", abstain_below, 0, 1, expected="a probability from 0 to 1"),
            abstain_below is not None
            and not one_label
            and f"abstain_below={abstain_below!r:.60}: {task.name} has no single probability to compare with",
            true_or_false("sets", sets),
            bool(sets)
            and not (one_label or has_one_number(task))
            and f"sets=True: {task.name} has neither single labels nor numbers",
            bool(sets)
            and "conformal_threshold" not in settings
            and "sets=True: nothing was promised yet: call conform(valid, level=0.9) first",
        ]
    )
