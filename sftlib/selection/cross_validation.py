"""`cross_validate`: how good a way to train is, on rows that the model has not seen."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.data.dataset import TaskDataset
from sftlib.finetuner import FineTuner
from sftlib.metrics import Metrics
from sftlib.metrics.directions import higher_is_better
from sftlib.run.choose import require_labelled
from sftlib.selection.folds import (
    ONE_GROUP_OUT,
    Fold,
    Groups,
    check_folds,
    group_names,
    make_folds,
    seed_of,
)
from sftlib.selection.identity import identity_of
from sftlib.selection.kept import Kept
from sftlib.selection.paired import Scores, has_rows
from sftlib.selection.tables import Table, ends, frame
from sftlib.selection.trial import Outcome, Question, check_tuner, question_of, run_trial, sharing
from sftlib.support.checking import checked, raise_together, true_or_false
from sftlib.support.display import counted

_IN_DOMAIN = 0.1  # of the rows of the other groups, set aside to see what the score would be at home


@final
@dataclass(frozen=True, repr=False)
class CrossValidation:
    """What cross-validation found; prints as a table.

    Attributes:
        metric: that is looked at first.
        predictions: one for each row, in order, each by a model that has not seen the row; of the first repetition.
        metrics: over these predictions, the folds merged; ``metrics.interval(name)`` is over rows.
        folds: the metrics of each fold, of all repetitions.
        held_out: (M,) positions of the rows of each fold.
        names: what each fold is called: its number, or its group.
        repeats: the metrics of each repetition.
        seconds: in all.
        fold_seconds: of each fold.
        epochs: the median of the epochs that early stopping or ``keep_best`` chose; None where neither looked.
        in_domain: of ``folds="groups"``, metrics over rows of groups that the model did learn from, set aside; else
            None.
    """

    metric: str
    predictions: Sequence[Any] = field(repr=False)
    metrics: Metrics
    folds: tuple[Metrics, ...]
    held_out: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]
    repeats: tuple[Metrics, ...]
    seconds: float
    fold_seconds: tuple[float, ...]
    epochs: int | None
    in_domain: Metrics | None
    by_group: bool
    _scores: Callable[[str], Scores] = field(repr=False, compare=False)

    @property
    def score(self) -> float:
        """The metric that is looked at first: over all rows, and the mean over repetitions."""
        return statistics.fmean(found[self.metric] for found in self.repeats)

    @property
    def worst(self) -> str:
        """The name of the fold, or group, with the worst score."""
        sign = 1 if higher_is_better(self.metric) else -1
        return min(zip(self.names, self.folds, strict=True), key=lambda pair: sign * pair[1][self.metric])[0]

    @property
    def gap(self) -> float | None:
        """How much better the score is at home than on groups never seen; None unless groups were left out."""
        if self.in_domain is None:
            return None
        return self.in_domain[self.metric] - self.metrics[self.metric]

    def interval(self, name: str | None = None, level: float = 0.95) -> tuple[float, float]:
        """Of a metric, from drawing rows; of all repetitions of a row at once, and of rows of a group at once.

        Args:
            name: of the metric; the one looked at first when None.
            level: share of the bootstrap values inside.

        Returns:
            Its ends; nan for the loss, which is kept as a sum.
        """
        name = self.metric if name is None else name
        if name not in self.metrics or not has_rows(name):
            return float("nan"), float("nan")
        means = self._scores(name).replicates.mean(axis=1)
        means = means[~np.isnan(means)]
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) if len(means) else (np.nan, np.nan)
        return float(low), float(high)

    def _lines(self) -> list[dict[str, Any]]:
        what = "group" if self.by_group else "fold"
        return [
            {what: name, "rows": len(rows), **found, "seconds": round(seconds, 2)}
            for name, rows, found, seconds in zip(self.names, self.held_out, self.folds, self.fold_seconds, strict=True)
        ]

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a fold.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame(self._lines(), purpose="CrossValidation.to_frame()")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without the predictions."""
        return {
            "metric": self.metric,
            "score": self.score,
            "interval": list(self.interval()),
            "metrics": self.metrics.to_dict(),
            "folds": self._lines(),
            "worst": self.worst,
            "in_domain": None if self.in_domain is None else self.in_domain.to_dict(),
            "epochs": self.epochs,
            "seconds": self.seconds,
        }

    def _table(self) -> Table:
        low, high = self.interval()
        what = "group" if self.by_group else "fold"
        whole = {what: "all rows", "rows": len(self.predictions), **self.metrics, "seconds": round(self.seconds, 2)}
        notes = [f"{self.metric} {self.score:.4f}" + (f", 95 % by rows: {ends(low, high)}" if low == low else "")]
        if self.by_group:
            worst = self.folds[self.names.index(self.worst)][self.metric]
            notes.append(f"worst {what}: {self.worst} ({worst:.4f})")
            if self.in_domain is not None:
                notes.append(
                    f"rows of groups that were learned from: {self.in_domain[self.metric]:.4f}, "
                    f"so a new group costs {self.gap:+.4f}"
                )
        if self.epochs is not None:
            notes.append(f"median of the best epochs: {self.epochs}")
        notes.append("scores of folds share training rows and are not independent: no standard error is made of them")
        return Table([*self._lines(), whole], notes)

    def __str__(self) -> str:
        return str(self._table())

    def __repr__(self) -> str:
        return f"CrossValidation({self.metric}={self.score:.4f}, {counted(len(self.folds), 'fold')})"

    def _repr_html_(self) -> str:
        return self._table().html()


@checked
def cross_validate(
    tuner: FineTuner,
    data: TaskDataset,
    *,
    folds: int | str = 5,
    repeats: int = 1,
    groups: Groups = None,
    metric: str | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Predict every row by a model that has not seen it, and score that.

    Each fold is held out once; a clone of the tuner learns from the others. Rows with identical inputs are never on two
    sides, and classes are spread evenly. Early stopping and ``keep_best`` look at a tenth of a fold's training rows,
    never at the rows held out. Clones share tokens, the weights as they were opened, and outputs of frozen layers.

    Args:
        tuner: its options are used; it is not changed.
        data: labelled rows.
        folds: how many; or ``"groups"``, to leave out each group once: how good is it on a group never seen?
        repeats: how often all rows are divided anew, with another seed for folds and training each time.
        groups: the name of a column, or a function of a row: rows of one group stay on one side.
        metric: that the table looks at first; the first of the tuner's or the task's when None.
        output_dir: a folder for results; folds that are finished there are not computed again.
        progress: a line a fold.

    Returns:
        A `CrossValidation`: predictions in row order, metrics, folds, seconds.

    Raises:
        OptionError: folds that the data cannot have (a label, or a group, with too few rows is named), or an unknown
            metric; before any training.
        DataError: rows that ``fit`` would refuse.
        CheckpointError: ``output_dir`` holds something else.

    Example:
        >>> from sftlib import Text
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> rows = {"text": [*SENTENCES], "label": ["film"] * 12 + ["bank"] * 4}
        >>> tuner = FineTuner(tiny_model(), inputs=Text(tokenizer=tiny_tokenizer()), epochs=1)
        >>> found = cross_validate(tuner, TaskDataset(rows), folds=2, progress=False)
        >>> len(found.predictions), len(found.folds), found.metrics.rows
        (16, 2, 16)
    """
    check_tuner(tuner)
    require_labelled(data, "cross_validate", tuner.task)
    raise_together([true_or_false("progress", progress)])
    check_folds(data, folds, repeats, groups)
    question = question_of(tuner, data, metric)
    parts = make_folds(data, folds=folds, repeats=repeats, groups=groups, seed=question.seed)
    asked = {"folds": folds, "repeats": repeats, "groups": None if groups is None else str(groups)}
    kept = Kept(output_dir, identity_of("cross_validate", tuner, data, question, asked), question.task)
    started, by_group = time.perf_counter(), folds == ONE_GROUP_OUT
    runner = _Runner(sharing(tuner, data), question, data, kept, home=by_group)
    results = []
    for number, fold in enumerate(parts):
        results.append(runner.run(number, fold))
        if progress:
            value = _metrics(question, fold, results[-1].away)[question.metric]
            tqdm.write(f"fold {fold.name}: {question.metric} {value:.4f} ({results[-1].away.seconds:.1f} s)")
    named = group_names(data, groups)
    return _put_together(question, parts, results, named, time.perf_counter() - started, by_group=by_group)


@final
@dataclass(frozen=True)
class _Result:
    """Of a fold.

    Attributes:
        away: on the rows held out.
        home: metrics on rows of other groups that were set aside, or None.
    """

    away: Outcome
    home: Metrics | None = None


@final
@dataclass(frozen=True)
class _Runner:
    """Runs folds, or finds what they left behind.

    Attributes:
        tuner: that shares what can be shared.
        question: what is asked of each fold.
        data: all rows.
        kept: results of earlier.
        home: whether rows of the groups that are learned from are judged too.
    """

    tuner: FineTuner
    question: Question
    data: TaskDataset
    kept: Kept
    home: bool

    def run(self, number: int, fold: Fold) -> _Result:
        seed = seed_of(self.question.seed, fold.repeat)
        tuner = self.tuner if not fold.repeat else self.tuner.clone().set_params(seed=seed)
        train, name = self.data.select(fold.train), f"fold-{number:03}"
        if not self.home:
            return _Result(self._outcomes(tuner, train, {name: self.data.select(fold.held_out)})[0])
        inside, aside = train.split(1 - _IN_DOMAIN, _IN_DOMAIN, seed=seed)
        parts = {name: self.data.select(fold.held_out), f"{name}-home": aside}
        away, home = self._outcomes(tuner, inside, parts)
        task, names = self.question.task, self.question.names
        metrics = task.metrics(names).update(
            home.predictions, task.references(aside), loss_sum=home.loss_sum, count=home.count
        )
        return _Result(away, metrics)

    def _outcomes(self, tuner: FineTuner, train: TaskDataset, parts: dict[str, TaskDataset]) -> list[Outcome]:
        found = [self.kept.find(name) for name in parts]
        outcomes = [one for one in found if isinstance(one, Outcome)]
        if len(outcomes) == len(parts):
            return outcomes
        outcomes = run_trial(tuner, self.question.names, train, *parts.values())
        for name, outcome in zip(parts, outcomes, strict=True):
            self.kept.keep(name, outcome)
        return outcomes


def _metrics(question: Question, fold: Fold, outcome: Outcome) -> Metrics:
    return question.metrics(outcome.predictions, fold.held_out.tolist(), outcome.loss_sum, outcome.count)


def _put_together(
    question: Question,
    folds: Sequence[Fold],
    results: Sequence[_Result],
    named: Sequence[Any] | None,
    seconds: float,
    *,
    by_group: bool,
) -> CrossValidation:
    """The result of all folds.

    Args:
        question: what was asked of each.
        folds: all of them.
        results: one for each.
        named: (N,) the group of each row, or None.
        seconds: in all.
        by_group: whether each fold is a group.
    """
    repeats = max(fold.repeat for fold in folds) + 1
    predictions: list[list[Any]] = [[None] * len(question.references) for _ in range(repeats)]
    for fold, result in zip(folds, results, strict=True):
        for row, prediction in zip(fold.held_out.tolist(), result.away.predictions, strict=True):
            predictions[fold.repeat][row] = prediction
    metrics = [_metrics(question, fold, result.away) for fold, result in zip(folds, results, strict=True)]
    merged = [
        reduce(add, [found for fold, found in zip(folds, metrics, strict=True) if fold.repeat == repeat])
        for repeat in range(repeats)
    ]
    homes = [result.home for result in results if result.home is not None]
    best = [result.away.best_epoch for result in results if result.away.best_epoch is not None]
    return CrossValidation(
        metric=question.metric,
        predictions=tuple(predictions[0]),
        metrics=merged[0],
        folds=tuple(metrics),
        held_out=tuple(fold.held_out for fold in folds),
        names=tuple(fold.name if repeats == 1 else f"{fold.repeat}.{fold.name}" for fold in folds),
        repeats=tuple(merged),
        seconds=seconds,
        fold_seconds=tuple(result.away.seconds for result in results),
        epochs=round(statistics.median(best)) if best else None,
        in_domain=reduce(add, homes) if homes else None,
        by_group=by_group,
        _scores=partial(_scores_of, question, predictions, named),
    )


def _scores_of(
    question: Question, predictions: Sequence[Sequence[Any]], named: Sequence[Any] | None, name: str
) -> Scores:
    return Scores(question.task, name, question.references, predictions, groups=named, seed=question.seed)
