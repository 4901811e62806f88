"""`search`: which options are best, and which of them cannot be told from the best."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from statistics import median
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.data.dataset import TaskDataset
from sftlib.errors import CheckpointError, OptionError, SftlibError
from sftlib.finetuner import FineTuner
from sftlib.metrics import Metrics
from sftlib.models.memory import is_out_of_memory
from sftlib.run.choose import require_labelled
from sftlib.selection.folds import Groups, check_folds, group_names, make_folds
from sftlib.selection.identity import identity_of
from sftlib.selection.kept import Kept
from sftlib.selection.options import Candidate, candidates_of
from sftlib.selection.paired import Difference, Scores, has_rows, over_folds
from sftlib.selection.rungs import LEVEL, Rung, inside, rungs_of, shortened
from sftlib.selection.tables import Table, ends, frame, named
from sftlib.selection.trial import (
    WATCHING,
    Outcome,
    Question,
    check_tuner,
    question_of,
    run_trial,
    share_frozen,
    watched,
)
from sftlib.support.checking import above_zero, checked, raise_together, true_or_false, whole_number
from sftlib.support.display import counted
from sftlib.tasks import find_task

_FACTOR = 3


@final
@dataclass(frozen=True)
class Trial:
    """One line of a search.

    Attributes:
        options: option -> value.
        own: whether these are the options that the tuner came with.
        score: on the rows held out, of the longest runs that it came to; None where it failed.
        interval: of the score, at 95 %, from drawing rows.
        difference: to the best, with its interval at 95 %; None where it left earlier, since scores of runs of another
            length cannot be compared.
        equal: whether it cannot be told from the best.
        rung: how far it came, from 0.
        share: of the steps, in these runs.
        steps: optimizer steps of one of them.
        seconds: in all.
        work: what training took, in weights touched; no clock has a say in it.
        epochs: the median of the best epochs, where something looked for the best.
        error: what it failed with.
    """

    options: Mapping[str, Any]
    own: bool = False
    score: float | None = None
    interval: tuple[float, float] = (math.nan, math.nan)
    difference: Difference | None = None
    equal: bool = False
    rung: int = 0
    share: float = 1.0
    steps: int = 0
    seconds: float = 0.0
    work: float = 0.0
    epochs: int | None = None
    error: str | None = None


@final
@dataclass(frozen=True, repr=False)
class Found:
    """What a search found; prints as a table, the best first.

    Attributes:
        metric: that trials are ranked by.
        trials: all of them, sorted: those that came furthest first, the best of them first.
        tuner: fitted anew on all training rows with the best options; None where that was not asked for.
        optimism: by how much the best of so many looks better on these rows than it is.
        untried: options that the time did not suffice for.
        rows: that candidates were judged on.
        seconds: in all.
    """

    metric: str
    trials: tuple[Trial, ...]
    tuner: FineTuner | None
    optimism: float
    untried: tuple[Mapping[str, Any], ...]
    rows: int
    seconds: float

    @property
    def best(self) -> dict[str, Any]:
        """The options with the best score."""
        return dict(self.trials[0].options)

    @property
    def score(self) -> float:
        """Their score, which is optimistic; see `optimism`."""
        assert self.trials[0].score is not None
        return self.trials[0].score

    @cached_property
    def equals(self) -> tuple[dict[str, Any], ...]:
        """The options that cannot be told from the best, the best itself first."""
        return tuple(dict(trial.options) for trial in self.trials if trial.equal)

    @property
    def simplest(self) -> dict[str, Any]:
        """Of `equals` the one that takes the least work."""
        return dict(min((trial for trial in self.trials if trial.equal), key=lambda trial: trial.work).options)

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for trial in self.trials:
            apart = trial.difference
            line: dict[str, Any] = {name: named(value) for name, value in trial.options.items()}
            line |= {self.metric: trial.score, "95 %": ends(*trial.interval)}
            line |= {"to the best": None if apart is None else apart.value}
            line |= {"95 % of that": "" if apart is None or apart.value == 0 else ends(apart.low, apart.high)}
            line |= {"equal": "yes" if trial.equal else "", "rung": trial.rung, "steps": trial.steps}
            line |= {"seconds": round(trial.seconds, 1), "note": _note(trial)}
            lines.append(line)
        return lines

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a trial, options with their own values.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame(self._plain(), purpose="Found.to_frame()")

    def _plain(self) -> list[dict[str, Any]]:
        lines = []
        for trial in self.trials:
            apart = trial.difference or Difference(math.nan, math.nan, math.nan)
            lines.append(
                {
                    **trial.options,
                    "score": math.nan if trial.score is None else trial.score,
                    "low": trial.interval[0],
                    "high": trial.interval[1],
                    "difference": apart.value,
                    "difference_low": apart.low,
                    "difference_high": apart.high,
                    "equal": trial.equal,
                    "own": trial.own,
                    "rung": trial.rung,
                    "steps": trial.steps,
                    "seconds": trial.seconds,
                    "error": trial.error,
                }
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values; options as they were given."""
        return {
            "metric": self.metric,
            "best": self.best,
            "equals": [dict(one) for one in self.equals],
            "simplest": self.simplest,
            "optimism": self.optimism,
            "trials": self._plain(),
            "untried": [dict(one) for one in self.untried],
            "rows": self.rows,
            "seconds": self.seconds,
        }

    def _table(self) -> Table:
        equal = [trial for trial in self.trials if trial.equal]
        notes = []
        if len(equal) > 1:
            simplest = ", ".join(f"{name}={named(value)}" for name, value in self.simplest.items())
            notes.append(f"{counted(len(equal), 'trial')} cannot be told from one another; the simplest: {simplest}")
        if len(self.trials) > 1 and self.optimism == self.optimism:
            notes.append(
                f"the best of {len(self.trials)} by the same {self.rows:,} rows is optimistic by about "
                f"{abs(self.optimism):.4f}; score it once on rows that no trial has seen"
            )
        for options in self.untried:
            left = ", ".join(f"{name}={named(value)}" for name, value in options.items())
            notes.append(f"not tried, the time was over: {left}")
        return Table(self._lines(), notes)

    def __str__(self) -> str:
        return str(self._table())

    def __repr__(self) -> str:
        return f"Found(best={self.best!r}, {self.metric}={self.score:.4f}, {counted(len(self.trials), 'trial')})"

    def _repr_html_(self) -> str:
        return self._table().html()


def _note(trial: Trial) -> str:
    own = "own options" if trial.own else ""
    if trial.error is not None:
        return f"failed: {trial.error:.120}"
    early = f"left after {trial.share:.0%} of the steps" if trial.share < 1 else ""
    return "; ".join(part for part in (own, early) if part)


@checked
def search(
    tuner: FineTuner,
    train: TaskDataset,
    valid: TaskDataset | None = None,
    *,
    options: Any,
    folds: int | str = 3,
    trials: int | None = None,
    halving: bool | int = True,
    metric: str | None = None,
    groups: Groups = None,
    minutes: float | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    refit: bool = True,
    progress: bool = True,
) -> Found:
    """Try options, and say which are best and which cannot be told from the best.

    The tuner's own options are always among the trials. Trials share tokens, the weights as they were opened, and
    outputs of frozen layers; all are judged on the same rows, which none of them has seen, and compared row by row.

    With ``halving`` every candidate first runs for a ninth and then for a third of its steps, each time with a complete
    schedule, on one fold; one leaves when it is not among the better third *and* the interval of its difference to the
    last of these excludes 0 at 80 %. Who is left runs for all steps on all folds.

    Args:
        tuner: its options are those of the first candidate; it is not changed.
        train: labelled rows.
        valid: rows to judge by; without them folds of ``train`` are held out in turn.
        options: option -> list of values, or -> `Range`; ``task__...`` and ``inputs__...`` too; or a list of such maps.
        folds: how many, or ``"groups"``, as of `cross_validate`; not used with ``valid``.
        trials: how many to try where there is a `Range`, or of a grid that is too large; spread evenly, by the seed.
        halving: True; False to run all candidates in full; or the factor by which candidates shrink.
        metric: to rank by; the first of the tuner's or the task's when None.
        groups: as of `cross_validate`.
        minutes: after which no further trial begins; what was not tried is listed.
        output_dir: a folder for results; called again with the same, a search that was killed goes on.
        refit: whether the best is fitted anew on all of ``train``, as ``found.tuner``.
        progress: a line a trial.

    Returns:
        `Found`: ``trials``, ``best``, ``equals``, ``simplest``, ``tuner``.

    Raises:
        OptionError: options that do not exist, values they cannot have, the same twice, folds that the data cannot have
            or an unknown metric; all at once, before any training.
        DataError: rows that ``fit`` would refuse.
        CheckpointError: ``output_dir`` holds another search.
        SftlibError: all trials failed; the error of the first.

    Example:
        >>> from sftlib import Text
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> rows = {"text": [*SENTENCES], "label": ["film"] * 12 + ["bank"] * 4}
        >>> tuner = FineTuner(tiny_model(), inputs=Text(tokenizer=tiny_tokenizer()), epochs=1)
        >>> options = {"learning_rate": [1e-4, 1e-2]}
        >>> found = search(tuner, TaskDataset(rows), folds=2, options=options, progress=False)
        >>> len(found.trials), list(found.best), found.best in found.equals
        (3, ['learning_rate'], True)
    """
    check_tuner(tuner)
    require_labelled(train, "search (train)", tuner.task)
    raise_together(
        [
            true_or_false("progress", progress),
            true_or_false("refit", refit),
            None
            if isinstance(halving, bool)
            else whole_number("halving", halving, at_least=1, other="True, False or "),
            minutes is not None and above_zero("minutes", minutes, otherwise="None for no limit"),
        ]
    )
    if valid is None:
        check_folds(train, folds, 1, groups)
    question = question_of(tuner, train, metric, judged=valid)
    usual, holding = find_task(question.task.name), tuner.holding()
    candidates = candidates_of(holding, options, usual=usual, trials=trials, seed=question.seed)
    _check(candidates, train, valid, question)
    units = _units(train, valid, folds, groups, question.seed)
    factor = _FACTOR if halving is True else int(halving) or 1
    asked = {
        "folds": folds if valid is None else valid.fingerprint(),
        "groups": None if groups is None else str(groups),
        "halving": factor,
        "trials": [f"{dict(candidate.changes)!r:.200}" for candidate in candidates],
    }
    kept = Kept(output_dir, identity_of("search", tuner, train, question, asked), question.task)
    named_groups = group_names(train if valid is None else valid, groups)
    race = _Race(candidates, question, units, kept, factor=factor, minutes=minutes, progress=progress)
    race.run(named_groups)
    found = race.found(named_groups)
    best = race.refitted(train, valid) if refit else None
    return replace(found, tuner=best, seconds=time.perf_counter() - race.started)


@final
@dataclass(frozen=True)
class _Unit:
    """Rows to learn from, and rows to judge by.

    Attributes:
        train: what is learned from.
        held_out: what is judged.
        rows: (M,) positions of the latter among all that are judged.
    """

    train: TaskDataset
    held_out: TaskDataset
    rows: NDArray[np.int64]


def _units(
    train: TaskDataset, valid: TaskDataset | None, folds: int | str, groups: Groups, seed: int
) -> tuple[_Unit, ...]:
    if valid is not None:
        return (_Unit(train, valid, np.arange(len(valid))),)
    parts = make_folds(train, folds=folds, repeats=1, groups=groups, seed=seed)
    return tuple(_Unit(train.select(part.train), train.select(part.held_out), part.held_out) for part in parts)


def _check(candidates: Sequence[Candidate], train: TaskDataset, valid: TaskDataset | None, question: Question) -> None:
    """Refuse options that do not go with the data, of all candidates at once."""
    problems: dict[str, None] = {}
    for candidate in candidates:
        try:
            question_of(candidate.tuner, train, question.metric, judged=valid)
        except OptionError as error:
            problems.update(dict.fromkeys(str(error).splitlines()))
    raise_together(problems)


Result = Outcome | str  # or the error that a trial ended with


@final
class _Race:
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
        units: Sequence[_Unit],
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

    def _try(self, candidate: Candidate, unit: _Unit, rung: Rung) -> Result:
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

    def _metrics(self, outcome: Outcome, unit: _Unit) -> Metrics:
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

    def __init__(self, race: _Race, order: Sequence[int], rung: Rung, groups: Sequence[Any] | None) -> None:
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
