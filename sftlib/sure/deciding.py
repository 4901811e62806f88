"""From which probability on a model may answer by itself, so that a promised share of its answers is right.

Letters: ``N`` rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.support.checking import raise_together, real_number
from sftlib.support.display import html_table, text_table
from sftlib.sure.held_out import require_held_out
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.single_label import OneLabelTask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_ROWS, _TRIED = 50, 20
_STEPS = [number / _TRIED for number in range(1, _TRIED + 1)]


@final
@dataclass(frozen=True)
class Answered:
    """What comes of answering only what the model is sure of.

    Attributes:
        threshold: least probability of an answer.
        coverage: share of rows that are answered.
        accuracy: share of these answers that are right.
        at_least: what this shows of all rows of their kind, with the confidence that was asked for.
    """

    threshold: float
    coverage: float
    accuracy: float
    at_least: float


@final
@dataclass(frozen=True)
class Decision:
    """From where on to answer; prints as a sentence and a table.

    Attributes:
        accuracy: that is promised of the answers given.
        confidence: with which.
        threshold: for ``predict(..., abstain_below=threshold)``; infinite where the rows show it of no answers at all.
        coverage: share of the rows that are answered then.
        rows: it was found on.
        tried: what was looked at, the fewest answers first.
    """

    accuracy: float
    confidence: float
    threshold: float
    coverage: float
    rows: int
    tried: tuple[Answered, ...] = field(repr=False)

    def _sentence(self) -> str:
        if self.coverage:
            return (
                f"answers {self.coverage:.0%} of rows at ≥ {self.accuracy:.4g} accuracy "
                f"({self.confidence:.0%} confidence): abstain_below={self.threshold:.4f}"
            )
        best = max(self.tried, key=lambda part: part.at_least)
        return (
            f"{self.rows:,} rows do not show an accuracy of {self.accuracy:.4g} at any threshold; most they show is "
            f"{best.at_least:.3f}, answering {best.coverage:.0%} at abstain_below={best.threshold:.4f}"
        )

    def _lines(self) -> list[list[object]]:
        return [[part.threshold, part.coverage, part.accuracy, part.at_least] for part in self.tried]

    def __str__(self) -> str:
        return f"{self._sentence()}\n{text_table(_HEADER, self._lines())}"

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._lines(), caption=self._sentence())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Accuracy of the answers over the share of rows that are answered (extra ``plot``)."""
        from sftlib.sure.pictures import draw_coverage

        return draw_coverage(self.tried, self.accuracy, axes)


_HEADER = ["threshold", "answered", "accuracy", "at least"]


def decide(
    fitted: Fitted, valid: TaskDataset, learned: TaskDataset | None, *, accuracy: float, confidence: float
) -> Decision:
    """Find the threshold on rows held out.

    Twenty thresholds are looked at, and each must hold by itself with a twentieth of the doubt (Bonferroni), so that
    looking for the best of them breaks no promise.

    Args:
        fitted: the model.
        valid: rows held out.
        learned: rows that the model learned from, where they are known.
        accuracy: that is to be promised.
        confidence: with which.

    Raises:
        OptionError: numbers that cannot be, or a task without one label a row.
        DataError: too few rows, or rows that the model learned from.
    """
    raise_together(
        [
            real_number("accuracy", accuracy, 0, 1, ends=False, expected="a number between 0 and 1, such as 0.95"),
            real_number("confidence", confidence, 0, 1, ends=False, expected="a number between 0 and 1, such as 0.95"),
        ]
    )
    task = fitted.task
    if not isinstance(task, OneLabelTask):
        several = "; decide(valid, metric='f1_macro') chooses a threshold for each of several labels"
        more = several if isinstance(task, MultiLabelTask) else ""
        raise OptionError(f"decide: it is for tasks with one label a row; not {task.name}{more}")
    require_held_out(task, valid, learned, use="decide", at_least=_LEAST_ROWS)
    encoded = fitted.encode(valid)
    predictions = settled(fitted, encoded).predict(valid, encoded)
    right = np.array([p.label == true for p, true in zip(predictions, task.references(valid), strict=True)])
    sure = np.array([p.probability for p in predictions])
    tried = answers_by(sure, right, doubt=(1 - confidence) / _TRIED)
    good = [part for part in tried if part.at_least >= accuracy]
    best = good[-1] if good else None
    return Decision(
        accuracy=accuracy,
        confidence=confidence,
        threshold=best.threshold if best else math.inf,
        coverage=best.coverage if best else 0.0,
        rows=len(sure),
        tried=tuple(tried),
    )


def answers_by(sure: NDArray[np.float64], right: NDArray[np.bool_], *, doubt: float) -> list[Answered]:
    """What comes of answering the surest 5, 10, ... 100 % of rows, and all that are as sure.

    Args:
        sure: (N,) the probability of each answer.
        right: (N,) whether it is right.
        doubt: one-sided, of the lower bounds.
    """
    order = np.argsort(-sure, kind="stable")
    found: list[Answered] = []
    for share in _STEPS:
        last = order[max(1, round(share * len(sure))) - 1]
        given = sure >= sure[last]
        count, good = int(given.sum()), int((given & right).sum())
        part = Answered(float(sure[last]), count / len(sure), good / count, lower_bound(good, count, doubt=doubt))
        if not found or found[-1].threshold != part.threshold:
            found.append(part)
    return found


def lower_bound(good: int, count: int, *, doubt: float) -> float:
    """The least share of good ones that so many of a count are likely to come of (Clopper and Pearson, one-sided).

    Example:
        >>> round(lower_bound(59, 59, doubt=0.05), 4), lower_bound(0, 10, doubt=0.05)
        (0.9505, 0.0)
    """
    from scipy.stats import beta

    return float(beta.ppf(doubt, good, count - good + 1)) if good else 0.0
