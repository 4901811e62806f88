"""Evaluation that keeps what was predicted: metrics and one prediction a row, in one pass over the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, final

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.encoded import Encoded
from sftlib.metrics import Kind, Metrics
from sftlib.run.fitted import Fitted


class Judged(NamedTuple):
    """What a model makes of labelled rows.

    Attributes:
        metrics: over all of them.
        predictions: one a row, in order; what evaluation decodes, which a task that generates only does when a metric
            needs it.
        loss_sum: the loss summed over all rows.
        count: what the metrics divide it by.
    """

    metrics: Metrics
    predictions: list[Any]
    loss_sum: float
    count: float  # type: ignore[assignment]  # `tuple.count` is of no use here


def judged(
    fitted: Fitted, data: TaskDataset, encoded: Encoded, names: Sequence[Any], batch_size: int | None = None
) -> Judged:
    """Evaluate rows and keep the predictions.

    Args:
        fitted: with a layout.
        data: labelled rows.
        encoded: their columns.
        names: of the metrics.
        batch_size: rows of a pass; decides only how they are cut up.
    """
    empty = fitted.task.metrics(names)
    listener = _Listener(_Asked(tuple(names), fitted.task.label_names, fitted.task.family), len(data))
    with fitted.evaluating(encoded, batch_size) as inference:
        inference.evaluate(data, range(len(data)), listener)
    metrics = empty.update(
        listener.found, fitted.task.references(data), loss_sum=listener.loss_sum, count=listener.count
    )
    return Judged(metrics, listener.found, listener.loss_sum, listener.count)


@dataclass(frozen=True)
class _Asked:
    """What metrics are made of."""

    names: tuple[Any, ...]
    labels: tuple[Any, ...] | None
    family: Kind | None


@final
class _Listener(Metrics):
    """Stands where metrics are filled; gets row numbers for references, and so knows whose each prediction is."""

    def __init__(self, asked: _Asked, rows: int) -> None:
        names = ["loss", *(name for name in asked.names if name != "loss")]
        super().__init__(names, label_names=asked.labels, family=asked.family)
        self.found: list[Any] = [None] * rows
        self.loss_sum = 0.0
        self.count = 0.0

    def update(
        self, predictions: Iterable[Any], references: Iterable[Any], loss_sum: float = 0.0, count: float = 0
    ) -> Self:
        for prediction, row in zip(predictions, references, strict=True):
            self.found[row] = prediction
        self.loss_sum += loss_sum
        self.count += count
        return self
