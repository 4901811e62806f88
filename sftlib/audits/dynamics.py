"""How rows were learned: labels that the model never comes to believe stand out while it learns.

Two measures, of scores that the loss is computed from anyway: the area under the margin (Pleiss et al., 2020, arXiv
2001.10528), and the data map of Swayamdipta et al. (2020, arXiv 2009.10795).

Letters: ``N`` rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of, learned_around
from sftlib.support.extras import require
from sftlib.tasks.base import Task
from sftlib.tasks.single_label import OneLabelTask
from sftlib.tasks.watched import Seen, Watched

if TYPE_CHECKING:
    from pandas import DataFrame

_EASY, _HARD = 2 / 3, 1 / 3


@final
@dataclass(frozen=True)
class Dynamics:
    """What was seen of rows while a model learned them.

    Attributes:
        margin: (N,) the mean, over all times that a row was learned from, of its label's score less the largest of any
            other; labels that are wrong lie lowest.
        confidence: (N,) the mean probability of its label.
        variability: (N,) the standard deviation of that probability.
        times: how often each row was learned from.
    """

    margin: NDArray[np.float64] = field(repr=False)
    confidence: NDArray[np.float64] = field(repr=False)
    variability: NDArray[np.float64] = field(repr=False)
    times: int

    @property
    def lowest(self) -> tuple[int, ...]:
        """The rows, the least margin first."""
        return tuple(np.argsort(self.margin, kind="stable").tolist())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each row ``"easy"``, ``"hard"``, or ``"ambiguous"`` where the model was of two minds."""
        hard = self.confidence + self.variability < _HARD
        easy = self.confidence - self.variability > _EASY
        return tuple(np.select([hard, easy], ["hard", "easy"], "ambiguous").tolist())

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame, a line a row (extra ``data``)."""
        pandas = require("pandas", extra="data", purpose="Dynamics.to_frame()")
        columns: dict[str, Any] = {name: getattr(self, name) for name in ("margin", "confidence", "variability")}
        frame: DataFrame = pandas.DataFrame({**columns, "kind": self.kinds})
        return frame

    def __str__(self) -> str:
        kinds = self.kinds
        counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in ("easy", "ambiguous", "hard"))
        return f"while they were learned, {self.times} times each: {counts}; the least margins: rows {self.lowest[:10]}"


def dynamics_of(tuner: FineTuner, data: TaskDataset, task: OneLabelTask) -> Dynamics:
    """Fit a clone of a tuner on all rows, and see how it learns each.

    Args:
        tuner: how to learn; it is not changed.
        data: labelled rows.
        task: of the tuner, for these rows.
    """
    seen = Seen()

    def watched(own: Task) -> Watched:
        assert isinstance(own, OneLabelTask)
        return Watched(inner=own, seen=seen)

    learned = learned_around(tuner, task, watched, data, None, progress=False)
    parts: list[list[int]] = [[] for _ in range(len(data))]  # of a long row, which is read in several
    for part, row in enumerate(fitted_of(learned, "audit").encode(data).owners.tolist()):
        parts[row].append(part)
    found = [np.concatenate([seen.of(part) for part in numbers]) for numbers in parts]
    margins = np.array([part[:, 0].mean() for part in found])
    chances = np.array([part[:, 1].mean() for part in found])
    return Dynamics(margins, chances, np.array([part[:, 1].std() for part in found]), min(map(len, found)))
