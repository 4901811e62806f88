"""Any number of ``K`` labels per row: the head, the loss and the prediction of every task that has them.

Letters: ``N`` rows, ``B`` rows of a batch, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import LabelError
from sftlib.metrics import MultiLabel as MultiLabelMetrics
from sftlib.models.sources import Head
from sftlib.support.checking import nearest, raise_together, real_number
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.labels import SeveralLabels, check_labels
from sftlib.tasks.vector import VectorTask

#: What ``thresholds`` may be.
Thresholds = float | str | Mapping[Any, float] | None

_HALF = 0.5


@final
@dataclass(frozen=True)
class MultiLabel:
    """The labels whose probability reaches their threshold, which is one half where nothing else is said.

    Attributes:
        labels: in the order of the task's label names; may be empty.
        probabilities: label -> probability, each between 0 and 1 for itself.
    """

    labels: tuple[Label, ...]
    probabilities: Mapping[Label, float] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        sure = ", ".join(f"{name!r}: {self.probabilities[name]:.4g}" for name in self.labels)
        return f"Prediction(labels={{{sure}}})"


@dataclass(frozen=True, kw_only=True, repr=False)
class MultiLabelTask(VectorTask):
    """Any of ``K`` labels per row, by binary cross-entropy averaged over rows and labels, whatever a row is made of.

    Args:
        thresholds: the probability from which a label is given: a number for all, label -> number, or ``"valid"`` for
            those under which the F1 of each label is highest on the validation rows, chosen when a run is over.
    """

    usual_metrics: ClassVar[tuple[str, ...]] = ("subset_accuracy", "hamming", "f1_micro", "f1_macro", "f1_samples")
    family = MultiLabelMetrics

    thresholds: Thresholds = None
    learned: SeveralLabels | None = None

    def problems(self) -> Iterable[Problem]:
        return [*super().problems(), *_threshold_problems(self.thresholds)]

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=SeveralLabels(**several_labels(data, self.thresholds)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=SeveralLabels(**with_thresholds(names, self.thresholds)))

    @property
    def unsettled(self) -> str:
        given = f"thresholds={self.thresholds!r}: there are no validation rows to choose them on"
        return f"{given}, so a label is given from one half on" if self.settles else ""

    @property
    def _label_names(self) -> tuple[Label, ...]:
        names: tuple[Label, ...] = self.known.label_names
        return names

    @final
    @property
    def head(self) -> Head:
        return Head(
            auto_class=self.auto_class,
            outputs=len(self._label_names),
            problem_type="multi_label_classification",
            labels=tuple(str(name) for name in self._label_names),
        )

    @final
    def check_targets(self, data: TaskDataset) -> None:
        check_labels(data.column("labels"), self._label_names, column=data.roles["labels"])

    @final
    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, K) 1 where a row has the label."""
        number = {name: k for k, name in enumerate(self._label_names)}
        hot = np.zeros((len(data), len(number)), dtype=np.float32)
        for row, labels in zip(hot, data.column("labels"), strict=True):
            row[[number[label] for label in labels]] = 1.0
        return hot

    @final
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed binary cross-entropy; the count is rows times labels."""
        scores = self.scores(outputs, batch)
        target = batch.targets["target"].to(scores.dtype)  # (B, K) both
        total = functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")
        return LossSum(total, scores.new_full((), target.numel()))

    def units(self, data: TaskDataset) -> float:
        return float(len(data) * len(self._label_names))

    @final
    def decode(self, outputs: Any, batch: Batch) -> list[MultiLabel]:
        rows = torch.sigmoid(self.scores(outputs, batch)).tolist()  # (B, K)
        names = self._label_names
        cuts = self.known.thresholds or (_HALF,) * len(names)
        return [
            MultiLabel(
                tuple(name for name, value, cut in zip(names, row, cuts, strict=True) if value >= cut),
                dict(zip(names, row, strict=True)),
            )
            for row in rows
        ]

    @final
    @property
    def settles(self) -> bool:
        return isinstance(self.thresholds, str)

    @final
    def settled(self, data: TaskDataset, predictions: Sequence[MultiLabel]) -> Self:
        """The same with the thresholds under which the F1 of each label is highest; of several the one nearest to 0.5.

        A label that no row of the validation data has keeps one half.
        """
        chances = np.array([list(found.probabilities.values()) for found in predictions])  # (N, K)
        wanted = self.targets(data).astype(bool)
        cuts = tuple(best_threshold(*columns) for columns in zip(chances.T, wanted.T, strict=True))
        return replace(self, learned=replace(self.known, thresholds=cuts))

    @final
    def references(self, data: TaskDataset) -> Sequence[Sequence[Label]]:
        labels: Sequence[Sequence[Label]] = data.column("labels")
        return labels


def several_labels(data: TaskDataset, thresholds: Thresholds) -> dict[str, Any]:
    """The fields of `SeveralLabels` for training data.

    Raises:
        LabelError: no row has any label.
        OptionError: thresholds that do not fit the labels.
    """
    return with_thresholds(labels_of(data), thresholds)


def with_thresholds(names: Sequence[Label], thresholds: Thresholds) -> dict[str, Any]:
    """The fields of `SeveralLabels` for these labels.

    Raises:
        OptionError: thresholds that do not fit the labels.
    """
    names = tuple(names)
    if not isinstance(thresholds, Mapping):
        cuts = None if thresholds is None or isinstance(thresholds, str) else (float(thresholds),) * len(names)
        return {"label_names": names, "thresholds": cuts}
    raise_together(
        f"thresholds has no label {name!r}: {nearest(name, names)}" for name in thresholds if name not in names
    )
    return {"label_names": names, "thresholds": tuple(float(thresholds.get(name, _HALF)) for name in names)}


def best_threshold(chances: NDArray[np.float64], wanted: NDArray[np.bool_]) -> float:
    """Where to cut so that F1 is highest: what is at the threshold or above it counts as yes.

    Args:
        chances: (N,) probabilities.
        wanted: (N,) whether yes is right.

    Example:
        >>> best_threshold(np.array([0.9, 0.3, 0.2]), np.array([True, True, False]))
        0.25
        >>> best_threshold(np.array([0.9, 0.2]), np.array([True, False]))
        0.5
    """
    if not wanted.any():
        return _HALF
    order = np.argsort(-chances, kind="stable")
    high, low = chances[order], np.append(chances[order][1:], 0.0 if chances.min() > 0 else -1.0)
    f1 = 2 * np.cumsum(wanted[order]) / (np.arange(1, len(order) + 1) + wanted.sum())
    cuts = np.where((low < _HALF) & (high >= _HALF), _HALF, np.maximum((low + high) / 2, 0.0))
    best = cuts[(low < high) & (f1 >= f1[low < high].max(initial=0.0) - 1e-12)]
    return float(min(best, key=lambda cut: abs(cut - _HALF), default=_HALF))


def _threshold_problems(value: object) -> Iterator[Problem]:
    expected = "None, 'valid', a number from 0 to 1, or a mapping from a label to one, such as {'rare': 0.2}"
    if isinstance(value, Mapping):
        yield from (
            real_number(f"thresholds[{name!r}]", cut, 0, 1, expected="a number from 0 to 1")
            for name, cut in value.items()
        )
    elif value is not None and not (isinstance(value, str) and value == "valid"):
        yield real_number("thresholds", value, 0, 1, expected=expected)


def labels_of(data: TaskDataset) -> tuple[Label, ...]:
    """The labels of training data.

    Raises:
        LabelError: no row has any.
    """
    if not data.label_names or not any(data.column("labels")):
        raise LabelError(f"column {data.roles['labels']!r}: no row has any label; there is nothing to learn")
    return data.label_names
