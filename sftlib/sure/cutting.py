"""From which probability on each of several labels is given, so that a metric is highest.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.support.checking import choice, raise_together
from sftlib.support.display import html_table, text_table
from sftlib.sure.held_out import require_held_out
from sftlib.tasks.base import Label
from sftlib.tasks.multi_label import MultiLabelTask, best_threshold

_LEAST_ROWS: Final = 50
_METRICS: Final = ("f1_macro",)
_HALF: Final = 0.5


@final
@dataclass(frozen=True)
class LabelThresholds:
    """The thresholds that were chosen, and what they are worth; prints as a table.

    ``after`` is honest: each half of the rows is scored with the thresholds that the other half gives. The thresholds
    themselves are those of all rows.

    Attributes:
        metric: that was to be highest.
        thresholds: label -> the probability from which it is given.
        rows: they were chosen on.
        before: the metric with the thresholds until now.
        after: the metric on rows that thresholds were not chosen on.
        having: label -> rows that have it; a threshold of few of them is a guess.
        f1_before: label -> F1 until now.
        f1_after: label -> F1 on rows that its threshold was not chosen on.
    """

    metric: str
    thresholds: Mapping[Label, float]
    rows: int
    before: float
    after: float
    having: Mapping[Label, int] = field(repr=False)
    f1_before: Mapping[Label, float] = field(repr=False)
    f1_after: Mapping[Label, float] = field(repr=False)

    def _sentence(self) -> str:
        return (
            f"{self.metric} {self.before:.3f} -> {self.after:.3f} on rows that thresholds were not chosen on; those of "
            f"all {self.rows:,} rows are used from now on"
        )

    def _lines(self) -> list[list[object]]:
        return [
            [str(name), self.having[name], cut, self.f1_before[name], self.f1_after[name]]
            for name, cut in self.thresholds.items()
        ]

    def __str__(self) -> str:
        return f"{self._sentence()}\n{text_table(_HEADER, self._lines())}"

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._lines(), caption=self._sentence())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


_HEADER: Final = ["label", "rows", "threshold", "f1 before", "f1 after"]


def choose_thresholds(
    fitted: Fitted, valid: TaskDataset, learned: TaskDataset | None, *, metric: str
) -> tuple[LabelThresholds, Fitted]:
    """Choose the threshold of each label on rows held out; the model answers with them from then on.

    Args:
        fitted: the model; its weights stay.
        valid: rows held out.
        learned: rows that the model learned from, where they are known.
        metric: ``"f1_macro"``, which is highest where the F1 of each label is.

    Raises:
        OptionError: another metric, or a task without several labels a row.
        DataError: too few rows, or rows that the model learned from.
    """
    raise_together([choice("metric", metric, _METRICS)])
    task = fitted.task
    if not isinstance(task, MultiLabelTask):
        raise OptionError(
            f"decide(metric={metric!r}): it chooses thresholds of several labels a row; {task.name} has none: "
            "decide(valid, accuracy=0.95)"
        )
    require_held_out(task, valid, learned, use="decide", at_least=_LEAST_ROWS)
    encoded = fitted.encode(valid)
    predictions = settled(fitted, encoded).predict(valid, encoded)
    chances = np.array([list(found.probabilities.values()) for found in predictions])  # (N, K)
    wanted = task.targets(valid).astype(bool)
    names = tuple(task.known.label_names)
    now = np.array(task.known.thresholds or (_HALF,) * len(names))
    chosen = task.settled(valid, predictions)
    before, after = _f1(chances >= now, wanted), _f1(_of_the_other_half(chances, wanted), wanted)
    found = LabelThresholds(
        metric=metric,
        thresholds=dict(zip(names, chosen.known.thresholds or (), strict=True)),
        rows=len(valid),
        before=float(before.mean()),
        after=float(after.mean()),
        having=dict(zip(names, wanted.sum(axis=0).tolist(), strict=True)),
        f1_before=dict(zip(names, before.tolist(), strict=True)),
        f1_after=dict(zip(names, after.tolist(), strict=True)),
    )
    return found, replace(fitted, task=chosen)


def _of_the_other_half(chances: NDArray[np.float64], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N, K) answers for each half of the rows by the thresholds of the other."""
    first = np.random.Generator(np.random.Philox(key=0)).permutation(len(chances)) < len(chances) // 2
    given = np.empty_like(wanted)
    for half in (first, ~first):
        cuts = [best_threshold(*columns) for columns in zip(chances[~half].T, wanted[~half].T, strict=True)]
        given[half] = chances[half] >= cuts
    return given


def _f1(given: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K,) F1 of each label; 0 of one that is neither given nor wanted."""
    both, sums = (given & wanted).sum(axis=0), given.sum(axis=0) + wanted.sum(axis=0)
    return np.asarray(2 * both / np.maximum(sums, 1), np.float64)
