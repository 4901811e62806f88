"""Metrics of probabilities: those that need ranks, from rows, and those that are means, from exact sums.

``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError
from sftlib.metrics.base import quiet
from sftlib.metrics.labels import SHOWN, Label
from sftlib.metrics.sums import ExactSum

RANKED = ("roc_auc", "average_precision")
MEANS = ("log_loss", "brier", "ece", "top_5_accuracy")
SELECTIVE = ("aurc", "coverage_at_95")
BINS = 15
SUM_TOLERANCE = 1e-3  # softmax in half precision is off by less

Floats = NDArray[np.float64]


def probabilities(predictions: list[Any], names: Sequence[Label], *, sum_to_one: bool) -> Floats:
    """The probabilities (N, K) of Prediction objects, columns in the order of ``names``.

    A prediction that is nan is kept: its metrics are nan.

    Raises:
        DataError: other labels than ``names``, a number outside [0, 1], or a row that does not sum to 1.
    """
    rows = [_row(prediction.probabilities, names) for prediction in predictions]
    bad = [row for row, found in enumerate(rows) if found is None]
    _raise_rows("probabilities must have one number for each label of " + f"{list(names)[:SHOWN]}", bad)
    found = np.array(rows, dtype=np.float64).reshape(len(predictions), len(names))
    _raise_rows("probabilities must lie in [0, 1]", np.flatnonzero(((found < 0) | (found > 1)).any(axis=1)))
    if sum_to_one:
        off = np.flatnonzero(np.abs(found.sum(axis=1) - 1) > SUM_TOLERANCE)
        _raise_rows("probabilities of a row must sum to 1", off)
    return found


def score_labels(predictions: list[Any], metric: str) -> tuple[Label, ...]:
    """The labels that the first Prediction has probabilities of.

    Raises:
        DataError: some prediction has none.
    """
    for row, prediction in enumerate(predictions):
        if not getattr(prediction, "probabilities", None):
            raise DataError(
                f"predictions, row {row}: {metric!r} needs the probability of each label: give Prediction objects "
                f"with .probabilities (label -> number), not {type(prediction).__name__} {prediction!r:.50}"
            )
    return tuple(predictions[0].probabilities)


def ranked(name: str, truth: NDArray[np.bool_], scores: Floats) -> float:
    """``roc_auc`` or ``average_precision``: the mean over columns (N, C) of the binary metric.

    The ROC-AUC is nan when a column has rows of one kind only; the average precision of a column without a positive
    row is 0. Both are what scikit-learn answers.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    positives = truth.sum(axis=0)
    if not np.isfinite(scores).all() or (name == "roc_auc" and ((positives == 0) | (positives == len(truth))).any()):
        return float("nan")
    function = roc_auc_score if name == "roc_auc" else average_precision_score
    with quiet():
        return float(np.mean([function(truth[:, column], scores[:, column]) for column in range(truth.shape[1])]))


def selective(name: str, sure: Floats, right: NDArray[np.bool_]) -> float:
    """What comes of answering only the rows that a model is surest of.

    * ``aurc``: the area under the risk-coverage curve (Geifman et al., 2019): the share of wrong answers among the
      ``k`` surest rows, averaged over all ``k``; rows that are equally sure (to 12 digits) share their errors evenly.
    * ``coverage_at_95``: the largest share of rows that a threshold leaves of which 95 % are right; 0 where there is
      none.

    Args:
        name: of the metric.
        sure: (N,) the probability of each answer.
        right: (N,) whether it is right.
    """
    if not np.isfinite(sure).all():
        return float("nan")
    _, group, sizes = np.unique(-sure.round(12), return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~right)  # of each group of equally sure rows, the surest first
    if name == "aurc":
        spread = np.repeat(wrong / sizes, sizes)
        return float((np.cumsum(spread) / np.arange(1, len(sure) + 1)).mean())
    answered = np.cumsum(sizes)
    good = answered[1 - np.cumsum(wrong) / answered >= 0.95 - 1e-12]
    return float(good.max(initial=0) / len(sure))


class ScoreSums:
    """Log loss, Brier score, expected calibration error and top-5 accuracy as exact sums.

    * ``log_loss``: mean of -ln of the probability of the true label, held to [eps, 1 - eps] as scikit-learn does.
    * ``brier``: of two labels the mean of (p - y)² for the positive one, of more the mean of the sum over labels.
    * ``ece``: rows are put in 15 bins of equal width by the probability of the predicted label (bins hold their upper
      edge); the error is Σ over bins of |correct - sum of probabilities| / N (Guo et al. 2017, equation 3).
    * ``top_5_accuracy``: how often the true label is among the five most probable, of equal ones the last, as
      scikit-learn's ``top_k_accuracy_score``.
    """

    def __init__(self) -> None:
        self.log_loss = ExactSum()
        self.brier = ExactSum()
        self.top_5_accuracy = ExactSum()
        self.gaps = [ExactSum() for _ in range(BINS)]

    def add(self, scores: Floats, references: NDArray[np.int64], predictions: NDArray[np.int64], positive: int) -> None:
        """Add rows: scores (N, K), codes of true and predicted labels (N,), code of the positive label of two."""
        rows = np.arange(len(scores))
        eps = np.finfo(np.float64).eps
        self.log_loss.add((-np.log(np.clip(scores[rows, references], eps, 1 - eps))).tolist())
        errors = scores.copy()
        errors[rows, references] -= 1
        squares = errors[:, positive] ** 2 if scores.shape[1] == 2 else (errors**2).sum(axis=1)
        self.brier.add(squares.tolist())
        own, places = scores[rows, references][:, None], np.arange(scores.shape[1])
        ahead = (scores > own) | ((scores == own) & (places > references[:, None]))
        among = np.where(np.isnan(own[:, 0]), np.nan, ahead.sum(axis=1) < 5)
        self.top_5_accuracy.add(among.tolist())
        confidence = scores[rows, predictions]
        gaps = (references == predictions) - confidence
        bins = np.clip(np.ceil(np.nan_to_num(confidence) * BINS).astype(np.int64) - 1, 0, BINS - 1)
        for number in np.unique(bins):
            self.gaps[number].add(gaps[bins == number].tolist())

    def value(self, name: str, rows: int) -> float:
        """The mean over ``rows``."""
        if name == "ece":
            return ExactSum(abs(gap.value) for gap in self.gaps).value / rows
        total: ExactSum = getattr(self, name)
        return total.value / rows

    def merged(self, other: ScoreSums) -> ScoreSums:
        """The sums of both."""
        both = ScoreSums()
        both.log_loss = self.log_loss + other.log_loss
        both.brier = self.brier + other.brier
        both.top_5_accuracy = self.top_5_accuracy + other.top_5_accuracy
        both.gaps = [mine + theirs for mine, theirs in zip(self.gaps, other.gaps, strict=True)]
        return both


def _row(found: Any, names: Sequence[Label]) -> list[float] | None:
    try:
        return [float(found[name]) for name in names] if len(found) == len(names) else None
    except (KeyError, TypeError, ValueError):
        return None


def _raise_rows(problem: str, rows: Any) -> None:
    if len(rows):
        shown = ", ".join(str(row) for row in _first(rows))
        raise DataError(f"{problem}; not so in {len(rows)} predictions, rows {shown}{', ...' * (len(rows) > SHOWN)}")


def _first(rows: Any) -> Iterator[int]:
    return (int(row) for row in list(rows)[:SHOWN])
