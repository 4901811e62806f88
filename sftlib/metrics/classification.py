"""One label a row: text classification and whatever else ends in one of K classes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import OptionError
from sftlib.metrics.base import Family
from sftlib.metrics.cells import AVERAGES, RATES, Cells, per_label
from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import Label, LabelIndex, in_order, own_types
from sftlib.metrics.rows import Rows
from sftlib.metrics.scores import MEANS, RANKED, SELECTIVE, ScoreSums, probabilities, ranked, score_labels, selective

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Classification(Family):
    """Accuracy, precision, recall, F1, agreement and probability metrics of single labels.

    Kept: one K×K matrix of counts; for ``log_loss``, ``brier`` and ``ece`` exact sums; for ``roc_auc``,
    ``average_precision``, ``aurc`` and ``coverage_at_95`` the float64 probabilities of each row (one number of two
    labels, K of more).

    Precision, recall and F1: ``macro``, ``micro`` and ``weighted`` over the labels that came as a reference or a
    prediction, as scikit-learn averages; plain ``precision``, ``recall`` and ``f1`` are those of the positive label
    (the last in sorted order) of two. ``roc_auc`` and ``average_precision`` are of the positive label of two, and the
    mean of one against the rest over all labels of more.
    """

    title = "classification"
    names = (
        "accuracy",
        "balanced_accuracy",
        *(f"{rate}_{average}" for rate in RATES for average in AVERAGES),
        *RATES,
        "mcc",
        "cohen_kappa",
        *RANKED,
        *SELECTIVE,
        *MEANS,
    )
    without_interval = frozenset(MEANS)

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        self.rows = 0
        self._index = LabelIndex(label_names or (), closed=label_names is not None)
        self._matrix: NDArray[np.int64] = np.zeros((len(self._index), len(self._index)), dtype=np.int64)
        self._sums = ScoreSums()
        self._rows = Rows()  # codes of references and predictions (N,), and scores (N, C) when ranks are asked for
        self._keeps_scores = any(name in RANKED + SELECTIVE for name in names)
        self._keeps_rows = keep_rows or self._keeps_scores
        self._needs_scores = [name for name in names if name in RANKED + SELECTIVE + MEANS]
        self._of_two = [name for name in names if name in RATES]
        self._check(self._index)

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return True  # asked last: what is neither a list of labels nor a float is a label, or an error

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        index, scores = self._index, None
        labels, references = own_types(attribute(predictions, "label")), own_types(references)
        if self._needs_scores:
            found = score_labels(predictions, self._needs_scores[0])
            index = index if index.closed else LabelIndex(in_order(own_types(list(found))), closed=True)
            scores = probabilities(predictions, index.names, sum_to_one=True)
        if not (index.has_all(references) and index.has_all(labels)):
            columns = {"references": references, "predictions": labels}
            index = index.including({what: enumerate((label,) for label in column) for what, column in columns.items()})
        self._check(index)
        self._matrix, self._rows = self._moved(index)
        self._index = index
        self._add(index.encode(references), index.encode(labels), scores)

    def merged(self, other: Self) -> Self:
        index = self._index.merged(other._index)
        self._check(index)
        both = copy(self)
        both._index = index
        (mine, my_rows), (theirs, their_rows) = self._moved(index), other._moved(index)
        both._matrix = mine + theirs
        both._rows = my_rows.merged(their_rows)
        both._sums = self._sums.merged(other._sums)
        both.rows = self.rows + other.rows
        return both

    def value(self, name: str) -> float:
        if len(self._index) < 2 and (name in RANKED or name in RATES):
            return float("nan")  # of one label it is not known which is the positive one
        if name in MEANS:
            return self._sums.value(name, self.rows)
        if name in RANKED:
            return ranked(name, *self._ranked_columns())
        if name in SELECTIVE:
            return selective(name, *self._sure_columns())
        return self._cells.value(name, positive=self._index.positive)

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        if len(self._index) < 2 and (name in RANKED or name in RATES):
            return float("nan")
        if name in RANKED:
            drawn = generator.integers(0, self.rows, self.rows)
            truth, scores = self._ranked_columns()
            return ranked(name, truth[drawn], scores[drawn])
        if name in SELECTIVE:
            drawn = generator.integers(0, self.rows, self.rows)
            sure, right = self._sure_columns()
            return selective(name, sure[drawn], right[drawn])
        return self._cells.resampled(generator).value(name, positive=self._index.positive)

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        """References and predictions (N,) as arrays of the labels' own type."""
        one_type = len(set(map(type, self._index.names))) == 1
        names = np.array(self._index.names, dtype=None if one_type else object)
        references, predictions = self._rows.columns[:2]
        drawn = slice(None) if index is None else index
        return names[references[drawn]], names[predictions[drawn]]

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_confusion

        return draw_confusion(self._matrix, self._index.names, axes)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._index.names

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts (K, K): rows are references, columns predictions, both in the order of ``label_names``."""
        return self._matrix.copy()

    def per_class(self) -> dict[Label, dict[str, float]]:
        return per_label(self._cells, self._index.names)

    @property
    def _cells(self) -> Cells:
        references, predictions = np.nonzero(self._matrix)
        return Cells(references, predictions, self._matrix[references, predictions])

    @property
    def _score_columns(self) -> NDArray[np.int64]:
        """The labels whose scores are kept: the positive one of two, all of more."""
        return np.array([self._index.positive]) if len(self._index) == 2 else np.arange(len(self._index))

    def _ranked_columns(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        references, _, scores = self._rows.columns
        return references[:, None] == self._score_columns, scores

    def _sure_columns(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(N,) The probability of each predicted label, and whether it is right."""
        references, predictions, scores = self._rows.columns
        if len(self._index) == 2:
            sure = np.where(predictions == self._index.positive, scores[:, 0], 1 - scores[:, 0])
        else:
            sure = scores[np.arange(len(scores)), predictions]
        return sure, references == predictions

    def _add(
        self, references: NDArray[np.int64], labels: NDArray[np.int64], scores: NDArray[np.float64] | None
    ) -> None:
        self.rows += len(references)
        np.add.at(self._matrix, (references, labels), 1)
        if scores is not None:
            self._sums.add(scores, references, labels, self._index.positive)
        if self._keeps_rows:
            kept = [scores[:, self._score_columns]] if scores is not None and self._keeps_scores else []
            self._rows.append(references.astype(np.int32), labels.astype(np.int32), *kept)

    def _moved(self, index: LabelIndex) -> tuple[NDArray[np.int64], Rows]:
        """Matrix and rows under the codes of an index that has all these labels and perhaps more."""
        if index == self._index:
            return self._matrix, self._rows
        codes = self._index.moved(index)
        matrix = np.zeros((len(index), len(index)), dtype=np.int64)
        matrix[np.ix_(codes, codes)] = self._matrix
        if not len(self._rows):
            return matrix, Rows()
        references, predictions, *scores = self._rows.columns
        moved = codes.astype(np.int32)
        return matrix, Rows(moved[references], moved[predictions], *scores)

    def _check(self, index: LabelIndex) -> None:
        if self._of_two and len(index) > 2:
            name = self._of_two[0]
            shown = ", ".join(repr(label) for label in index.names[:5]) + ", ..." * (len(index) > 5)
            raise OptionError(
                f"metric {name!r} is of two labels and there are {len(index)} ({shown}): "
                f"use {name}_macro, {name}_micro or {name}_weighted"
            )
