"""Temperature scaling (Guo et al., 2017): one number, found on rows held out, folded into the model's last layer.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.models.layouts.layout import SideBySide
from sftlib.models.precision import Fp32
from sftlib.models.tempered import temper
from sftlib.run.fitted import Fitted
from sftlib.run.looking import scores_of
from sftlib.support.checking import choice, raise_together
from sftlib.support.display import html_table, text_table
from sftlib.sure.conformal import FORGOTTEN
from sftlib.sure.folding import fold, last_layer
from sftlib.sure.held_out import require_held_out
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.single_label import OneLabelTask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Measure = Callable[[Floats, Floats], float]

_LEAST_ROWS, _BINS, _FOLDS, _DRAWS = 50, 15, 5, 400
_RANGE = (np.log(0.02), np.log(50.0))


@final
@dataclass(frozen=True)
class Bin:
    """Rows of which the model is about equally sure.

    Attributes:
        low: least probability of the label it gives.
        high: largest.
        rows: how many.
        probability: their mean.
        accuracy: how many of them are right.
    """

    low: float
    high: float
    rows: int
    probability: float
    accuracy: float


@final
@dataclass(frozen=True)
class Calibration:
    """What calibrating found and did; prints as a table.

    ``after`` is honest: the rows of each of five parts are scored with the temperature that the other four give.

    Attributes:
        temperature: that scores are divided by now; above 1 the model was too sure.
        rows: it was found on.
        before: ``ece``, ``brier`` and ``log_loss`` before.
        after: the same after.
        intervals: name -> 95 % interval before, and after; over rows.
        reliability: rows by how sure the model was before.
        reliability_after: the same after.
        changed: rows whose label became another; 0, but for ties to the last bit.
    """

    temperature: float
    rows: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    intervals: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = field(repr=False)
    reliability: tuple[Bin, ...] = field(repr=False)
    reliability_after: tuple[Bin, ...] = field(repr=False)
    changed: int = 0

    def _lines(self) -> list[list[object]]:
        return [
            [name, self.before[name], _shown(self.intervals[name][0]), value, _shown(self.intervals[name][1])]
            for name, value in self.after.items()
        ]

    def _caption(self) -> str:
        sure = "too sure" if self.temperature > 1 else "not sure enough"
        changed = f"; {self.changed} labels changed (ties)" if self.changed else "; no label changed"
        return f"temperature {self.temperature:.3f} from {self.rows:,} rows: it was {sure}{changed}"

    def __str__(self) -> str:
        return f"{text_table(_HEADER, self._lines())}\n{self._caption()}"

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._lines(), caption=self._caption())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "temperature": self.temperature,
            "rows": self.rows,
            "before": dict(self.before),
            "after": dict(self.after),
            "intervals": {name: [list(part) for part in pair] for name, pair in self.intervals.items()},
            "reliability": [vars(part) for part in self.reliability],
            "reliability_after": [vars(part) for part in self.reliability_after],
            "changed": self.changed,
        }

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """How often the model was right, over how sure it was, before and after (extra ``plot``)."""
        from sftlib.sure.pictures import draw_reliability

        return draw_reliability({"before": self.reliability, "after": self.reliability_after}, axes)


_HEADER: Final = ["metric", "before", "95 %", "after", "95 % "]


def calibrate(
    fitted: Fitted, valid: TaskDataset, learned: TaskDataset | None, *, method: str
) -> tuple[Calibration, Fitted]:
    """Find the temperature on rows held out, and fold it into the model.

    Args:
        fitted: its model is changed.
        valid: rows held out.
        learned: rows that the model learned from, where they are known.
        method: ``"temperature"``.

    Raises:
        OptionError: another method, a task without probabilities, or a model without a last linear layer.
        DataError: too few rows, or rows that the model learned from.
    """
    raise_together([choice("method", method, ["temperature"])])
    task = fitted.task
    if not isinstance(task, OneLabelTask | MultiLabelTask):
        raise OptionError(f"calibrate: {task.name} has no probabilities of labels; conform(valid) gives intervals")
    require_held_out(task, valid, learned, use="calibrate", at_least=_LEAST_ROWS)
    several = isinstance(task, MultiLabelTask)
    scores, truth = scores_of(fitted, valid), _truth(task, valid)
    name, layer = last_layer(fitted.model, _asking(fitted, valid), task.head.outputs)
    temperature = best_temperature(scores, truth, several=several)
    total = temperature * float(fitted.settings.get("temperature", 1.0))
    fold(layer, temperature)
    temper(fitted.model, name, total)
    changed = _labels(scores_of(fitted, valid), several=several) != _labels(scores, several=several)
    made = _described(scores, truth, temperature, int(changed.any(axis=1).sum()), several=several)
    kept = {key: value for key, value in fitted.settings.items() if key not in FORGOTTEN}
    return made, replace(fitted, settings={**kept, "temperature": total, "tempered": name})


def best_temperature(scores: Floats, truth: Floats, *, several: bool = False) -> float:
    """The temperature with the least log loss.

    Args:
        scores: (N, K) before any softmax.
        truth: (N, K) 1 for labels that a row has.
        several: whether each label is for itself.

    Example:
        >>> scores = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        >>> truth = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])  # right three times of four, and 98 % sure
        >>> round(best_temperature(scores, truth), 3), round(4.0 / float(np.log(3)), 3)
        (3.641, 3.641)
    """
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        return log_loss(probabilities(scores / np.exp(log), several=several), truth, several=several)

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded", options={"xatol": 1e-9, "maxiter": 200})
    return float(np.exp(found.x))


def probabilities(scores: Floats, *, several: bool) -> Floats:
    """(N, K) of scores: of each label for itself, or of all together."""
    if several:
        positive = np.exp(-np.abs(scores))
        return np.where(scores >= 0, 1.0, positive) / (1 + positive)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def log_loss(found: Floats, truth: Floats, *, several: bool) -> float:
    """The mean over rows of minus the logarithm of what was true; over labels too where each is for itself."""
    eps = np.finfo(np.float64).tiny
    if several:
        return float(-np.log(np.maximum(np.where(truth > 0, found, 1 - found), eps)).mean())
    return float(-np.log(np.maximum((found * truth).sum(axis=1), eps)).mean())


def brier(found: Floats, truth: Floats, *, several: bool) -> float:
    """The mean squared error: of two labels that of one, of more the sum over labels; as the metric of that name."""
    squares = (found - truth) ** 2
    if several:
        return float(squares.mean())
    return float(squares[:, 0].mean() if found.shape[1] == 2 else squares.sum(axis=1).mean())


def bins_of(found: Floats, truth: Floats, *, several: bool) -> tuple[Bin, ...]:
    """Rows (or rows and labels) by how sure the model is, in 15 bins of equal width, without empty ones."""
    sure, right = _sure(found, truth, several=several)
    which = np.clip(np.ceil(sure * _BINS).astype(int) - 1, 0, _BINS - 1)
    return tuple(
        Bin(
            number / _BINS,
            (number + 1) / _BINS,
            int(here.sum()),
            float(sure[here].mean()),
            float(right[here].mean()),
        )
        for number in range(_BINS)
        if (here := which == number).any()
    )


def expected_error(found: Floats, truth: Floats, *, several: bool) -> float:
    """The expected calibration error: how far from right the model's certainty is, by bins."""
    parts = bins_of(found, truth, several=several)
    rows = sum(part.rows for part in parts)
    return sum(part.rows * abs(part.accuracy - part.probability) for part in parts) / rows


def _sure(found: Floats, truth: Floats, *, several: bool) -> tuple[Floats, NDArray[np.bool_]]:
    if several:  # each label of each row is an answer: as sure as it is of that label, there or not
        sure = np.maximum(found, 1 - found)
        return sure.ravel(), ((found >= 0.5) == (truth > 0)).ravel()
    best = found.argmax(axis=1)
    rows = np.arange(len(found))
    return found[rows, best], truth[rows, best] > 0


def _truth(task: OneLabelTask | MultiLabelTask, valid: TaskDataset) -> Floats:
    """(N, K) 1 for labels that a row has."""
    targets = task.targets(valid)
    if isinstance(task, MultiLabelTask):
        return np.asarray(targets, np.float64)
    return np.eye(task.head.outputs)[targets]


def _asking(fitted: Fitted, valid: TaskDataset) -> Callable[[], Tensor]:
    """Scores of a few rows by the model itself, in fp32."""
    feed = fitted.feed(fitted.encode(valid.select(range(min(8, len(valid))))))
    batch = feed.of(np.arange(min(8, len(valid))))
    forward, task = fitted.forward(SideBySide(), Fp32()), fitted.task
    assert isinstance(task, OneLabelTask | MultiLabelTask)
    fitted.model.eval()

    def ask() -> Tensor:
        with torch.no_grad(), forward.prepared():
            return task.scores(forward(batch), batch)

    return ask


def _labels(scores: Floats, *, several: bool) -> NDArray[Any]:
    return scores >= 0 if several else scores.argmax(axis=1)[:, None]


def _described(scores: Floats, truth: Floats, temperature: float, changed: int, *, several: bool) -> Calibration:
    first = probabilities(scores, several=several)
    then = probabilities(_out_of_fold(scores, truth, several=several), several=several)
    measures: dict[str, Measure] = {
        "ece": lambda p, t: expected_error(p, t, several=several),
        "brier": lambda p, t: brier(p, t, several=several),
        "log_loss": lambda p, t: log_loss(p, t, several=several),
    }
    drawn = np.random.Generator(np.random.Philox(key=0)).integers(0, len(truth), (_DRAWS, len(truth)))
    return Calibration(
        temperature=temperature,
        rows=len(truth),
        before={name: measure(first, truth) for name, measure in measures.items()},
        after={name: measure(then, truth) for name, measure in measures.items()},
        intervals={
            name: (_interval(measure, first, truth, drawn), _interval(measure, then, truth, drawn))
            for name, measure in measures.items()
        },
        reliability=bins_of(first, truth, several=several),
        reliability_after=bins_of(probabilities(scores / temperature, several=several), truth, several=several),
        changed=changed,
    )


def _out_of_fold(scores: Floats, truth: Floats, *, several: bool) -> Floats:
    """Scores of each fifth of the rows, divided by the temperature of the others."""
    fold_of = np.random.Generator(np.random.Philox(key=1)).permutation(len(scores)) % _FOLDS
    found = np.empty_like(scores)
    for part in range(_FOLDS):
        rest = fold_of != part
        found[~rest] = scores[~rest] / best_temperature(scores[rest], truth[rest], several=several)
    return found


def _interval(measure: Measure, found: Floats, truth: Floats, drawn: NDArray[Any]) -> tuple[float, float]:
    low, high = np.quantile([measure(found[rows], truth[rows]) for rows in drawn], [0.025, 0.975])
    return float(low), float(high)


def _shown(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
