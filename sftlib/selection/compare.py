"""`compare`: which pretrained model suits these rows, beside how large and how fast it is; and is one needed at all?"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.arguments import without_recipes
from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError, SftlibError
from sftlib.finetuner import FineTuner
from sftlib.models.memory import is_out_of_memory
from sftlib.models.sizes import count_parameters
from sftlib.run.choose import require_labelled
from sftlib.selection.candidates import Candidate, baseline_of, candidates_of, licence_of
from sftlib.selection.comparison import Comparison, Standing
from sftlib.selection.folds import Fold, Groups, check_folds, group_names, make_folds
from sftlib.selection.heads import fitted, predictions, suits, usual_head
from sftlib.selection.paired import Difference, Scores, has_rows
from sftlib.selection.trial import WATCHING, Question, question_of, run_trial
from sftlib.support.checking import above_zero, checked, raise_together, true_or_false, whole_number

_STEPS = 5  # of a run that only shows how fast training is


@checked
def compare(
    models: Sequence[Any],
    data: TaskDataset,
    *,
    folds: int | str = 5,
    finalists: int = 3,
    baseline: Any = "tf-idf",
    groups: Groups = None,
    metric: str | None = None,
    minutes: float | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare pretrained models, and simple baselines, on labelled rows.

    First every model is taken as it is: its features of all rows are computed once, and a logistic regression (of
    numbers a ridge regression) on them is judged in folds. Then the best, and those of the others that cannot be told
    from it, are fine-tuned on all folds but the first, each with its own defaults, and judged on the first. All are
    ranked on the rows of that one, compared row by row.

    Args:
        models: names, folders, `Pretrained`, model objects, `FineTuner` with options of their own, or estimators of
            scikit-learn that learn from texts.
        data: labelled rows, with one label or one number each; of other tasks all models are fine-tuned.
        folds: how many.
        finalists: how many are fine-tuned at most.
        baseline: ``"tf-idf"``: words and pairs of words, counted; an estimator of your own; or None.
        groups: as of `cross_validate`.
        metric: to rank by; the first of the task's when None.
        minutes: after which nothing new begins; what was not tried is said.
        progress: a line a model.

    Returns:
        `Comparison`: ``standings``, ``best``, ``equals``, ``simplest``.

    Raises:
        OptionError: what is no model, the same twice, folds that the data cannot have, an unknown metric.
        DataError: rows that ``fit`` would refuse.
        SftlibError: all models failed; the error of the first.

    Example:
        >>> from sftlib import Text
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> rows = TaskDataset({"text": [*SENTENCES], "label": ["film"] * 12 + ["bank"] * 4})
        >>> tuner = FineTuner(tiny_model(), inputs=Text(tokenizer=tiny_tokenizer()), epochs=1)
        >>> board = compare([tuner], rows, folds=2, progress=False)
        >>> sorted(one.name for one in board.standings)
        ['BertForSequenceClassification', 'words counted (tf-idf)']
    """
    require_labelled(data, "compare")
    raise_together(
        [
            whole_number("finalists", finalists, at_least=1),
            minutes is not None and above_zero("minutes", minutes, otherwise="None for no limit"),
            true_or_false("progress", progress),
            None
            if folds != "groups"
            else "folds='groups': compare divides into a number of folds; give groups= as well",
        ]
    )
    check_folds(data, folds, 1, groups)
    entries = candidates_of(models)
    tuners = [entry.tuner for entry in entries if entry.tuner is not None]
    if not tuners:
        raise OptionError(
            "models: there is no pretrained model among them, only estimators; scikit-learn compares those"
        )
    question = question_of(tuners[0], data, metric)
    for tuner in tuners[1:]:
        question_of(tuner, data, question.metric)
    if not has_rows(question.metric):
        raise OptionError(f"metric={question.metric!r} is known as a sum alone; rank by one of predictions")
    texts = _texts(data) if suits(question.task) and "text" in data.roles else None
    entries += baseline_of(baseline, question.task, texts)
    parts = make_folds(data, folds=folds, repeats=1, groups=groups, seed=question.seed)
    board = _Board(entries, data, question, parts, texts, group_names(data, groups), progress=progress)
    board.run(finalists, math.inf if minutes is None else time.perf_counter() + 60 * minutes)
    return board.result()


def _texts(data: TaskDataset) -> list[str]:
    """What an estimator reads of each row."""
    roles = [role for role in ("text", "text_pair") if role in data.roles]
    return ["\n".join(row) for row in zip(*[data.column(role) for role in roles], strict=True)]


@final
class _Board:
    """All entries, stage by stage.

    Args:
        entries: the models, then the baseline.
        data: labelled rows.
        question: what is asked.
        folds: of the data.
        texts: what estimators read, or None where heads of scikit-learn cannot answer as the task does.
        groups: (N,) what is drawn together, or None.
        progress: whether to tell.
    """

    def __init__(
        self,
        entries: Sequence[Candidate],
        data: TaskDataset,
        question: Question,
        folds: Sequence[Fold],
        texts: Sequence[str] | None,
        groups: Sequence[Any] | None,
        *,
        progress: bool,
    ) -> None:
        self._started = time.perf_counter()
        self._entries = entries
        self._data = data
        self._question = question
        self._folds = folds
        self._texts = texts
        self._groups = groups
        self._progress = progress
        self._whole: dict[str, list[Any]] = {}  # predictions of all rows, by heads and estimators
        self._raced: dict[str, list[Any]] = {}  # predictions of the rows of the race, by tuned models
        self._facts: dict[str, Standing] = {}
        self._first_error: Exception | None = None

    def run(self, finalists: int, until: float) -> None:
        """Both stages."""
        for entry in self._entries:
            if time.perf_counter() > until and self._facts:
                return
            self._attempt(entry, self._as_it_is)
        for entry in self._finalists(finalists):
            if time.perf_counter() > until:
                return
            self._attempt(entry, self._tuned)

    def _attempt(self, entry: Candidate, stage: Any) -> None:
        begun = time.perf_counter()
        standing = self._facts.get(entry.name, Standing(entry.name))
        try:
            standing = stage(entry, standing)
        except (SftlibError, RuntimeError, MemoryError) as error:
            if not isinstance(error, SftlibError) and not is_out_of_memory(error):
                raise
            self._first_error = self._first_error or error
            standing = replace(standing, error=f"{type(error).__name__}: {error}")
        seconds = standing.seconds + time.perf_counter() - begun
        self._facts[entry.name] = replace(standing, seconds=seconds)
        if self._progress:
            tqdm.write(self._line(standing))

    def _line(self, standing: Standing) -> str:
        if standing.error is not None:
            return f"{standing.name}: failed: {standing.error:.200}"
        scores = {"frozen": standing.frozen, "tuned": standing.tuned}
        told = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if value is not None)
        return f"{standing.name}: {self._question.metric} {told or 'not yet known'}"

    # Stages.

    def _as_it_is(self, entry: Candidate, standing: Standing) -> Standing:
        if entry.tuner is None:
            return self._of_estimator(entry, standing)
        if self._texts is None:  # no head of scikit-learn answers as this task does
            return self._with_facts(entry.tuner, standing)
        begun = time.perf_counter()
        features = entry.tuner.features(self._data)
        seconds = time.perf_counter() - begun
        self._whole[entry.name] = self._in_folds(usual_head(self._question.task), features)
        known = self._with_facts(entry.tuner, standing)
        return replace(known, frozen=self._score(self._whole[entry.name]), predicted=len(self._data) / seconds)

    def _of_estimator(self, entry: Candidate, standing: Standing) -> Standing:
        if self._texts is None:
            raise OptionError(f"{entry.name}: an estimator learns from texts with one label or number each")
        begun = time.perf_counter()
        texts = np.array(self._texts, dtype=object)
        self._whole[entry.name] = self._in_folds(entry.estimator, texts)
        rate = len(self._data) * len(self._folds) / (time.perf_counter() - begun)
        score = self._score(self._whole[entry.name])
        return replace(standing, frozen=score, trained=rate)

    def _in_folds(self, estimator: Any, inputs: NDArray[Any]) -> list[Any]:
        """A prediction for each row, by a head that has not seen it."""
        task, references = self._question.task, self._question.references
        found: list[Any] = [None] * len(references)
        for fold in self._folds:
            head = fitted(estimator, inputs[fold.train], [references[row] for row in fold.train.tolist()])
            answers = predictions(task, head, inputs[fold.held_out])
            for row, answer in zip(fold.held_out.tolist(), answers, strict=True):
                found[row] = answer
        return found

    def _with_facts(self, tuner: FineTuner, standing: Standing) -> Standing:
        """Sizes, and how fast training is: a few steps, on as many rows as they take."""
        rows = min(len(self._data), _STEPS * tuner.get_params(deep=False)["batch_size"])
        part = self._data if rows == len(self._data) else self._data.select(self._folds[0].train[:rows])
        options = tuner.get_params(deep=False)
        begun = time.perf_counter()
        timed = tuner.clone().set_params(**WATCHING, **without_recipes(options), max_steps=_STEPS)
        try:
            timed.fit(part, progress=False)
        except SftlibError:  # such as rows of one label alone among the first
            timed.fit(self._data, progress=False)
        seconds = time.perf_counter() - begun
        _, parameters = count_parameters(timed.model)
        learned = sum(record["rows"] for record in timed.history.steps)
        return replace(
            standing,
            parameters=parameters,
            megabytes=4 * parameters / 2**20,
            trained=learned / seconds,
            licence=licence_of(tuner),
        )

    def _finalists(self, most: int) -> list[Candidate]:
        """The best pretrained model, and those that cannot be told from it."""
        models = (
            [entry for entry in self._entries if entry.tuner is not None and self._facts[entry.name].error is None]
            if len(self._facts) == len(self._entries)
            else []
        )
        if not models or self._texts is None:
            return models
        sign = -1 if self._question.higher else 1
        order = sorted(models, key=lambda entry: sign * self._score(self._whole[entry.name]))
        scores = self._scores([self._whole[entry.name] for entry in order], range(len(self._data)))
        inside = [entry for place, entry in enumerate(order) if not place or not scores.difference(place, 0).told_apart]
        return inside[:most]

    def _tuned(self, entry: Candidate, standing: Standing) -> Standing:
        assert entry.tuner is not None
        fold = self._folds[0]
        (outcome,) = run_trial(
            entry.tuner, self._question.names, self._data.select(fold.train), self._data.select(fold.held_out)
        )
        self._raced[entry.name] = list(outcome.predictions)
        return replace(standing, tuned=self._score(self._raced[entry.name], fold.held_out.tolist()))

    # Scores.

    def _score(self, found: Sequence[Any], rows: Sequence[int] | None = None) -> float:
        references = self._question.references
        chosen = references if rows is None else [references[row] for row in rows]
        metric = self._question.metric
        return float(self._question.task.metrics([metric]).update(list(found), chosen)[metric])

    def _scores(self, found: Sequence[Sequence[Any]], rows: Sequence[int]) -> Scores:
        question = self._question
        return Scores(
            question.task,
            question.metric,
            [question.references[row] for row in rows],
            found,
            groups=None if self._groups is None else [self._groups[row] for row in rows],
            seed=question.seed,
        )

    def result(self) -> Comparison:
        """The table.

        Raises:
            SftlibError: all models failed; the error of the first.
        """
        rows = self._folds[0].held_out.tolist()
        answers = {name: [found[row] for row in rows] for name, found in self._whole.items()} | self._raced
        if not answers:
            raise self._first_error or OptionError("minutes: there was no time for a single model")
        sign = -1 if self._question.higher else 1
        order = sorted(answers, key=lambda name: sign * self._score(answers[name], rows))
        scores = self._scores([answers[name] for name in order], rows)
        standings = []
        for place, name in enumerate(order):
            apart = Difference(0.0, 0.0, 0.0) if not place else scores.difference(place, 0)
            standings.append(
                replace(
                    self._facts[name],
                    score=float(scores.values[place]),
                    interval=scores.interval(place),
                    difference=apart,
                    equal=not place or not apart.told_apart,
                )
            )
        standings += [one for name, one in self._facts.items() if name not in answers]
        return Comparison(
            metric=self._question.metric,
            standings=tuple(standings),
            rows=len(self._data),
            race_rows=len(rows),
            untried=tuple(entry.name for entry in self._entries if entry.name not in self._facts),
            seconds=time.perf_counter() - self._started,
        )
