"""Scores on the same rows, compared row by row: every interval here comes from drawing rows, the same for all.

Two candidates are wrong on mostly the same rows, so the interval of their difference is much narrower than the
intervals of their scores would suggest. Rows that belong together (``groups``) are drawn together.

Letters: ``N`` rows, ``C`` candidates, ``R`` resamples, ``K`` labels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.splitting import numbered
from sftlib.metrics.cells import RATES, Cells
from sftlib.metrics.classification import Classification
from sftlib.metrics.core import FROM_LOSS
from sftlib.metrics.scores import MEANS, RANKED
from sftlib.tasks.base import Task

_EXACT = 1e-9
_RESAMPLES = 1000  # of means, which are fast
_FEWER = 300  # of whatever has to be computed anew
_MANY_ROWS = 20_000

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Difference:
    """How far two scores on the same rows are apart.

    Attributes:
        value: the first less the second.
        low: the lower end of the interval; nan where there is no basis for one.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def has_rows(metric: str) -> bool:
    """Whether a metric is a function of predictions; the loss is known as a sum alone."""
    return metric not in FROM_LOSS


@final
class Scores:
    """The scores of candidates on the same rows.

    Args:
        task: whose metrics they are.
        metric: its name.
        references: (N,) what predictions are compared with.
        candidates: C times (N,) predictions.
        groups: (N,) what is drawn together; None to draw rows.
        seed: of the draws.

    Attributes:
        values: (C,) the scores.
        replicates: (R, C) of resamples.
    """

    def __init__(
        self,
        task: Task,
        metric: str,
        references: Sequence[Any],
        candidates: Sequence[Sequence[Any]],
        *,
        groups: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        values = [float(task.metrics([metric]).update(found, references)[metric]) for found in candidates]
        self.values: Floats = np.array(values)
        statistic = _statistic(task, metric, references, candidates, self.values)
        self.replicates: Floats = np.array(
            [statistic.of(rows) for rows in _draws(len(references), groups, statistic.resamples, seed)]
        ).reshape(-1, len(candidates))

    def interval(self, candidate: int, level: float = 0.95) -> tuple[float, float]:
        """Of one score."""
        return _quantiles(self.replicates[:, candidate], level)

    def difference(self, first: int, second: int, level: float = 0.95) -> Difference:
        """Of two."""
        low, high = _quantiles(self.replicates[:, first] - self.replicates[:, second], level)
        return Difference(float(self.values[first] - self.values[second]), low, high)

    def optimism(self, *, higher: bool) -> float:
        """How much better the best of all looks on these rows than it is, from the bootstrap of the maximum."""
        sign = 1.0 if higher else -1.0
        signed = sign * self.replicates
        good = signed[~np.isnan(signed).any(axis=1)]
        if not len(good):
            return math.nan
        winners = good.argmax(axis=1)
        won = good[np.arange(len(good)), winners]
        return float((won - sign * self.values[winners]).mean())


def over_folds(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """The difference of scores that are known by folds alone: Student's t over paired folds, rough by nature.

    Folds share most of their training rows and are not independent, so this is too narrow rather than too wide.
    """
    from scipy import stats

    apart = np.asarray(first, float) - np.asarray(second, float)
    value = float(apart.mean())
    if not apart.any():
        return Difference(0.0, 0.0, 0.0)
    if len(apart) < 2:
        return Difference(value, math.nan, math.nan)
    half = float(stats.t.ppf((1 + level) / 2, len(apart) - 1) * apart.std(ddof=1) / math.sqrt(len(apart)))
    return Difference(value, value - half, value + half)


class _Statistic(ABC):
    """A score as a function of which rows were drawn."""

    resamples: int = _FEWER

    @abstractmethod
    def of(self, rows: NDArray[np.int64]) -> Floats:
        """(C,) scores of rows that were drawn."""


@final
class _Means(_Statistic):
    """The score is a mean over rows, or a root of one."""

    def __init__(self, lines: Floats, *, root: bool) -> None:
        self._lines = lines  # (C, N)
        self._root = root
        self.resamples = _RESAMPLES if lines.shape[1] <= _MANY_ROWS else _FEWER

    def of(self, rows: NDArray[np.int64]) -> Floats:
        means: Floats = self._lines[:, rows].mean(axis=1)
        return np.sqrt(means) if self._root else means


@final
class _Confusions(_Statistic):
    """The score is a function of how often which label was taken for which."""

    def __init__(self, metric: str, references: NDArray[np.int64], found: NDArray[np.int64], labels: int) -> None:
        self._metric = metric
        self._cells = references * labels + found  # (C, N)
        self._labels = labels
        self._positive = labels - 1

    def of(self, rows: NDArray[np.int64]) -> Floats:
        return np.array([self._value(cells[rows]) for cells in self._cells])

    def _value(self, cells: NDArray[np.int64]) -> float:
        which, counts = np.unique(cells, return_counts=True)
        references, predictions = np.divmod(which, self._labels)
        if self._metric in _FAST:
            return _fast(self._metric, references, predictions, counts.astype(float), self._labels)
        return Cells(references, predictions, counts).value(self._metric, positive=self._positive)


@final
class _Anything(_Statistic):
    """The score is computed anew."""

    def __init__(self, task: Task, metric: str, references: Sequence[Any], candidates: Sequence[Sequence[Any]]) -> None:
        self._task = task
        self._metric = metric
        self._references = references
        self._candidates = candidates
        self.resamples = 200 if len(references) <= 2_000 else 100

    def of(self, rows: NDArray[np.int64]) -> Floats:
        drawn = rows.tolist()
        references = [self._references[row] for row in drawn]
        return np.array([self._score([found[row] for row in drawn], references) for found in self._candidates])

    def _score(self, predictions: list[Any], references: list[Any]) -> float:
        return float(self._task.metrics([self._metric]).update(predictions, references)[self._metric])


_FAST = ("balanced_accuracy", "f1_macro", "f1_weighted")
_ROOTS = {"rmse": "mse"}
_BY_ROW = ("accuracy", "mse", "mae", "rmse", "log_loss", "brier", "exact_match")


def _statistic(
    task: Task, metric: str, references: Sequence[Any], candidates: Sequence[Sequence[Any]], values: Floats
) -> _Statistic:
    """The fastest form of a metric that gives its own values."""
    fast = _means(task, metric, references, candidates) or _confusions(task, metric, references, candidates)
    if fast is not None:
        whole = fast.of(np.arange(len(references)))
        if np.allclose(whole, values, rtol=_EXACT, atol=_EXACT, equal_nan=True):
            return fast
    return _Anything(task, metric, references, candidates)


def _means(task: Task, metric: str, references: Sequence[Any], candidates: Sequence[Sequence[Any]]) -> _Means | None:
    if metric not in _BY_ROW:
        return None
    name = _ROOTS.get(metric, metric)
    lines = [[_of_row(task, name, one, true) for one, true in zip(row, references, strict=True)] for row in candidates]
    return _Means(np.array(lines, dtype=float), root=metric in _ROOTS)


def _of_row(task: Task, name: str, prediction: Any, reference: Any) -> float:
    label, value = getattr(prediction, "label", None), getattr(prediction, "value", None)
    if name == "accuracy" and label is not None:
        return float(label == reference)
    if name in ("mse", "mae") and isinstance(value, float) and isinstance(reference, int | float):
        return (value - reference) ** 2 if name == "mse" else abs(value - reference)
    return float(task.metrics([name]).update([prediction], [reference])[name])


def _confusions(
    task: Task, metric: str, references: Sequence[Any], candidates: Sequence[Sequence[Any]]
) -> _Confusions | None:
    of_labels = task.family is Classification and metric in Classification.names and task.label_names
    if not of_labels or metric in RANKED or metric in MEANS:
        return None
    labels = [[prediction.label for prediction in found] for found in candidates]
    names = sorted({*references, *(label for row in labels for label in row)})
    if metric in RATES and len(names) != 2:
        return None
    code = {name: number for number, name in enumerate(names)}
    true = np.array([code[label] for label in references])
    return _Confusions(metric, true, np.array([[code[label] for label in row] for row in labels]), len(names))


def _fast(
    metric: str, references: NDArray[np.int64], predictions: NDArray[np.int64], counts: Floats, labels: int
) -> float:
    """A few rates straight from counts: scikit-learn's answer takes a hundred times as long."""
    support = np.bincount(references, counts, labels)  # (K,)
    found = np.bincount(predictions, counts, labels)
    right = np.bincount(references, counts * (references == predictions), labels)
    if metric == "balanced_accuracy":
        there = support > 0
        return float((right[there] / support[there]).mean())
    there = support + found > 0
    f1 = 2 * right[there] / (support[there] + found[there])
    return float(f1.mean() if metric == "f1_macro" else (f1 * support[there]).sum() / support.sum())


def _draws(rows: int, groups: Sequence[Any] | None, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The rows of each resample, drawn with replacement: row by row, or whole groups."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0x706169726564], dtype=np.uint64)))
    if groups is None:
        for _ in range(resamples):
            yield generator.integers(0, rows, rows)
        return
    which = numbered(groups)
    members = [np.flatnonzero(which == number) for number in range(int(which.max()) + 1)]
    for _ in range(resamples):
        yield np.concatenate([members[number] for number in generator.integers(0, len(members), len(members))])


def _quantiles(values: Floats, level: float) -> tuple[float, float]:
    good = values[~np.isnan(values)]
    if not len(good):
        return math.nan, math.nan
    low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
