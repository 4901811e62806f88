"""A label for each letter of a row, scored over all letters that count.

``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, LabelError, OptionError
from sftlib.metrics.base import Family
from sftlib.metrics.cells import Cells, per_label
from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import SHOWN, Label
from sftlib.metrics.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACCURACY = ("q3", "q8")  # what it is called of three or eight states of a protein's backbone


@final
class Residues(Family):
    """Accuracy, F1 and agreement over the letters of all rows; ``q3`` and ``q8`` are other names of the accuracy.

    References are a string or a list of labels a row, with None for letters that do not count; predictions are of the
    same length, or have them as ``.labels``. Intervals draw rows, since letters of one row are not independent.

    Kept: the confusion matrix (K, K) of each row, and the labels themselves where functions ask for them.
    """

    title = "residue classification"
    names = (
        "accuracy",
        *_ACCURACY,
        "balanced_accuracy",
        *(f"{rate}_{average}" for rate in ("precision", "recall", "f1") for average in ("macro", "micro", "weighted")),
        "mcc",
        "cohen_kappa",
    )

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        if not label_names:
            raise OptionError("label_names: metrics of residues need the labels, such as ('H', 'E', 'C')")
        self._names = tuple(label_names)
        self._codes = {name: code for code, name in enumerate(self._names)}
        self._rows = Rows()  # (N, K, K) counts of (reference, prediction)
        self._pairs: list[tuple[list[Any], list[Any]]] = []
        self._keeps_pairs = keep_rows

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return False  # only where it is asked for: strings and lists may be anything

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._rows)

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        found = attribute(predictions, "labels")
        problems = [self._problem(row, *pair) for row, pair in enumerate(zip(references, found, strict=True))]
        if any(problems):
            raise LabelError("\n".join([problem for problem in problems if problem][:SHOWN]))
        size = len(self._names)
        counts = np.zeros((len(references), size, size), np.int64)
        for row, (true, predicted) in enumerate(zip(references, found, strict=True)):
            there = [(self._codes[a], self._codes[b]) for a, b in zip(true, predicted, strict=True) if a is not None]
            np.add.at(counts[row], tuple(np.array(there, np.int64).reshape(-1, 2).T), 1)
        self._rows.append(counts)
        if self._keeps_pairs:
            self._pairs += [(list(true), list(predicted)) for true, predicted in zip(references, found, strict=True)]

    def _problem(self, row: int, true: Any, predicted: Any) -> str | None:
        if not all(isinstance(side, str | list | tuple) for side in (true, predicted)) or len(true) != len(predicted):
            return f"row {row}: expected a label for each letter, got {true!r:.40} and {predicted!r:.40}"
        odd = [label for label in true if label is not None and label not in self._codes]
        odd += [label for label in predicted if label not in self._codes]
        return f"row {row}: the label {odd[0]!r} is not among {list(self._names)[:SHOWN]}" if odd else None

    def merged(self, other: Self) -> Self:
        if self._names != other._names:
            raise DataError(f"label names differ: {list(self._names)} and {list(other._names)}")
        both = copy(self)
        both._rows = self._rows.merged(other._rows)
        both._pairs = self._pairs + other._pairs
        return both

    def value(self, name: str) -> float:
        return self._value(name, self.confusion_matrix)

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        drawn = generator.integers(0, self.rows, self.rows)
        return self._value(name, self._rows.columns[0][drawn].sum(axis=0))

    def _value(self, name: str, counts: NDArray[np.int64]) -> float:
        if not counts.any():
            return float("nan")
        return _cells(counts).value("accuracy" if name in _ACCURACY else name)

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        """References, with None for letters that do not count, and predictions: two lists of N lists of labels."""
        drawn = self._pairs if index is None else [self._pairs[row] for row in index]
        return [true for true, _ in drawn], [predicted for _, predicted in drawn]

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_confusion

        return draw_confusion(self.confusion_matrix, self._names, axes)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._names

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts (K, K) of letters: rows are references, columns predictions."""
        counts: NDArray[np.int64] = self._rows.columns[0].sum(axis=0)
        return counts

    def per_class(self) -> dict[Label, dict[str, float]]:
        return per_label(_cells(self.confusion_matrix), self._names)


def _cells(counts: NDArray[np.int64]) -> Cells:
    true, predicted = np.nonzero(counts)
    return Cells(true, predicted, counts[true, predicted])
