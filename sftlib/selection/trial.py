"""One trial: a tuner fitted on some rows and judged on others, and what candidates are compared by."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from sftlib.arguments import Arguments, without_recipes
from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.metrics import Metrics
from sftlib.metrics.directions import higher_is_better
from sftlib.models.sizes import count_parameters
from sftlib.run.choose import choose_task, metric_names
from sftlib.support.checking import one_of_types, raise_together
from sftlib.tasks.base import Task
from sftlib.train.callbacks import is_better

#: Options that look at validation data, which a trial has only where rows are set aside for it.
WATCHING: Mapping[str, Any] = {"keep_best": None, "early_stopping": None}

_SET_ASIDE = 0.1  # of a fold's training rows, where something looks at validation data


@final
@dataclass(frozen=True)
class Question:
    """What candidates are compared by.

    Attributes:
        task: for the data, without a model.
        metric: that they are ranked by.
        names: of all metrics that are computed.
        references: what predictions are compared with, of every row.
        seed: of folds and of intervals.
    """

    task: Task
    metric: str
    names: tuple[Any, ...]
    references: Sequence[Any]
    seed: int

    @property
    def higher(self) -> bool:
        """Whether larger values are better."""
        return higher_is_better(self.metric)

    def metrics(self, predictions: Sequence[Any], rows: Sequence[int], loss_sum: float, count: float) -> Metrics:
        """Metrics of predictions for some of the rows."""
        references = [self.references[row] for row in rows]
        return self.task.metrics(self.names).update(predictions, references, loss_sum=loss_sum, count=count)


def check_tuner(tuner: object) -> None:
    """Refuse what is no tuner.

    Raises:
        OptionError: saying what it is.
    """
    raise_together([one_of_types("tuner", tuner, FineTuner, "a FineTuner, such as FineTuner('bert-base-uncased')")])


def question_of(
    tuner: FineTuner, train: TaskDataset, metric: str | None, *, judged: TaskDataset | None = None
) -> Question:
    """What is asked of every candidate, after everything that can be refused without a model was refused.

    Args:
        tuner: its options are those of the first candidate.
        train: labelled rows.
        metric: to rank by; the first of the tuner's or the task's when None.
        judged: the rows that candidates are judged on; those of ``train`` when None.

    Raises:
        DataError: rows that ``fit`` would refuse.
        OptionError: options that do not go with the data, or a metric that the task does not have.
    """
    options = {**tuner.get_params(deep=False), **WATCHING}
    arguments = Arguments(**options)
    task = choose_task(arguments, train, judged)
    raise_together([one_of_types("metric", metric, str | None, "the name of a metric, such as 'accuracy', or None")])
    looked_at = watched(tuner)
    if looked_at is not None:
        task.metrics([looked_at])  # a name that is none is refused here, not in the middle of a fold
    names = metric_names(arguments, task)
    plain = [name for name in names if isinstance(name, str)]
    chosen = metric or next((name for name in plain if name != "loss"), "loss")
    if chosen not in names:
        try:
            task.metrics([chosen])
        except OptionError as error:
            raise OptionError(f"metric={metric!r}: {task.name} cannot be judged by it ({error})") from None
        names = [*names, chosen]
    rows = train if judged is None else judged
    return Question(task, chosen, tuple(names), task.references(rows), options["seed"])


@final
@dataclass(frozen=True)
class Outcome:
    """What a trial left behind; the model is gone.

    Attributes:
        predictions: one for each row held out, in their order.
        loss_sum: the loss summed over these rows.
        count: what it is divided by.
        seconds: from the first look at the rows to the last prediction.
        steps: optimizer steps made.
        rows: rows learned from, each as often as it was seen.
        trained: parameters that were trained.
        parameters: of the model.
        best_epoch: whose weights were kept, where something looked for the best.
    """

    predictions: tuple[Any, ...]
    loss_sum: float
    count: float
    seconds: float
    steps: int
    rows: int
    trained: int
    parameters: int
    best_epoch: int | None = None

    @property
    def work(self) -> float:
        """What training took, in weights touched: forward through all, back through those that are trained."""
        return float(self.rows) * (self.parameters + 2 * self.trained)


def watched(tuner: FineTuner) -> str | None:
    """The metric that the tuner looks for the best of while it learns."""
    options = tuner.get_params(deep=False)
    stopping = options["early_stopping"]
    found: str | None = options["keep_best"] or (stopping.metric if stopping is not None else None)
    return found


def parts_of(tuner: FineTuner, train: TaskDataset) -> tuple[TaskDataset, TaskDataset | None]:
    """The rows to learn from, and those to look at meanwhile: a part of the same, never of the rows held out."""
    if watched(tuner) is None:
        return train, None
    learned, looked_at = train.split(1 - _SET_ASIDE, _SET_ASIDE, seed=tuner.get_params(deep=False)["seed"])
    return learned, looked_at


def run_trial(tuner: FineTuner, names: Sequence[Any], train: TaskDataset, *held_out: TaskDataset) -> list[Outcome]:
    """Fit a clone, and judge it on rows held out.

    Args:
        tuner: with the options of the candidate; it is not changed.
        names: of the metrics, which may decide what evaluation decodes.
        train: rows to learn from.
        *held_out: rows that it must not have seen; one outcome for each of these data sets.
    """
    started = time.perf_counter()
    learned, looked_at = parts_of(tuner, train)
    fitted = tuner.clone().set_params(metrics=list(names)).fit(learned, looked_at, progress=False)
    steps, (trained, parameters) = fitted.history.steps, count_parameters(fitted.model)
    outcomes = []
    for rows in held_out:
        judged = fitted.judge(rows)
        outcome = Outcome(
            predictions=tuple(judged.predictions),
            loss_sum=judged.loss_sum,
            count=judged.count,
            seconds=time.perf_counter() - started,
            steps=len(steps),
            rows=sum(record["rows"] for record in steps),
            trained=trained,
            parameters=parameters,
            best_epoch=_best_epoch(fitted, watched(tuner)),
        )
        outcomes.append(outcome)
    return outcomes


def _best_epoch(fitted: FineTuner, metric: str | None) -> int | None:
    best: float | None = None
    epoch: int | None = None
    for record in fitted.history.evaluations if metric is not None else ():
        value = record[f"valid_{metric}"]
        if is_better(metric or "", value, best):
            best, epoch = value, int(record["epoch"])
    return epoch


def sharing(tuner: FineTuner, data: TaskDataset) -> FineTuner:
    """A clone whose trials share what can be shared: tokens, weights as they were opened, outputs of frozen layers."""
    shared = tuner.holding()
    share_frozen(shared, data)
    return shared


def share_frozen(tuner: FineTuner, data: TaskDataset) -> None:
    """Have what is frozen computed for all rows, in one order, so that no result depends on which trial came first."""
    options = tuner.get_params(deep=False)
    if options["freeze"] is not None:
        tuner.clone().set_params(**WATCHING, **without_recipes(options), max_steps=1).fit(data, progress=False)
