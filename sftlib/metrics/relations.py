"""One label a row, of which one says that there is nothing: relations between two spans."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import LabelError
from sftlib.metrics.base import Family
from sftlib.metrics.bound import Bound
from sftlib.metrics.cells import AVERAGES, RATES
from sftlib.metrics.classification import Classification
from sftlib.metrics.labels import Label
from sftlib.metrics.summed import rate
from sftlib.support.checking import nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Counts = NDArray[np.int64]


class Relations(Family):
    """Precision, recall and F1 of relations, in which the label for "no relation" is never a hit.

    ``micro`` is what the scorer of TACRED prints: right relations over those predicted (precision; 1 when none is
    predicted) and over those in the references (recall), whatever was predicted for rows without one. ``macro`` and
    ``weighted`` are means over the relations that came as a reference or a prediction, as scikit-learn's over
    ``labels`` without the excluded one. ``accuracy``, and what else is not an average, is of all rows.

    Kept: one K×K matrix of counts.

    Args:
        names: as of every family.
        label_names: as of every family.
        keep_rows: as of every family.
        negative: the label for "no relation"; None excludes none. See `excluding`.
    """

    title = "relation extraction"
    names = (
        "accuracy",
        "balanced_accuracy",
        *(f"{name}_{average}" for name in RATES for average in AVERAGES),
        "mcc",
        "cohen_kappa",
    )

    def __init__(
        self,
        names: Sequence[str],
        *,
        label_names: Sequence[Label] | None,
        keep_rows: bool,
        negative: Label | None = None,
    ) -> None:
        if negative is not None and label_names and negative not in label_names:
            raise LabelError(f"excluded label {negative!r} is none of the labels: {nearest(negative, label_names)}")
        self._negative = negative
        self._all = Classification(names, label_names=label_names, keep_rows=keep_rows)

    @classmethod
    def excluding(cls, negative: Label | None) -> Bound:
        """The family for ``Metrics(..., family=)`` that counts this label as "no relation"."""
        return Bound(cls, {"negative": negative})

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return False  # nothing in the references tells which label to exclude

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self._all.rows

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        self._all.update(predictions, references)

    def merged(self, other: Self) -> Self:
        both = copy(self)
        both._all = self._all.merged(other._all)
        return both

    def value(self, name: str) -> float:
        return self._rate(name, self._all.confusion_matrix) if _is_rate(name) else self._all.value(name)

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        if not _is_rate(name):
            return self._all.resampled(name, generator)
        counts = self._all.confusion_matrix
        drawn = generator.multinomial(self.rows, counts.ravel() / self.rows)
        return self._rate(name, drawn.reshape(counts.shape))

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        """References and predictions (N,) as arrays of the labels' own type."""
        return self._all.pairs(index)

    def plot(self, axes: Axes | None) -> Axes:
        return self._all.plot(axes)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._all.label_names

    @property
    def confusion_matrix(self) -> Counts:
        """Counts (K, K) of all labels: rows are references, columns predictions, in the order of ``label_names``."""
        return self._all.confusion_matrix

    def per_class(self) -> dict[Label, dict[str, float]]:
        return {label: row for label, row in self._all.per_class().items() if label != self._negative}

    def _rate(self, name: str, counts: Counts) -> float:
        """A metric such as ``f1_micro`` of counts (K, K)."""
        stem, _, average = name.partition("_")
        kept = [code for code, label in enumerate(self.label_names) if label != self._negative]
        right, found, true = (
            column[kept].astype(float) for column in (counts.diagonal(), counts.sum(0), counts.sum(1))
        )
        if average == "micro":
            return _rates(right.sum(), found.sum(), true.sum(), of_nothing=1.0)[stem]
        came = (found + true) > 0
        values = [_rates(*row, of_nothing=0.0)[stem] for row in zip(right[came], found[came], true[came], strict=True)]
        weights = true[came] if average == "weighted" else np.ones(len(values))
        return rate(float(np.dot(values, weights)), float(weights.sum()))


def _is_rate(name: str) -> bool:
    return name.partition("_")[0] in RATES


def _rates(right: float, found: float, true: float, *, of_nothing: float) -> dict[str, float]:
    """Precision (``of_nothing`` where nothing was predicted), recall and F1."""
    precision, recall = (rate(right, found) if found else of_nothing), rate(right, true)
    return {"precision": precision, "recall": recall, "f1": rate(2 * precision * recall, precision + recall)}
