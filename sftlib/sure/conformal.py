"""Sets of labels, and intervals, that cover what is true in a promised share of rows (split conformal prediction).

The promise holds for rows that are drawn like those it was made on; of others nothing is promised.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.support.checking import raise_together, real_number, true_or_false
from sftlib.support.display import html_table, text_table
from sftlib.sure.held_out import require_held_out
from sftlib.sure.numbers import has_one_number
from sftlib.tasks.base import Label
from sftlib.tasks.single_label import OneLabelTask

#: Settings that a new temperature makes worthless.
FORGOTTEN: Final = ("conformal_level", "conformal_threshold")


@final
@dataclass(frozen=True)
class Conformal:
    """What a promise of coverage takes; prints as a table.

    Attributes:
        level: the promised share of rows.
        threshold: a label enters the set when 1 - its probability is at most this (a number, or one for each label); of
            numbers how far an interval reaches to each side.
        rows: it was found on.
        coverage: share of these rows whose set holds what is true; at least ``level``, by how it was found.
        mean_size: labels of a set, or width of an interval, on these rows.
        label_names: of the thresholds, where there is one for each label.
    """

    level: float
    threshold: float | tuple[float, ...]
    rows: int
    coverage: float
    mean_size: float
    label_names: tuple[Label, ...] | None = None

    def _lines(self) -> list[list[object]]:
        found: list[list[object]] = [
            ["level", self.level],
            ["coverage on these rows", self.coverage],
            ["mean size", self.mean_size],
            ["rows", self.rows],
        ]
        if isinstance(self.threshold, tuple):
            return [*found, *([f"threshold of {n!r}", t] for n, t in zip(self.label_names or (), self.threshold))]  # noqa: B905
        return [*found, ["threshold", self.threshold]]

    def __str__(self) -> str:
        return text_table(["what", "value"], self._lines())

    def _repr_html_(self) -> str:
        return html_table(["what", "value"], self._lines())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**vars(self), "threshold": self.threshold}


def conform(
    fitted: Fitted, valid: TaskDataset, learned: TaskDataset | None, *, level: float, per_label: bool
) -> tuple[Conformal, Fitted]:
    """Find what it takes on rows held out, and keep it in the settings.

    Args:
        fitted: the model; its weights stay.
        valid: rows held out.
        learned: rows that the model learned from, where they are known.
        level: share of rows whose set is to hold what is true.
        per_label: whether each label is promised its own coverage.

    Raises:
        OptionError: a level that is none, or a task without single labels or numbers.
        DataError: too few rows (of a label), or rows that the model learned from.
    """
    raise_together(
        [
            real_number("level", level, 0, 1, ends=False, expected="a number between 0 and 1, such as 0.9"),
            true_or_false("per_label", per_label),
        ]
    )
    task = fitted.task
    if not (isinstance(task, OneLabelTask) or has_one_number(task)):
        raise OptionError(f"conform: it is for tasks with one label a row, or with numbers; not {task.name}")
    if per_label and not isinstance(task, OneLabelTask):
        raise OptionError(f"per_label=True: {task.name} has no labels")
    least = math.ceil(round(1 / (1 - level), 9))
    require_held_out(task, valid, learned, use="conform", at_least=least)
    encoded = fitted.encode(valid)
    predictions = settled(fitted, encoded).predict(valid, encoded)
    found = (
        _intervals(predictions, task.references(valid), level)
        if has_one_number(task)
        else _sets(predictions, task.references(valid), task.known.label_names, level, least, per_label=per_label)
    )
    threshold: Any = list(found.threshold) if isinstance(found.threshold, tuple) else found.threshold
    settings = {**fitted.settings, "conformal_level": level, "conformal_threshold": threshold}
    return found, replace(fitted, settings=settings)


def quantile(values: NDArray[np.float64], level: float) -> float:
    """The value that a new one exceeds with a probability of at most ``1 - level`` (finite-sample correction).

    Example:
        >>> quantile(np.arange(1.0, 10.0), 0.9)  # of nine values the largest
        9.0
    """
    rank = math.ceil(round((len(values) + 1) * level, 9))
    return float(np.sort(values)[min(rank, len(values)) - 1])


def label_set(probabilities: Mapping[Label, float], threshold: float | Sequence[float]) -> tuple[Label, ...]:
    """The labels of a set, the most probable first; never empty.

    Args:
        probabilities: of all labels, in their order.
        threshold: of `Conformal`.

    Example:
        >>> label_set({"a": 0.5, "b": 0.4, "c": 0.1}, 0.7), label_set({"a": 0.5, "b": 0.4, "c": 0.1}, 0.2)
        (('a', 'b'), ('a',))
    """
    limits = [threshold] * len(probabilities) if isinstance(threshold, int | float) else list(threshold)
    by_size = sorted(zip(probabilities.items(), limits, strict=True), key=lambda item: -item[0][1])
    return tuple(name for number, ((name, value), limit) in enumerate(by_size) if not number or 1 - value <= limit)


def _sets(
    predictions: Sequence[Any],
    references: Sequence[Label],
    names: tuple[Label, ...],
    level: float,
    least: int,
    *,
    per_label: bool,
) -> Conformal:
    lacks = np.array([1 - p.probabilities[true] for p, true in zip(predictions, references, strict=True)])
    threshold: float | tuple[float, ...]
    if per_label:
        parts = [lacks[[true == name for true in references]] for name in names]
        few = [f"{name!r} ({len(part)})" for name, part in zip(names, parts, strict=True) if len(part) < least]
        if few:
            raise DataError(f"conform: it takes at least {least:,} rows of each label; fewer: {', '.join(few[:20])}")
        threshold = tuple(quantile(part, level) for part in parts)
    else:
        threshold = quantile(lacks, level)
    sets = [label_set(p.probabilities, threshold) for p in predictions]
    return Conformal(
        level=level,
        threshold=threshold,
        rows=len(sets),
        coverage=float(np.mean([true in found for true, found in zip(references, sets, strict=True)])),
        mean_size=float(np.mean([len(found) for found in sets])),
        label_names=names if per_label else None,
    )


def _intervals(predictions: Sequence[Any], references: Sequence[float], level: float) -> Conformal:
    apart = np.abs(np.array([p.value for p in predictions]) - np.asarray(references, np.float64))
    threshold = quantile(apart, level)
    return Conformal(level, threshold, len(apart), float((apart <= threshold).mean()), 2 * threshold)
