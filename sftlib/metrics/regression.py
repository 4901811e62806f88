"""One number a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, OptionError
from sftlib.metrics.base import Family, quiet
from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import SHOWN, Label, own_types
from sftlib.metrics.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


class Regression(Family):
    """Squared and absolute errors, R² and correlations.

    Kept: the two float64 numbers of each row (16 bytes), which ``spearman`` and every interval need; the values are
    then those of scikit-learn and scipy on the rows themselves, however far the data lie from zero.

    ``r2`` and the correlations of one row are nan, and so is a correlation with a constant. A prediction that is not
    finite makes every metric nan.
    """

    title = "regression"
    names = ("mse", "rmse", "mae", "r2", "pearson", "spearman")

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        if label_names:
            raise OptionError("label_names are for classification: regression metrics have no labels")
        self._rows = Rows()

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return not label_names and any(isinstance(value, float | np.floating) for value in references)

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._rows)

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        true = _numbers(references, what="references")
        missing = np.flatnonzero(~np.isfinite(true))[:SHOWN]
        if len(missing):
            raise DataError("\n".join(f"references, row {row}: {true[row]} is not a finite number" for row in missing))
        self._rows.append(true, _numbers(attribute(predictions, "value"), what="predictions"))

    def merged(self, other: Self) -> Self:
        both = type(self)((), label_names=None, keep_rows=False)
        both._rows = self._rows.merged(other._rows)
        return both

    def value(self, name: str) -> float:
        return value_of_numbers(name, *self.pairs())

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        return value_of_numbers(name, *self.pairs(generator.integers(0, self.rows, self.rows)))

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Floats, Floats]:
        """References and predictions: two float64 arrays (N,)."""
        references, predictions = self._rows.columns
        return (references, predictions) if index is None else (references[index], predictions[index])

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_scatter

        return draw_scatter(*self.pairs(), axes)


def value_of_numbers(name: str, references: Floats, predictions: Floats) -> float:
    """One metric of two columns (N,)."""
    from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped, unused-ignore]
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    if not np.isfinite(predictions).all() or (len(references) < 2 and name in ("r2", "pearson", "spearman")):
        return float("nan")
    functions: dict[str, Any] = {
        "mse": mean_squared_error,
        "rmse": lambda *pair: math.sqrt(mean_squared_error(*pair)),
        "mae": mean_absolute_error,
        "r2": r2_score,
        "pearson": lambda *pair: pearsonr(*pair).statistic,
        "spearman": lambda *pair: spearmanr(*pair).statistic,
    }
    with quiet():
        return float(functions[name](references, predictions))


def _numbers(values: list[Any], *, what: str) -> Floats:
    """The values as float64 (N,).

    Raises:
        DataError: values that are not numbers, each with its row.
    """
    values = own_types(values)
    bad = [row for row, value in enumerate(values) if not isinstance(value, Real)]
    if bad:
        shown = [f"{what}, row {row}: expected a number, got {values[row]!r:.50}" for row in bad[:SHOWN]]
        raise DataError("\n".join(shown + [f"... and {len(bad) - SHOWN} more"] * (len(bad) > SHOWN)))
    return np.array(values, dtype=np.float64)
