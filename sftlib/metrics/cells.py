"""Metrics of counted pairs (reference, prediction): scikit-learn's, with the counts as sample weights.

A cell is one distinct pair and how often it came. Counted pairs hold all that these metrics can know, so their values
are those of the rows themselves; and drawing the counts anew from a multinomial is exactly drawing rows with
replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.metrics.base import quiet
from sftlib.metrics.labels import Label

RATES = ("precision", "recall", "f1")
AVERAGES = ("macro", "micro", "weighted")


@dataclass(frozen=True)
class Cells:
    """``M`` distinct pairs.

    Attributes:
        references: label codes (M,), or for several labels a row 0 and 1 in a sparse CSR matrix (M, at least 2).
        predictions: the same of the predictions.
        counts: how often each pair came (M,), all above 0.
        columns: labels K of the sparse matrix. It has a second, empty column where K is 1, because scikit-learn
            would read one column as a binary target.
    """

    references: Any
    predictions: Any
    counts: NDArray[np.int64]
    columns: int | None = None

    def resampled(self, generator: np.random.Generator) -> Cells:
        """As many rows, drawn from these with replacement; cells that were not drawn are left out."""
        total = int(self.counts.sum())
        counts = generator.multinomial(total, self.counts / total)
        drawn = counts > 0
        return Cells(self.references[drawn], self.predictions[drawn], counts[drawn], self.columns)

    def value(self, name: str, *, positive: int | None = None) -> float:
        """One metric of the cells; nan where scikit-learn has none.

        Args:
            name: such as ``"accuracy"``, ``"f1_macro"``; a plain ``"f1"`` is of the positive label.
            positive: code of the positive label.
        """
        with quiet():
            stem, _, average = name.partition("_")
            if stem in RATES:
                return self._rate(stem, average, positive)
            value = float(_agreement(name)(self.references, self.predictions, sample_weight=self._weights))
        if name == "hamming" and self.columns:
            value *= float(self.references.shape[1]) / self.columns
        return value

    @property
    def _weights(self) -> NDArray[np.float64]:
        return self.counts.astype(np.float64)  # with integers scikit-learn's products of counts could overflow

    def _rate(self, stem: str, average: str, positive: int | None) -> float:
        """Precision, recall or F1; a rate of nothing (0 / 0) is 0, as in scikit-learn."""
        from sklearn import metrics

        labels = [positive] if not average else None if self.columns is None else range(self.columns)
        function = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}[stem]
        return float(
            function(
                self.references,
                self.predictions,
                labels=labels,
                average=average or "macro",
                sample_weight=self._weights,
                zero_division=0,
            )
        )


def per_label(cells: Cells, names: Sequence[Label]) -> dict[Label, dict[str, float]]:
    """Precision, recall, F1 and support of each label; nothing when there are no cells."""
    from sklearn.metrics import precision_recall_fscore_support

    if not len(cells.counts):
        return {}
    columns = precision_recall_fscore_support(
        cells.references, cells.predictions, labels=range(len(names)), sample_weight=cells.counts, zero_division=0
    )
    keys = ("precision", "recall", "f1", "support")
    return {
        name: {key: float(value) for key, value in zip(keys, row, strict=True)}
        for name, *row in zip(names, *columns, strict=True)
    }


def _agreement(name: str) -> Callable[..., Any]:
    from sklearn import metrics

    functions: dict[str, Callable[..., Any]] = {
        "accuracy": metrics.accuracy_score,
        "subset_accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "mcc": metrics.matthews_corrcoef,
        "cohen_kappa": metrics.cohen_kappa_score,
        "hamming": metrics.hamming_loss,
    }
    return functions[name]
