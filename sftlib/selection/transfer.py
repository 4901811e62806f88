"""`transfer`: whether what was learned of one task helps another, and whether learning both at once helps more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from sftlib.arguments import without_recipes
from sftlib.data.dataset import TaskDataset
from sftlib.data.several import MultiTask
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.inside import beginning_with, fitted_of, learned_rows_of
from sftlib.run.choose import require_labelled
from sftlib.selection.paired import Difference, Scores, has_rows
from sftlib.selection.tables import Table, ends, frame
from sftlib.support.checking import checked, nearest, one_of_types, raise_together, real_number, true_or_false

ALONE, AFTER, TOGETHER = "alone", "after the source", "together"
_TARGET, _SOURCE = "target", "source"


@final
@dataclass(frozen=True, repr=False)
class Transfer:
    """What became of the same rows three ways; prints as a table.

    Attributes:
        metric: that is compared.
        scores: way -> its score: ``"alone"``, ``"after the source"``, ``"together"``.
        differences: way -> how far it is above (of losses: below) learning alone, over the same test rows.
        tuners: way -> the tuner, fitted.
        rows: of the target that were learned from.
        test_rows: that were asked.
        seconds: way -> of its run.
    """

    metric: str
    scores: Mapping[str, float]
    differences: Mapping[str, Difference]
    tuners: Mapping[str, FineTuner] = field(repr=False)
    rows: int
    test_rows: int
    seconds: Mapping[str, float] = field(repr=False)
    _intervals: Mapping[str, tuple[float, float]] = field(repr=False, compare=False)
    _notes: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def _lines(self) -> list[dict[str, Any]]:
        return [
            {
                "learned": way,
                self.metric: score,
                "95 %": ends(*self._intervals[way]),
                "against alone": "" if way == ALONE else str(self.differences[way]),
                "seconds": round(self.seconds[way], 1),
            }
            for way, score in self.scores.items()
        ]

    def _table(self) -> Table:
        told = [way for way, apart in self.differences.items() if apart.told_apart]
        which = f"told apart from learning alone: {', '.join(told)}" if told else "none can be told from learning alone"
        return Table(self._lines(), [which, *self._notes], f"{self.rows:,} rows learned, {self.test_rows:,} asked")

    def to_dict(self) -> dict[str, Any]:
        """Scores and differences as plain values."""
        apart = {way: (found.value, found.low, found.high) for way, found in self.differences.items()}
        return {"metric": self.metric, "scores": dict(self.scores), "differences": apart, "rows": self.rows}

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a way (extra ``data``)."""
        return frame(self._lines(), purpose="Transfer.to_frame()")

    def __str__(self) -> str:
        return str(self._table())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._table().html()


@checked
def transfer(
    source: FineTuner,
    data: TaskDataset,
    *,
    test: TaskDataset | None = None,
    test_share: float = 0.25,
    metric: str | None = None,
    progress: bool = False,
) -> Transfer:
    """Learn a task alone, after another, and together with it, and compare the three on the same rows.

    All three runs have the options of ``source``. The second begins with the body that ``source`` left, under a new
    head; the third is a `MultiTask` of both, as long as one over the rows of both.

    Args:
        source: a tuner that was fitted, on one task or several; it is not changed.
        data: labelled rows of the other task.
        test: labelled rows of it to compare on; a part of ``data`` when None.
        test_share: how much of ``data`` is set aside for that.
        metric: that is compared; the task's usual first one when None.
        progress: of the runs.

    Raises:
        NotFittedError: ``source`` was not fitted.
        DataError: rows that cannot be used.
        OptionError: a metric that the task does not have, or one without rows, such as the loss.

    Example:
        >>> transfer(tuner, other_rows, test=other_test)  # doctest: +SKIP
        1,000 rows learned, 400 asked
        learned           accuracy            95 %  against alone               seconds
        alone               0.7100  0.665 to 0.755                               31.0
        after the source    0.7425  0.698 to 0.785  +0.0325 (+0.0050 to +0.0600)  31.2
        together            0.7350  0.690 to 0.778  +0.0250 (-0.0050 to +0.0550)  63.0
        told apart from learning alone: after the source
    """
    raise_together(
        [
            one_of_types("source", source, FineTuner, "a FineTuner that was fitted"),
            real_number("test_share", test_share, 0.01, 0.99, expected="a share from 0.01 to 0.99"),
            true_or_false("progress", progress),
        ]
    )
    body = source.body()
    require_labelled(data, "transfer")
    options = source.get_params(deep=False)
    plain = source.clone().set_params(**without_recipes(options), task=None, keep_best=None, early_stopping=None)
    train, asked = (data, test) if test is not None else data.split(1 - test_share, test_share, seed=options["seed"])
    require_labelled(asked, "transfer (test)")
    learned = learned_rows_of(source)
    notes: tuple[str, ...] = ()
    runs: dict[str, tuple[FineTuner, Any]] = {
        ALONE: (plain.clone(), train),
        AFTER: (beginning_with(plain, body), train),
    }
    if learned is None:
        notes = ("together is left out: the source was loaded, and its rows are not here",)
    else:
        parts = dict(learned.parts) if isinstance(learned, MultiTask) else {_SOURCE: learned}
        name = _TARGET if _TARGET not in parts else f"{_TARGET}_"
        runs[TOGETHER] = (plain.clone(), MultiTask({name: train, **parts}))
    tuners, seconds, found = {}, {}, {}
    for way, (tuner, rows) in runs.items():
        started = time.monotonic()
        tuner.fit(rows, progress=progress)
        seconds[way] = time.monotonic() - started
        tuners[way] = tuner.task(name) if isinstance(rows, MultiTask) else tuner  # type: ignore[misc, operator]
        found[way] = tuners[way].judge(asked)
    return _compared(tuners, found, seconds, train, asked, metric, notes)


def _compared(
    tuners: Mapping[str, FineTuner],
    found: Mapping[str, Any],
    seconds: Mapping[str, float],
    train: TaskDataset,
    asked: TaskDataset,
    metric: str | None,
    notes: tuple[str, ...],
) -> Transfer:
    task = fitted_of(tuners[ALONE], "transfer").task
    known = [name for name in found[ALONE].metrics if has_rows(name)]
    name = metric or next(usual for usual in task.usual_metrics if usual in known)
    if name not in known:
        raise OptionError(f"metric={metric!r}: {nearest(name, known)}")
    ways = list(found)
    scores = Scores(task, name, task.references(asked), [found[way].predictions for way in ways])
    return Transfer(
        metric=name,
        scores=dict(zip(ways, scores.values.tolist(), strict=True)),
        differences={way: scores.difference(number, 0) for number, way in enumerate(ways) if number},
        tuners=tuners,
        rows=len(train),
        test_rows=len(asked),
        seconds=seconds,
        _intervals={way: scores.interval(number) for number, way in enumerate(ways)},
        _notes=notes,
    )
