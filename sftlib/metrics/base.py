"""What a family of metrics answers."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError
from sftlib.metrics.labels import Label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Family(ABC):
    """Metrics that share a kind of reference and the statistics they are computed from.

    A family is made by `Metrics` for the metrics that were asked for, and keeps no more than those need.

    Args:
        names: the metrics asked for, all of them among the family's own `names`.
        label_names: the labels, in the order of codes, or None to gather them.
        keep_rows: whether user functions will ask for `pairs`.
    """

    title: ClassVar[str]
    """What people call it, for messages."""
    names: ClassVar[tuple[str, ...]]
    """Every metric that it can compute."""
    without_interval: ClassVar[frozenset[str]] = frozenset()
    """Those kept as sums only, from which rows cannot be drawn again."""

    rows: int = 0

    @abstractmethod
    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None: ...

    @classmethod
    @abstractmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        """Whether these references are of this family; asked only where metric names leave a choice."""

    @classmethod
    def names_of(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Every metric that it can compute under options of its own; see `sftlib.metrics.bound`."""
        return cls.names

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        """Whether it may be meant by these metrics (perhaps none but functions) and labels, if others are left."""
        return True

    @abstractmethod
    def update(self, predictions: list[Any], references: list[Any]) -> None:
        """Add rows (at least one, as many predictions as references); nothing is added when it raises."""

    @abstractmethod
    def merged(self, other: Self) -> Self:
        """A new family that has seen the rows of both."""

    @abstractmethod
    def value(self, name: str) -> float:
        """A metric over all rows (there is at least one), nan when it is not defined."""

    @abstractmethod
    def resampled(self, name: str, generator: np.random.Generator) -> float:
        """The metric over as many rows drawn with replacement: one replicate of the bootstrap."""

    @abstractmethod
    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        """References and predictions as user functions get them: all rows, or those of ``index``."""

    @abstractmethod
    def plot(self, axes: Axes | None) -> Axes:
        """Draw the picture that says most about these metrics."""

    @property
    def label_names(self) -> tuple[Label, ...] | None:
        """The labels, or None where there are none."""
        return None

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts of (reference, prediction), where the family has them."""
        raise DataError(f"{self.title} has no confusion matrix")

    def per_class(self) -> dict[Label, dict[str, float]]:
        """Precision, recall, F1 and support of each label, where the family has labels."""
        raise DataError(f"{self.title} has no classes")


@contextmanager
def quiet() -> Iterator[None]:
    """Let scikit-learn, scipy and numpy answer nan or 0 without a warning: the reference says where they do."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
