"""Metrics of several tasks: as a run sees them, flat, and as people do, one table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

from sftlib.metrics.core import Metrics
from sftlib.support.checking import nearest
from sftlib.support.display import html_table, text_table
from sftlib.support.extras import require

if TYPE_CHECKING:
    from pandas import DataFrame

_MEAN = "mean"


@final
class FlatMetrics(Metrics):
    """The metrics of several tasks under ``"task.metric"``, and the loss of all; filled while a run is watched.

    Predictions and references come in pairs of a task's name and what it is.

    Args:
        parts: name of a task -> its metrics, empty.
    """

    def __init__(self, parts: Mapping[str, Metrics]) -> None:
        super().__init__(["loss"])
        self._parts = dict(parts)
        own = [f"{name}.{metric}" for name, part in parts.items() for metric in part if metric != "loss"]
        self._names = ("loss", *own)

    def update(
        self, predictions: Iterable[Any], references: Iterable[Any], loss_sum: float = 0.0, count: float = 0
    ) -> Self:
        pairs = list(zip(predictions, references, strict=True))
        for name, part in self._parts.items():
            own = [(found.value, true.value) for found, true in pairs if found.task == name]
            if own:
                part.update([found for found, _ in own], [true for _, true in own])
        super().update([], [], loss_sum=loss_sum, count=count)
        return self

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self._parts.values())

    def _value(self, name: str) -> float:
        task, dot, metric = name.partition(".")
        return self._parts[task][metric] if dot else super()._value(name)


@final
class TaskMetrics(Mapping[str, Metrics]):
    """The metrics of each task, and their means: a read-only mapping of the names of tasks to `Metrics`.

    Args:
        parts: name of a task -> its metrics.

    Example:
        >>> mood = Metrics(["accuracy"]).update(["good", "bad"], ["good", "good"])
        >>> topic = Metrics(["accuracy", "f1_macro"]).update(["a", "b"], ["a", "b"])
        >>> print(TaskMetrics({"mood": mood, "topic": topic}))
        task   accuracy  f1_macro  rows
        mood     0.5000               2
        topic    1.0000    1.0000     2
        mean     0.7500
    """

    def __init__(self, parts: Mapping[str, Metrics]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> Metrics:
        if name not in self._parts:
            raise KeyError(f"{name}: {nearest(name, self._parts)}")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric that all tasks have; nan where it is not defined for one of them."""
        shared = [name for name in self._names if name != "loss" and all(name in part for part in self.values())]
        return {name: math.fsum(part[name] for part in self.values()) / len(self) for name in shared}

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for part in self.values() for name in part))

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Plain floats under the names of tasks and metrics."""
        return {name: part.to_dict() for name, part in self.items()}

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame, one line a task (extra ``data``)."""
        frame: DataFrame = require("pandas", extra="data", purpose="TaskMetrics.to_frame()").DataFrame(
            [{"task": name, **part.to_dict(), "rows": part.rows} for name, part in self.items()]
        )
        return frame

    def _table(self) -> tuple[Sequence[str], list[list[object]]]:
        lines: list[list[object]] = [
            [name, *(part.get(metric) for metric in self._names), part.rows] for name, part in self.items()
        ]
        mean = self.mean
        if len(self) > 1 and mean:
            lines.append([_MEAN, *(mean.get(metric) for metric in self._names), None])
        return ["task", *self._names, "rows"], lines

    def __str__(self) -> str:
        return text_table(*self._table())

    def __repr__(self) -> str:
        return f"TaskMetrics({', '.join(f'{name}={part!r}' for name, part in self.items())})"

    def _repr_html_(self) -> str:
        return html_table(*self._table())
