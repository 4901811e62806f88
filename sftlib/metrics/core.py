"""`Metrics`: accumulate in any batches, merge, read at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, OptionError
from sftlib.metrics import bootstrap
from sftlib.metrics.base import Family
from sftlib.metrics.bound import Bound, Kind
from sftlib.metrics.families import FAMILIES, candidates, family_for
from sftlib.metrics.inputs import (
    MetricFunction,
    as_list,
    called,
    distinct_labels,
    exponential,
    function_name,
    listed,
    number,
)
from sftlib.metrics.labels import Label
from sftlib.metrics.sums import ExactSum
from sftlib.support.checking import checked, nearest, raise_together
from sftlib.support.display import html_table, text_table
from sftlib.support.elsewhere import metric_elsewhere
from sftlib.support.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

FROM_LOSS: dict[str, Callable[[float], float]] = {"loss": float, "perplexity": exponential}
"""Metrics of any family that are a function of the mean loss."""


class Metrics(Mapping[str, float]):
    """Metrics of rows that come in batches: a read-only mapping of metric names to values.

    The values never depend on how the rows were batched, nor on whether they were merged from parts. Values that are
    not defined (no rows yet, ROC-AUC of one class, R² of one row) are nan. What is kept is said by each family. The
    family follows from the names; where several have them all, from the first references: lists of ``O`` and tags with
    prefixes are spans, lists of texts under names of texts are texts, or answers where one is empty; other lists,
    tuples or sets are multi-label, floats without ``label_names`` regression, anything else classification.

    Args:
        names_or_functions: metric names, and functions ``f(references, predictions) -> float`` that stand under their
            own name. For these the labels (as codes) or values of all rows are kept, and they get two arrays (N,) of
            labels or numbers, of several labels a row two lists of N tuples, of tags and texts two lists.
        label_names: the labels, in the order of the confusion matrix; others are an error. None gathers them from
            references and predictions, sorted.
        family: the family, for a task that knows it; `Relations` has an option of its own, given by its ``excluding``.

    Raises:
        OptionError: an unknown metric (with the nearest one), metrics that do not go together, a function without a
            name.
        LabelError: label names that are not strings, whole numbers or bools, or are not distinct.

    Example:
        >>> metrics = Metrics(["accuracy", "f1_macro", "loss"], label_names=("bad", "good"))
        >>> metrics.update(["good", "bad"], ["good", "good"], loss_sum=1.5, count=2)
        Metrics(accuracy=0.5000, f1_macro=0.3333, loss=0.7500, rows=2)
        >>> more = Metrics(["accuracy", "f1_macro", "loss"], label_names=("bad", "good"))
        >>> print(metrics + more.update(["bad", "good"], ["bad", "good"], loss_sum=0.5, count=2))
        metric     value
        accuracy  0.7500
        f1_macro  0.7333
        loss      0.5000
        rows           4
        >>> metrics.confusion_matrix.tolist()
        [[0, 0], [1, 1]]
    """

    @checked
    def __init__(
        self,
        names_or_functions: Iterable[str | MetricFunction],
        *,
        label_names: Iterable[Label] | None = None,
        family: Kind | None = None,
    ) -> None:
        items = listed(names_or_functions)
        self._functions = {function_name(item): item for item in items if not isinstance(item, str)}
        self._names = tuple(item if isinstance(item, str) else function_name(item) for item in items)
        twins = sorted({repr(name) for name in self._names if self._names.count(name) > 1})
        if twins:
            raise OptionError(f"metrics given twice: {', '.join(twins)}")
        self._label_names = distinct_labels(label_names)
        own = [name for name in self._names if name not in self._functions and name not in FROM_LOSS]
        if not _is_kind(family):
            raise OptionError(f"family={family!r}: expected a class of sftlib.metrics, such as Classification")
        self._kind = family
        self._families = candidates(own, (family,) if family else FAMILIES, tuple(FROM_LOSS), self._label_names)
        self._family = self._new_family(self._families[0]) if len(self._families) == 1 else None
        self._loss, self._count = ExactSum(), ExactSum()
        self._values: dict[str, float] = {}  # computed when read, forgotten at the next update

    @checked
    def update(
        self, predictions: Iterable[Any], references: Iterable[Any], loss_sum: float = 0.0, count: float = 0
    ) -> Self:
        """Add a batch of rows; when it raises, nothing was added.

        Args:
            predictions: labels (N,), lists of labels, numbers, or the `Prediction` objects of a task. Metrics of
                probabilities need the latter.
            references: the true labels, lists of labels or numbers (N,).
            loss_sum: the loss summed over the batch.
            count: what to divide it by: rows, or their weights.

        Returns:
            The metrics themselves.

        Raises:
            DataError: numbers of rows differ, values are not numbers, or probabilities are missing or impossible.
            LabelError: labels outside ``label_names``, each with its row in this batch.
        """
        predicted, true = as_list(predictions, what="predictions"), as_list(references, what="references")
        if len(predicted) != len(true):
            raise DataError(f"{len(predicted)} predictions for {len(true)} references: give one for each row")
        loss, weight = number("loss_sum", loss_sum), number("count", count)
        if weight < 0:
            raise DataError(f"count={count!r}: it cannot be negative")
        if true:
            family = self._family or self._new_family(family_for(true, self._families, self._label_names))
            family.update(predicted, true)
            self._family = family
        self._loss.add([loss])
        self._count.add([weight])
        self._values.clear()
        return self

    def __add__(self, other: object) -> Metrics:
        """The metrics of the rows of both.

        Raises:
            DataError: other metrics, other label names, or rows of another family.
        """
        if not isinstance(other, Metrics):
            return NotImplemented
        if set(self._names) != set(other._names) or self._functions != other._functions:
            raise DataError(f"metrics to merge differ: {', '.join(self._names)} and {', '.join(other._names)}")
        if self._label_names and other._label_names and self._label_names != other._label_names:
            raise DataError(f"label names differ: {list(self._label_names)} and {list(other._label_names)}")
        if self._kind and other._kind and self._kind != other._kind:
            raise DataError(f"families differ: {self._kind.title} and {other._kind.title}, or their options")
        family = self._family or other._family
        both = Metrics(
            [self._functions.get(name, name) for name in self._names],
            label_names=self._label_names or other._label_names,
            family=self._kind or other._kind or (type(family) if family else None),
        )
        for part in (self, other):
            both._family = _merged(both._family, part._family)
            both._loss += part._loss
            both._count += part._count
        return both

    @property
    def rows(self) -> int:
        """Number of rows seen."""
        return self._family.rows if self._family else 0

    @property
    def label_names(self) -> tuple[Label, ...] | None:
        """The labels given, or seen until now in sorted order; None for numbers and before the first rows."""
        return self._label_names or (self._family.label_names if self._family else None) or None

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts (K, K): rows are references, columns predictions, both in the order of ``label_names``.

        Of several labels a row (K, 2, 2): one matrix a label, without it and with it.

        Raises:
            DataError: no rows yet, or not a classification.
        """
        return self._seen().confusion_matrix

    def per_class(self) -> dict[Label, dict[str, float]]:
        """Precision, recall, F1 and support (number of references) of each label.

        Raises:
            DataError: no rows yet, or not a classification.

        Example:
            >>> Metrics(["accuracy"]).update(["a", "b"], ["a", "a"]).per_class()["a"]
            {'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666, 'support': 2.0}
        """
        return self._seen().per_class()

    @checked
    def interval(self, name: str, level: float = 0.95, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """A confidence interval by the percentile bootstrap over rows.

        Metrics of labels draw the counts anew, which is the same as drawing rows; ``roc_auc``, ``average_precision``,
        regression and functions draw rows. The loss, ``log_loss``, ``brier`` and ``ece`` are kept as sums and have
        none. Resamples in which the metric is not defined are left out. A thousand take about a second.

        Args:
            name: one of these metrics.
            level: share of the bootstrap values inside, in (0, 1).
            resamples: how often to draw.
            seed: of the draws; the same seed gives the same interval.

        Returns:
            The lower and the upper end; nan without rows.

        Raises:
            OptionError: another metric, one without an interval, or a value out of range.

        Example:
            >>> metrics = Metrics(["accuracy"]).update(["a"] * 90 + ["b"] * 10, ["a"] * 100)
            >>> low, high = metrics.interval("accuracy")
            >>> low < metrics["accuracy"] < high
            True
        """
        raise_together(bootstrap.problems(level, resamples, seed))
        self._check_interval(name)
        family, function = self._family, self._functions.get(name)
        if family is None or not family.rows:
            return math.nan, math.nan
        if function is not None:
            replicate = bootstrap.of_rows(partial(called, function), family)
        else:
            replicate = partial(family.resampled, name)
        return bootstrap.percentile_interval(replicate, level=level, resamples=resamples, seed=seed)

    def to_dict(self) -> dict[str, float]:
        """Plain floats under the metric names; what is not defined is nan."""
        return dict(self)

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame with the columns ``metric`` and ``value`` (extra ``data``)."""
        frame: DataFrame = require("pandas", extra="data", purpose="Metrics.to_frame()").DataFrame(
            {"metric": list(self), "value": list(self.values())}
        )
        return frame

    @checked
    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw them (extra ``plot``): a confusion matrix, F1 of each label, or predictions over references.

        Args:
            axes: where to draw; None makes a figure.

        Returns:
            The axes; ``axes.figure.savefig("metrics.png")`` writes it.

        Raises:
            DataError: no rows yet.
            MissingExtraError: matplotlib is not installed.
        """
        return self._seen().plot(axes)

    def __getitem__(self, name: str) -> float:
        if name not in self:
            elsewhere = metric_elsewhere(str(name))
            hint = f"it is called {elsewhere!r} here" if elsewhere in self else nearest(name, self._names)
            raise KeyError(f"{name}: {hint}")
        if name not in self._values:
            self._values[name] = self._value(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __str__(self) -> str:
        return text_table(["metric", "value"], self._table())

    def __repr__(self) -> str:
        return f"Metrics({', '.join([f'{name}={value:.4f}' for name, value in self.items()] + [f'rows={self.rows}'])})"

    def _repr_html_(self) -> str:
        return html_table(["metric", "value"], self._table())

    def _table(self) -> list[tuple[str, object]]:
        return [*self.items(), ("rows", self.rows)]

    def _new_family(self, kind: Kind) -> Family:
        own = [name for name in self._names if name not in self._functions and name not in FROM_LOSS]
        return kind(own, label_names=self._label_names, keep_rows=bool(self._functions))

    def _value(self, name: str) -> float:
        if name in FROM_LOSS and name not in self._functions:
            return FROM_LOSS[name](self._loss.value / self._count.value if self._count.value else math.nan)
        if self._family is None or not self._family.rows:
            return math.nan
        function = self._functions.get(name)
        return called(function, *self._family.pairs()) if function else self._family.value(name)

    def _seen(self) -> Family:
        if self._family is None or not self._family.rows:
            raise DataError("no rows have been seen: call update() first")
        return self._family

    def _check_interval(self, name: str) -> None:
        if name not in self:
            raise OptionError(f"interval of {name!r}: {nearest(name, self._names)}")
        sums = set(FROM_LOSS).union(*(family.without_interval for family in self._families)) - set(self._functions)
        if name in sums:
            having = [other for other in self._names if other not in sums]
            raise OptionError(f"{name!r} is kept as a sum and has no interval; those that have one: {having or 'none'}")


def _is_kind(family: object) -> bool:
    return family is None or isinstance(family, Bound) or (isinstance(family, type) and issubclass(family, Family))


def _merged(first: Family | None, second: Family | None) -> Family | None:
    if first is None or second is None:
        return first or second
    if type(first) is not type(second):
        raise DataError(f"rows of {first.title} and of {second.title} cannot be merged")
    return first.merged(second)
