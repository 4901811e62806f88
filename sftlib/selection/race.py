"""The race of a search: all candidates, rung by rung, and what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from statistics import median
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.data.dataset import TaskDataset
from sftlib.errors import CheckpointError, SftlibError
from sftlib.finetuner import FineTuner
from sftlib.metrics import Metrics
from sftlib.models.memory import is_out_of_memory
from sftlib.selection.folds import Groups, make_folds
from sftlib.selection.found import Found, Trial
from sftlib.selection.kept import Kept
from sftlib.selection.options import Candidate
from sftlib.selection.paired import Difference, Scores, has_rows, over_folds
from sftlib.selection.rungs import LEVEL, Rung, inside, rungs_of, shortened
from sftlib.selection.tables import named
from sftlib.selection.trial import WATCHING, Outcome, Question, run_trial, share_frozen, watched


@final
@dataclass(frozen=True)
class Unit:
    """Rows to learn from, and rows to judge by.

    Attributes:
        train: what is learned from.
        held_out: what is judged.
        rows: (M,) positions of the latter among all that are judged.
    """

    train: TaskDataset
    held_out: TaskDataset
    rows: NDArray[np.int64]


def units_of(
    train: TaskDataset, valid: TaskDataset | None, folds: int | str, groups: Groups, seed: int
) -> tuple[Unit, ...]:
    """The folds of ``train``, or where there are rows to judge by, the one division that they make."""
    if valid is not None:
        return (Unit(train, valid, np.arange(len(valid))),)
    parts = make_folds(train, folds=folds, repeats=1, groups=groups, seed=seed)
    return tuple(Unit(train.select(part.train), train.select(part.held_out), part.held_out) for part in parts)


Result = Outcome | str  # or the error that a trial ended with


@final
class Race:
    """All candidates, rung by rung.

    Args:
        candidates: the tuner's own options first.
        question: what is asked of them.
        units: folds, or the one division that was given.
        kept: results of earlier.
        factor: by which they shrink.
        minutes: after which nothing new begins.
        progress: whether to tell.

    Attributes:
        started: when.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        question: Question,
        units: Sequence[Unit],
        kept: Kept,
        *,
        factor: int,
        minutes: float | None,
        progress: bool,
    ) -> None:
        self.started = time.perf_counter()
        self._candidates = candidates
        self._question = question
        self._units = units
        self._kept = kept
        self._factor = factor
        self._until = math.inf if minutes is None else self.started + 60 * minutes
        self._progress = progress
        self._results: dict[tuple[int, int, int], Outcome] = {}  # of a candidate, on a rung, on a unit
        self._failed: dict[int, str] = {}
        self._first_error: Exception | None = None
        self._ready: set[str] = set()
        self._rungs = rungs_of(factor, units=len(units), candidates=len(candidates))
        self._furthest: dict[int, Rung] = {}  # of each candidate, the last rung that it went through
        self._rung = self._rungs[0]
        self._last: list[int] = []  # who went through it

    # The race.

    def run(self, groups: Sequence[Any] | None) -> None:
        """Run until one rung is left, or the time is over.

        Raises:
            SftlibError: all failed; the error of the first.
        """
        alive = [candidate.number for candidate in self._candidates]
        for rung in self._rungs:
            done = [number for number in alive if self._go(number, rung)]
            good = [number for number in done if number not in self._failed]
            if not good:
                break
            self._last, self._rung = good, rung
            if len(done) < len(alive):  # the time is over
                return
            alive = good if rung is self._rungs[-1] else self._inside(good, rung, groups)
        if not self._last:
            raise self._first_error or SftlibError(next(iter(self._failed.values())))

    def _go(self, number: int, rung: Rung) -> bool:
        """Run a candidate on a rung; False where the time is over."""
        candidate = self._candidates[number]
        names = {unit: f"trial-{number:03}-rung-{rung.number}-fold-{unit}" for unit in rung.units}
        found = {unit: self._kept.find(name) for unit, name in names.items()}
        if time.perf_counter() > self._until and None in found.values() and self._furthest:
            return False
        for unit, name in names.items():
            result = found[unit]
            if result is None:
                result = self._try(candidate, self._units[unit], rung)
                self._kept.keep(name, result)
            if isinstance(result, str):
                self._failed[number] = result
                break
            self._results[number, rung.number, unit] = result
        else:
            self._furthest[number] = rung
        if self._progress:
            tqdm.write(self._line(candidate, rung))
        return True

    def _try(self, candidate: Candidate, unit: Unit, rung: Rung) -> Result:
        try:
            self._make_ready(candidate)
            tuner = shortened(candidate.tuner, unit.train, rung.share)
            (outcome,) = run_trial(tuner, self._question.names, unit.train, unit.held_out)
        except CheckpointError:
            raise
        except (SftlibError, RuntimeError, MemoryError) as error:
            if not isinstance(error, SftlibError) and not is_out_of_memory(error):
                raise
            self._first_error = self._first_error or error
            return f"{type(error).__name__}: {error}"
        value = self._metrics(outcome, unit)[self._question.metric]
        return outcome if value == value else f"{self._question.metric} is not a number"

    def _make_ready(self, candidate: Candidate) -> None:
        """Have what is frozen computed for all rows, once for each way to freeze."""
        frozen = repr(candidate.tuner.get_params(deep=False)["freeze"])
        if frozen not in self._ready:
            share_frozen(candidate.tuner, self._units[0].train.whole())
            self._ready.add(frozen)

    def _metrics(self, outcome: Outcome, unit: Unit) -> Metrics:
        return self._question.metrics(outcome.predictions, unit.rows.tolist(), outcome.loss_sum, outcome.count)

    def _line(self, candidate: Candidate, rung: Rung) -> str:
        shown = ", ".join(f"{name}={named(value)}" for name, value in candidate.changes.items())
        error = self._failed.get(candidate.number)
        said = (
            f"failed: {error:.200}" if error else f"{self._question.metric} {self._score(candidate.number, rung):.4f}"
        )
        share = "" if rung.share == 1 else f" ({rung.share:.0%} of the steps)"
        return f"{shown}{share}: {said}"

    # What came out.

    def _outcomes(self, number: int, rung: Rung) -> list[Outcome]:
        return [self._results[number, rung.number, unit] for unit in rung.units]

    def _score(self, number: int, rung: Rung) -> float:
        return float(reduce(add, self._parts(number, rung))[self._question.metric])

    def _parts(self, number: int, rung: Rung) -> list[Metrics]:
        outcomes = self._outcomes(number, rung)
        return [self._metrics(one, self._units[unit]) for one, unit in zip(outcomes, rung.units, strict=True)]

    def _order(self, numbers: Sequence[int], rung: Rung) -> list[int]:
        sign = -1 if self._question.higher else 1
        return sorted(numbers, key=lambda number: (sign * self._score(number, rung), number))

    def _inside(self, numbers: Sequence[int], rung: Rung, groups: Sequence[Any] | None) -> list[int]:
        order = self._order(numbers, rung)
        compared = _Compared(self, order, rung, groups)
        last = math.ceil(len(order) / self._factor) - 1
        apart = [compared.difference(place, last, LEVEL) for place in range(len(order))]
        return sorted(inside(order, self._factor, apart))

    def scores(self, order: Sequence[int], rung: Rung, groups: Sequence[Any] | None) -> Scores | None:
        """Of candidates on the rows of a rung; None where the metric is known as a sum alone."""
        question = self._question
        if not has_rows(question.metric):
            return None
        rows = np.concatenate([self._units[unit].rows for unit in rung.units]).tolist()
        candidates = [
            [prediction for outcome in self._outcomes(number, rung) for prediction in outcome.predictions]
            for number in order
        ]
        return Scores(
            question.task,
            question.metric,
            [question.references[row] for row in rows],
            candidates,
            groups=None if groups is None else [groups[row] for row in rows],
            seed=question.seed,
        )

    def by_fold(self, number: int, rung: Rung) -> list[float]:
        """The score of a candidate in each fold of a rung."""
        return [part[self._question.metric] for part in self._parts(number, rung)]

    def found(self, groups: Sequence[Any] | None) -> Found:
        """The table, without a fitted tuner."""
        rung, order = self._rung, self._order(self._last, self._rung)
        compared = _Compared(self, order, rung, groups)
        self._last = order
        trials = [self._trial(number, rung, compared, place) for place, number in enumerate(order)]
        left = [number for number in self._furthest if number not in {*order, *self._failed}]
        for lower in reversed(self._rungs):
            there = self._order([number for number in left if self._furthest[number] is lower], lower)
            trials += [self._trial(number, lower, None, 0) for number in there]
        failed = [number for number in self._failed if number not in order]
        trials += [self._failure(number) for number in failed]
        tried = {*self._furthest, *self._failed}
        untried = [candidate for candidate in self._candidates if candidate.number not in tried]
        return Found(
            metric=self._question.metric,
            trials=tuple(trials),
            tuner=None,
            optimism=compared.optimism(higher=self._question.higher),
            untried=tuple(dict(candidate.changes) for candidate in untried),
            rows=sum(len(self._units[unit].rows) for unit in rung.units),
            seconds=time.perf_counter() - self.started,
        )

    def _trial(self, number: int, rung: Rung, compared: _Compared | None, place: int) -> Trial:
        candidate, outcomes = self._candidates[number], self._outcomes(number, rung)
        best = [one.best_epoch for one in outcomes if one.best_epoch is not None]
        apart = None if compared is None else compared.difference(place, 0)
        return Trial(
            options=dict(candidate.changes),
            own=number == 0,
            score=self._score(number, rung),
            interval=(math.nan, math.nan) if compared is None else compared.interval(place),
            difference=apart,
            equal=apart is not None and (place == 0 or not apart.told_apart),
            rung=rung.number,
            share=rung.share,
            steps=max((one.steps for one in outcomes), default=0),
            seconds=self._seconds(number),
            work=sum(one.work for one in outcomes),
            epochs=round(median(best)) if best else None,
        )

    def _failure(self, number: int) -> Trial:
        options, error = dict(self._candidates[number].changes), self._failed[number]
        return Trial(options=options, own=number == 0, seconds=self._seconds(number), error=error)

    def _seconds(self, number: int) -> float:
        return sum(one.seconds for key, one in self._results.items() if key[0] == number)

    def refitted(self, train: TaskDataset, valid: TaskDataset | None) -> FineTuner:
        """The best, fitted on all training rows.

        Where it looked for the best epoch, it looks at ``valid`` again; without, it takes the median of the best.
        """
        number = self._last[0]
        tuner = self._candidates[number].tuner.clone()
        if watched(tuner) is not None and valid is None:
            best = [one.best_epoch for one in self._outcomes(number, self._rung) if one.best_epoch]
            tuner.set_params(**WATCHING, **({"epochs": round(median(best)), "max_steps": None} if best else {}))
        return tuner.fit(train, valid, progress=False)


@final
class _Compared:
    """Candidates of one rung, compared on its rows, or on its folds where there is no more to go by."""

    def __init__(self, race: Race, order: Sequence[int], rung: Rung, groups: Sequence[Any] | None) -> None:
        self._scores = race.scores(order, rung, groups)
        self._folds = [race.by_fold(number, rung) for number in order]

    def difference(self, first: int, second: int, level: float = 0.95) -> Difference:
        """Of two, by their places."""
        if first == second:
            return Difference(0.0, 0.0, 0.0)
        if self._scores is None:
            return over_folds(self._folds[first], self._folds[second], level)
        return self._scores.difference(first, second, level)

    def interval(self, place: int) -> tuple[float, float]:
        """Of a score."""
        return (math.nan, math.nan) if self._scores is None else self._scores.interval(place)

    def optimism(self, *, higher: bool) -> float:
        """Of the best."""
        return math.nan if self._scores is None else self._scores.optimism(higher=higher)
