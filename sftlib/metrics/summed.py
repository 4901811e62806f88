"""Families whose metrics are functions of sums over rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, OptionError
from sftlib.metrics.base import Family
from sftlib.metrics.labels import SHOWN, Label
from sftlib.metrics.row_sums import Amounts, RowSums

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Sums = Mapping[Hashable, float]


class Read(NamedTuple):
    """A batch as read: what user functions would get of each row, and what is summed over rows."""

    references: list[Any]
    predictions: list[Any]
    amounts: list[Amounts]


class Summed(Family):
    """A family that reads rows one by one and computes every metric from sums over rows.

    The few numbers of each row are kept for intervals, references and predictions only for user functions.
    """

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        self._names = tuple(names)
        self._sums = RowSums()
        self._kept: tuple[list[Any], list[Any]] = ([], [])  # references and predictions, when functions ask for them
        self._keeps_rows = keep_rows

    @abstractmethod
    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        """Read a batch without changing anything that would matter if it raised."""

    @abstractmethod
    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        """A metric of sums over ``rows`` rows (at least one)."""

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._sums)

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        read = self._read(predictions, references)
        self._sums.append(read.amounts)
        if self._keeps_rows:
            self._kept[0].extend(read.references)
            self._kept[1].extend(read.predictions)

    def merged(self, other: Self) -> Self:
        both = copy(self)
        both._sums = self._sums.merged(other._sums)
        both._kept = (self._kept[0] + other._kept[0], self._kept[1] + other._kept[1])
        return both

    def value(self, name: str) -> float:
        return self._of_sums(name, self._sums.total(), self.rows)

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        return self._of_sums(name, self._sums.total(generator.integers(0, self.rows, self.rows)), self.rows)

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[list[Any], list[Any]]:
        """References and predictions: two lists of N."""
        references, predictions = self._kept
        if index is None:
            return list(references), list(predictions)
        return [references[row] for row in index], [predictions[row] for row in index]

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_values

        return draw_values({name: self.value(name) for name in self._names}, self.rows, axes)


def rate(numerator: float, denominator: float) -> float:
    """A share; of nothing it is 0, as in scikit-learn.

    Example:
        >>> rate(1, 2), rate(0, 0)
        (0.5, 0.0)
    """
    return numerator / denominator if denominator else 0.0


def raise_rows(problems: Sequence[str]) -> None:
    """Raise a `DataError` that lists the first problems and counts the others."""
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([*problems[:SHOWN], *more]))


def no_labels(label_names: Sequence[Label] | None) -> None:
    """Refuse label names where there are none."""
    if label_names:
        raise OptionError("label_names are for classification: these metrics have no labels")


def ratio(numerator: float, denominator: float) -> float:
    """A share; of nothing it is not defined.

    Example:
        >>> ratio(1, 2), ratio(0, 0)
        (0.5, nan)
    """
    return numerator / denominator if denominator else math.nan
