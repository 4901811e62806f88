"""Several targets a row, of which some may be missing: the mean over targets of a metric, and each by itself.

A gap counts nowhere: each target is scored on the rows that have it. ``N`` rows, ``T`` targets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, OptionError
from sftlib.metrics.base import Family, quiet
from sftlib.metrics.bound import Bound
from sftlib.metrics.labels import SHOWN, Label
from sftlib.metrics.regression import value_of_numbers
from sftlib.metrics.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


class Targets(Family):
    """What both kinds of targets have in common: two tables (N, T) of float64, with nan where there is no reference.

    Args:
        targets: their names, in order.
    """

    predicted: str  # the attribute of a prediction that maps targets to numbers

    def __init__(
        self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool, targets: Sequence[str]
    ) -> None:
        self._targets = tuple(targets)
        self._rows = Rows()

    @classmethod
    def of(cls, targets: Sequence[str]) -> Bound:
        """The family for these targets.

        Example:
            >>> from sftlib.metrics import Metrics
            >>> metrics = Metrics(["mae", "mae_logP"], family=TargetNumbers.of(["logS", "logP"]))
            >>> metrics.update([{"logS": 1.0, "logP": 2.0}], [{"logS": 3.0, "logP": None}])
            Metrics(mae=2.0000, mae_logP=nan, rows=1)
        """
        return Bound(cls, {"targets": tuple(targets)})

    @classmethod
    @final
    def names_of(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        return (*cls.names, *(f"{name}_{target}" for target in options["targets"] for name in cls.names))

    @classmethod
    @final
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return any(isinstance(reference, Mapping) for reference in references)

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._rows)

    @final
    def update(self, predictions: list[Any], references: list[Any]) -> None:
        true = self._table(references, what="references")
        found = [row if isinstance(row, Mapping) else getattr(row, self.predicted, row) for row in predictions]
        self._rows.append(true, self._table(found, what="predictions"))

    def _table(self, rows: list[Any], *, what: str) -> Floats:
        """(N, T) the numbers of mappings, nan for gaps.

        Raises:
            DataError: rows that have other targets.
        """
        wanted = set(self._targets)
        bad = [row for row, value in enumerate(rows) if not isinstance(value, Mapping) or set(value) != wanted]
        if bad:
            expected = f"expected a number (or None) for each of {list(self._targets)[:SHOWN]}"
            raise DataError("\n".join(f"{what}, row {row}: {expected}, got {rows[row]!r:.60}" for row in bad[:SHOWN]))
        numbers = [[np.nan if row[name] is None else float(row[name]) for name in self._targets] for row in rows]
        return np.array(numbers, np.float64).reshape(len(rows), len(self._targets))

    @final
    def merged(self, other: Self) -> Self:
        if self._targets != other._targets:
            raise DataError(f"targets differ: {list(self._targets)} and {list(other._targets)}")
        both = copy(self)
        both._rows = self._rows.merged(other._rows)
        return both

    @final
    def value(self, name: str) -> float:
        return self._value(name, *self._rows.columns)

    @final
    def resampled(self, name: str, generator: np.random.Generator) -> float:
        return self._value(name, *self.pairs(generator.integers(0, self.rows, self.rows)))

    def _value(self, name: str, true: Floats, predicted: Floats) -> float:
        """Of one target, or the mean over those for which the metric is defined; nan where it is for none."""
        stem, chosen = self._parsed(name)
        found = [self._of_target(stem, true[:, column], predicted[:, column]) for column in chosen]
        known = [value for value in found if value == value]
        return float(np.mean(known)) if known else float("nan")

    def _parsed(self, name: str) -> tuple[str, Sequence[int]]:
        if name in self.names:
            return name, range(len(self._targets))
        # Names may hold what separates them: of all ways to read one, that which is a metric and a target.
        for column, target in enumerate(self._targets):
            stem = name.removesuffix(f"_{target}")
            if stem in self.names and name.endswith(f"_{target}"):
                return stem, [column]
        raise OptionError(f"unknown metric {name!r}")

    def _of_target(self, name: str, true: Floats, predicted: Floats) -> float:
        there = ~np.isnan(true)
        return self.of_one(name, true[there], predicted[there]) if there.any() else float("nan")

    @staticmethod
    @abstractmethod
    def of_one(name: str, true: Floats, predicted: Floats) -> float:
        """A metric of one target (n,), without gaps and of at least one row."""

    @final
    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Floats, Floats]:
        """References, with nan for gaps, and predictions: two float64 arrays (N, T)."""
        true, predicted = self._rows.columns
        return (true, predicted) if index is None else (true[index], predicted[index])

    @final
    def per_class(self) -> dict[Label, dict[str, float]]:
        """Every metric of each target, and on how many rows."""
        true, predicted = self._rows.columns
        return {
            target: {
                **{name: self._of_target(name, true[:, column], predicted[:, column]) for name in self.names},
                "support": float((~np.isnan(true[:, column])).sum()),
            }
            for column, target in enumerate(self._targets)
        }


@final
class TargetNumbers(Targets):
    """Errors and correlations of several numbers a row, as of one; the mean over targets, or ``rmse_logS`` of one."""

    title = "regression of several targets"
    names = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
    predicted = "values"

    @staticmethod
    def of_one(name: str, true: Floats, predicted: Floats) -> float:
        return value_of_numbers(name, true, predicted)

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_parity

        true, predicted = self._rows.columns
        known = ~np.isnan(true)
        columns = [(true[known[:, k], k], predicted[known[:, k], k]) for k in range(len(self._targets))]
        return draw_parity(dict(zip(self._targets, columns, strict=True)), axes)


@final
class TargetClasses(Targets):
    """No or yes for several targets a row, from probabilities; the mean over targets, or ``roc_auc_toxic`` of one.

    ``average_precision`` is the area under the curve of precision over recall; ``pr_auc`` is another name for it. Where
    all rows of a target have one class, neither is defined, nor is ``roc_auc``: the target is left out of the mean.
    ``hamming`` is the share of wrong answers at one half. ``f1_macro`` is the mean of the targets' F1.
    """

    title = "classification of several targets"
    names = ("roc_auc", "average_precision", "pr_auc", "f1_macro", "accuracy", "balanced_accuracy", "hamming", "mcc")
    predicted = "probabilities"

    @staticmethod
    def of_one(name: str, true: Floats, predicted: Floats) -> float:
        from sklearn import metrics

        truth, found = true > 0.5, predicted >= 0.5
        if not np.isfinite(predicted).all():
            return float("nan")
        if name in ("roc_auc", "average_precision", "pr_auc"):
            if truth.all() or not truth.any():
                return float("nan")
            score = metrics.roc_auc_score if name == "roc_auc" else metrics.average_precision_score
            return float(score(truth, predicted))
        functions: dict[str, Any] = {
            "f1_macro": lambda *pair: metrics.f1_score(*pair, zero_division=0),
            "accuracy": metrics.accuracy_score,
            "balanced_accuracy": metrics.balanced_accuracy_score,
            "hamming": lambda *pair: 1.0 - metrics.accuracy_score(*pair),
            "mcc": metrics.matthews_corrcoef,
        }
        with quiet():
            return float(functions[name](truth, found))

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_values

        values = {str(target): found["roc_auc"] for target, found in self.per_class().items()}
        axes = draw_values(values, self.rows, axes)
        axes.set(xlabel="ROC-AUC")
        return axes
