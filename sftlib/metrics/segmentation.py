"""Semantic segmentation: one of ``K`` classes for each pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftlib.metrics.labels import Label
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, raise_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Matrix = NDArray[np.int64]
Numbers = NDArray[np.integer[Any]]

_IGNORED = 255


class Segmentation(Summed):
    """Overlap of masks, over the pixels of all pictures together.

    References and predictions are an (H, W) array of class numbers a row, or predictions with ``.mask``. Pixels of a
    reference that are negative or 255 do not count.

    ``miou`` is the mean over classes of intersection over union (the Jaccard index), ``dice`` of twice the intersection
    over both areas (the F1 of pixels), each over the classes that came as a reference or a prediction;
    ``mean_accuracy`` the mean of recall over the classes of references; ``pixel_accuracy`` the share of right pixels.

    Kept: for each row how many pixels of each class were taken for which.
    """

    title = "semantic segmentation"
    names = ("miou", "pixel_accuracy", "mean_accuracy", "dice")

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        super().__init__(names, label_names=label_names, keep_rows=keep_rows)
        self._label_names = None if label_names is None else tuple(label_names)

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return getattr(references[0], "ndim", 0) == 2

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return tuple(range(self._classes(self._sums.total()))) if self._label_names is None else self._label_names

    @property
    def confusion_matrix(self) -> Matrix:
        """Pixels (K, K): rows are references, columns predictions, both in the order of ``label_names``."""
        return self._matrix(self._sums.total())

    def per_class(self) -> dict[Label, dict[str, float]]:
        """IoU, Dice, recall (``accuracy``), precision and the pixels of references of each label; nan of nothing."""
        matrix = self.confusion_matrix
        both, true, found = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        columns = {
            "iou": _share(both, true + found - both),
            "dice": _share(2 * both, true + found),
            "accuracy": _share(both, true),
            "precision": _share(both, found),
            "support": true.astype(np.float64),
        }
        return {
            label: {name: float(values[code]) for name, values in columns.items()}
            for code, label in enumerate(self.label_names)
        }

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_confusion

        return draw_confusion(self.confusion_matrix, self.label_names, axes)

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        found = [_mask(getattr(prediction, "mask", prediction)) for prediction in predictions]
        true = [_mask(reference) for reference in references]
        raise_rows([*_problems("predictions", found), *_problems("references", true)])
        pairs = [(a, b) for a, b in zip(found, true, strict=True) if a is not None and b is not None]
        raise_rows(
            [
                f"row {row}: the prediction is {a.shape[0]} x {a.shape[1]}, the reference {b.shape[0]} x {b.shape[1]}"
                for row, (a, b) in enumerate(pairs)
                if a.shape != b.shape
            ]
        )
        counted = [_counted(a, b) for a, b in pairs]
        raise_rows([problem for row, cells in enumerate(counted) for problem in self._strange(row, cells)])
        amounts: list[Amounts] = [dict(cells) for cells in counted]
        return Read([b for _, b in pairs], [a for a, _ in pairs], amounts)

    def _strange(self, row: int, cells: dict[tuple[int, int], float]) -> list[str]:
        """Numbers that are no class."""
        classes = len(self._label_names) if self._label_names is not None else _IGNORED
        strange = sorted({number for pair in cells for number in pair if not 0 <= number < classes})
        return [f"row {row}: the number {number} is no class, expected 0 to {classes - 1}" for number in strange]

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        matrix = self._matrix(sums)
        both, true, found = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        if name == "pixel_accuracy":
            return _mean(_share(both.sum(keepdims=True), true.sum(keepdims=True)))
        if name == "mean_accuracy":
            return _mean(_share(both, true))
        return _mean(_share(2 * both, true + found) if name == "dice" else _share(both, true + found - both))

    def _classes(self, sums: Sums) -> int:
        pairs: Any = sums
        return 1 + max((number for pair in pairs for number in pair), default=-1)

    def _matrix(self, sums: Sums) -> Matrix:
        """(K, K) pixels by reference and prediction."""
        classes = self._classes(sums) if self._label_names is None else len(self._label_names)
        matrix = np.zeros((classes, classes), np.int64)
        pairs: Any = sums
        for (true, found), count in pairs.items():
            matrix[true, found] = round(count)
        return matrix


def _mask(value: Any) -> Numbers | None:
    array = np.asarray(value)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    return array if array.ndim == 2 and array.dtype.kind in "iu" else None


def _problems(what: str, masks: Sequence[Numbers | None]) -> list[str]:
    wanted = "expected an (H, W) array of whole numbers (or a prediction with .mask)"
    return [f"{what}, row {row}: {wanted}" for row, mask in enumerate(masks) if mask is None]


def _counted(found: Numbers, true: Numbers) -> dict[tuple[int, int], float]:
    """(reference, prediction) -> pixels, of those that count."""
    counts = (true >= 0) & (true != _IGNORED)
    pairs = np.stack([true[counts].astype(np.int64), found[counts].astype(np.int64)])  # (2, pixels)
    wide = int(pairs.max(initial=0)) + 1
    if pairs.min(initial=0) < 0 or wide > 2**12:  # no class at all, which is told: one pixel of each is enough
        return dict.fromkeys(map(tuple, np.unique(pairs, axis=1).T.tolist()), 1.0)
    cells = np.bincount(pairs[0] * wide + pairs[1], minlength=1)
    taken = np.flatnonzero(cells)
    return {divmod(cell, wide): float(cells[cell]) for cell in taken.tolist()}


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Part over whole; nan of nothing."""
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of what is defined; nan of nothing."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined.tolist()) / len(defined) if len(defined) else float("nan")
