"""Any number of labels a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import LabelError
from sftlib.metrics.base import Family
from sftlib.metrics.cells import AVERAGES, RATES, Cells, per_label
from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import SHOWN, Label, LabelIndex, in_order, own_types
from sftlib.metrics.rows import Rows
from sftlib.metrics.scores import RANKED, probabilities, ranked, score_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETS = (list, tuple, set, frozenset, np.ndarray)
Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Sorted label codes of one row's reference and prediction."""


_RANKED = {**{name: name for name in RANKED}, "map": "average_precision"}
"""Metrics of ranks -> how they are computed; "mean average precision" is what pictures' people call one of them."""


class MultiLabel(Family):
    """Exact match, Hamming loss, precision, recall, F1 and ranking metrics of label sets.

    Kept: each distinct pair (reference set, predicted set) and how often it came, at most one entry a row; for
    ``roc_auc`` and ``average_precision`` the float64 probabilities (K) of each row.

    ``accuracy`` is ``subset_accuracy``: all labels of a row right. Averages are over all labels in ``label_names``, an
    absent one counting 0, as scikit-learn's of an indicator matrix; ``samples`` averages over rows. ``roc_auc`` and
    ``average_precision`` are macro averages; ``map`` (mean average precision) is another name of the latter.
    """

    title = "multi-label classification"
    names = (
        "accuracy",
        "subset_accuracy",
        "hamming",
        *(f"{rate}_{average}" for rate in RATES for average in (*AVERAGES, "samples")),
        *_RANKED,
    )

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        self.rows = 0
        self._index = LabelIndex(label_names or (), closed=label_names is not None)
        self._counts: Counter[Pair] = Counter()
        self._pairs: list[Pair] = []  # in order of the rows, when functions ask for them
        self._scores = Rows()  # truth and scores (N, K), when ranks are asked for
        self._built: Cells | None = None  # from the counts when first read, until they change
        self._keeps_pairs = keep_rows
        self._needs_scores = [name for name in names if name in _RANKED]

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return any(isinstance(reference, SETS) for reference in references)

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        index, scores = self._index, None
        true = _label_lists(references, what="references")
        predicted = _label_lists(attribute(predictions, "labels"), what="predictions")
        if self._needs_scores:
            found = score_labels(predictions, self._needs_scores[0])
            index = index if index.closed else LabelIndex(in_order(own_types(list(found))), closed=True)
            scores = probabilities(predictions, index.names, sum_to_one=False)
        if not (index.has_all(chain.from_iterable(true)) and index.has_all(chain.from_iterable(predicted))):
            index = index.including({"references": enumerate(true), "predictions": enumerate(predicted)})
        self._counts, self._pairs = self._moved(index)
        self._index = index
        self._add([(index.code_set(a), index.code_set(b)) for a, b in zip(true, predicted, strict=True)], scores)

    def merged(self, other: Self) -> Self:
        index = self._index.merged(other._index)
        both = copy(self)
        both._index = index
        (mine, my_pairs), (theirs, their_pairs) = self._moved(index), other._moved(index)
        both._counts = mine + theirs
        both._built = None
        both._pairs = my_pairs + their_pairs
        both._scores = self._scores.merged(other._scores)
        both.rows = self.rows + other.rows
        return both

    def value(self, name: str) -> float:
        if not len(self._index):
            return float("nan")  # no label was seen at all
        return ranked(_RANKED[name], *self._scores.columns) if name in _RANKED else self._cells.value(name)

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        if not len(self._index):
            return float("nan")
        if name in _RANKED:
            drawn = generator.integers(0, self.rows, self.rows)
            truth, scores = self._scores.columns
            return ranked(_RANKED[name], truth[drawn], scores[drawn])
        return self._cells.resampled(generator).value(name)

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        """References and predictions: two lists of N tuples of labels."""
        drawn = self._pairs if index is None else [self._pairs[row] for row in index]
        names = self._index.names
        sides = ([tuple(names[code] for code in pair[side]) for pair in drawn] for side in (0, 1))
        return next(sides), next(sides)

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_bars

        return draw_bars(self.per_class(), axes)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._index.names

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts (K, 2, 2), one matrix a label: rows are the reference without and with it, columns the prediction."""
        from sklearn.metrics import multilabel_confusion_matrix

        cells, labels = self._cells, range(len(self._index))
        counts = multilabel_confusion_matrix(
            cells.references, cells.predictions, labels=labels, sample_weight=cells.counts
        )
        return np.asarray(counts, dtype=np.int64)

    def per_class(self) -> dict[Label, dict[str, float]]:
        return per_label(self._cells, self._index.names)

    @property
    def _cells(self) -> Cells:
        if self._built is not None:
            return self._built
        pairs = sorted(self._counts)  # in one order, whatever the batches were
        references, predictions = (self._indicators([pair[side] for pair in pairs]) for side in (0, 1))
        counts = np.array([self._counts[pair] for pair in pairs], dtype=np.int64)
        self._built = Cells(references, predictions, counts, columns=len(self._index))
        return self._built

    def _indicators(self, code_sets: Sequence[tuple[int, ...]]) -> Any:
        """0 and 1 of M sets of codes: a sparse CSR matrix (M, K), of two columns at least (see `Cells`)."""
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped, unused-ignore]

        columns = np.fromiter(chain.from_iterable(code_sets), dtype=np.int64)
        ends = np.cumsum([0, *(len(codes) for codes in code_sets)])
        shape = (len(code_sets), max(len(self._index), 2))
        return csr_matrix((np.ones(len(columns), dtype=np.int64), columns, ends), shape=shape)

    def _add(self, pairs: list[Pair], scores: NDArray[np.float64] | None) -> None:
        self.rows += len(pairs)
        self._counts.update(pairs)
        self._built = None
        if self._keeps_pairs:
            self._pairs.extend(pairs)
        if scores is not None:
            truth = self._indicators([true for true, _ in pairs]).toarray()[:, : len(self._index)]
            self._scores.append(truth.astype(np.bool_), scores)

    def _moved(self, index: LabelIndex) -> tuple[Counter[Pair], list[Pair]]:
        """Counts and pairs under the codes of an index that has all these labels and perhaps more."""
        if index == self._index:
            return self._counts, self._pairs
        codes = self._index.moved(index).tolist()

        def moved(pair: Pair) -> Pair:
            true, predicted = (tuple(sorted(codes[code] for code in side)) for side in pair)
            return true, predicted

        return Counter({moved(pair): count for pair, count in self._counts.items()}), [moved(p) for p in self._pairs]


def _label_lists(rows: list[Any], *, what: str) -> list[list[Any]]:
    bad = [row for row, labels in enumerate(rows) if not isinstance(labels, SETS)]
    if bad:
        raise LabelError(
            "\n".join(f"{what}, row {row}: expected a list of labels, got {rows[row]!r:.50}" for row in bad[:SHOWN])
            + (f"\n... and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
        )
    return [own_types(list(labels)) for labels in rows]
