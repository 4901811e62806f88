"""What is refused before the first step: data and options that do not go together, and models that cannot be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import listed, listed_rows
from sftlib.data.roles.schemas import SCHEMAS
from sftlib.data.stream import no_data_set
from sftlib.errors import DataError, OptionError
from sftlib.tasks import find_task
from sftlib.tasks.base import Task
from sftlib.train.callbacks import Callback, EarlyStopping, KeepBest

_WATCHERS = (EarlyStopping, KeepBest)


def choose_task(
    arguments: Arguments, train: TaskDataset, valid: TaskDataset | None, callbacks: Sequence[Callback] = ()
) -> Task:
    """The task for this data, after everything about the data that can be refused was refused.

    Raises:
        DataError: every problem of both data sets in one error.
        OptionError: options that do not go with the data.
    """
    parts = {"fit (train)": train} if valid is None else {"fit (train)": train, "fit (valid)": valid}
    _all_of(require_labelled, parts, arguments.task_name)
    if arguments.task_name not in (None, train.task):
        raise OptionError(
            f"task={arguments.task!r}, but the training data is for {train.task!r}; leave task= out, "
            f"or give the data the roles of that task: {_roles_wanted(arguments.task_name)}"
        )
    task = arguments.learning(find_task(train.task or "")).learned_from(train)
    _all_of(lambda data, name: check_data(task, data, name), parts)
    watching = [*watchers(arguments), *(callback for callback in callbacks if isinstance(callback, _WATCHERS))]
    if valid is None and watching:
        asked = "keep_best and early_stopping look" if not callbacks else f"{type(watching[-1]).__name__} looks"
        raise OptionError(f"{asked} at the validation data, and there is none: fit(train, valid)")
    task.metrics(metric_names(arguments, task, callbacks))
    return task


def _all_of(check: Callable[..., None], parts: Mapping[str, Any], *more: object) -> None:
    """Check every data set, and raise all that was found in one error."""
    problems: list[DataError] = []
    for name, data in parts.items():
        try:
            check(data, name, *more)
        except DataError as error:
            problems.append(error)
    if problems:
        kinds = {type(problem) for problem in problems}
        kind = kinds.pop() if len(kinds) == 1 else DataError
        raise kind("\n".join(str(problem) for problem in problems))


def check_data(task: Task, data: TaskDataset, purpose: str) -> None:
    """Refuse a data set that the task cannot be evaluated on.

    Raises:
        DataError: with every row concerned, each line beginning with what the data is for.
    """
    try:
        task.check(data)
    except DataError as error:
        raise type(error)("\n".join(f"{purpose}: {line}" for line in str(error).splitlines())) from None


def require_labelled(data: object, purpose: str, task: str | None = None) -> None:
    """Refuse what is not a labelled, non-empty data set.

    Args:
        data: as the user gave it.
        purpose: what for, to begin the message with.
        task: the task it should be for, where that is known.

    Raises:
        DataError: saying which.
    """
    if not isinstance(data, TaskDataset):
        raise DataError(no_data_set(data, purpose))
    if len(data) == 0:
        raise DataError(f"{purpose}: the data set holds no rows")
    if len(data.without_target):
        rows = f"{listed_rows(data.without_target.tolist())} of {len(data):,}"
        raise DataError(
            f"{purpose}: the assistant says nothing in {rows}, so there is nothing to learn from (a turn with a weight "
            "of 0 is only read); give its answer as the last turn, or drop these rows"
        )
    if not data.is_labelled:
        others = [name for name in data.columns if name not in data.roles.values()]
        missing = _missing_targets(data.task or task, others, data.inputs)
        hint = f"; columns without a role: {listed(others, 10)}" if others else ""
        raise DataError(f"{purpose}: the data set has no labels: {missing}{hint}")


def _missing_targets(task: str | None, columns: Sequence[str], inputs: Sequence[str]) -> str:
    """Which role is missing and how to give it a column."""
    column = repr(columns[0]) if len(columns) == 1 else "..."
    if task is None:
        return f"name their column, for example TaskDataset(rows, text=..., label={column})"
    schemas = SCHEMAS.get(task)
    usable = [schema for schema in schemas if schema.inputs.keys() <= set(inputs)] or schemas[:1]
    named = (schema for schema in usable if schema.targets and schema.targets.keys() <= set(columns))
    schema = next(named, usable[0])
    if not schema.targets:
        return f"{task} learns from its inputs, if it is named: TaskDataset(rows, ..., task={task!r})"
    targets = list(schema.targets)
    given = ", ".join(f"{role}={repr(role) if role in columns else column}" for role in targets)
    return f"{task} needs the role {listed(targets)}; name its column: TaskDataset(rows, ..., {given})"


def _roles_wanted(task: str | None) -> str:
    ways = []
    for schema in SCHEMAS.get(task or ""):
        named = [f"task={schema.name!r}"] if schema.named_only else []
        ways.append(f"TaskDataset(rows, {', '.join([*(f'{role}=...' for role in schema.required), *named])})")
    return " or ".join(ways)


def metric_names(arguments: Arguments, task: Task, callbacks: Sequence[Callback] = ()) -> list[Any]:
    """The metrics to compute: those asked for or the task's usual ones, and those that are watched."""
    watching = [*watchers(arguments), *callbacks]
    watched = [callback.metric for callback in watching if isinstance(callback, EarlyStopping | KeepBest)]
    names = list(task.usual_metrics if arguments.metrics is None else arguments.metrics)
    return [*names, *(name for name in dict.fromkeys(watched) if name not in names)]


def watchers(arguments: Arguments) -> list[Callback]:
    """The callbacks that the options ask for."""
    stopping = arguments.early_stopping
    best = arguments.keep_best or (stopping.metric if stopping else None)
    return [*([stopping] if stopping else []), *([KeepBest(best)] if best else [])]
