"""Several tasks learned together: chosen for their data, and each taken out of the whole afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, final

from torch import nn

from sftlib.arguments import Arguments
from sftlib.data.several import MultiTask
from sftlib.errors import DataError, OptionError
from sftlib.models.shared_body import plain_copy, shared
from sftlib.models.sources import ModelSource
from sftlib.models.structure import body_of
from sftlib.run.choose import choose_task, metric_names, watchers
from sftlib.run.fitted import Fitted
from sftlib.support.checking import nearest, raise_together
from sftlib.support.values import Problem
from sftlib.tasks.base import Task
from sftlib.tasks.several import Several


@final
class TaskName(str):
    """The name of learning several tasks, which can be asked for one of them: ``tuner.task("topic")``."""

    _part: Callable[[str], Any]

    @classmethod
    def asking(cls, name: str, part: Callable[[str], Any]) -> TaskName:
        """A name.

        Args:
            name: as text.
            part: gives the tuner of one task.
        """
        made = cls(name)
        made._part = part
        return made

    def __call__(self, name: str) -> Any:
        """The tuner of one of the tasks."""
        return self._part(name)


def task_asked(fitted: Fitted, use: str, task: str | None) -> str:
    """Which of the tasks of a model is asked; the only one where there is one.

    Args:
        fitted: the model.
        use: what for, to begin the message with.
        task: as the user named it; None for the only one.

    Raises:
        OptionError: it is not said which, or there is no such task.
    """
    names = fitted.task.names if isinstance(fitted.task, Several) else ()
    if task is None and len(names) > 1:
        raise OptionError(f"{use}: this model has several tasks, {', '.join(names)}; say which: task={names[0]!r}")
    if task is not None and task not in names:
        why = nearest(task, names) if names else f"this model has one task, {fitted.task.name}"
        raise OptionError(f"task={task!r:.60}: {why}")
    return names[0] if task is None else task


def choose_tasks(arguments: Arguments, source: ModelSource, train: object, valid: object) -> Several:
    """The tasks of these data sets, after everything about them that can be refused was refused.

    Args:
        arguments: of the tuner.
        source: of the model.
        train: rows to learn from, by task.
        valid: rows to observe, by task, if there are any; a task may be missing.

    Raises:
        DataError: every problem of every data set.
        OptionError: tasks that cannot share a model, or options that do not go with several.
    """
    if not isinstance(train, MultiTask):
        raise DataError(f"fit (train): expected a MultiTask as well, found {type(train).__name__}")
    if valid is not None and not isinstance(valid, MultiTask):
        raise DataError(
            f"fit (valid): expected a MultiTask, as the training data is, found {type(valid).__name__}; "
            'MultiTask({"name": valid})'
        )
    raise_together(_problems(arguments))
    observed = {} if valid is None else valid.parts
    strange = [
        f"fit (valid): {name!r}: the training data has no such task: {nearest(name, train.parts)}"
        for name in observed
        if name not in train
    ]
    parts = dict[str, Task]()
    errors: list[DataError | OptionError] = [DataError(line) for line in strange]
    alone = replace(arguments, keep_best=None, early_stopping=None)
    for name, data in train.parts.items():
        try:
            parts[name] = choose_task(alone, data, observed.get(name))
        except (DataError, OptionError) as error:
            errors.append(type(error)("\n".join(f"{name}: {line}" for line in str(error).splitlines())))
    _raise(errors)
    raise_together(_of_tasks(parts))
    found = Several.of(parts, train)
    if valid is None and watchers(arguments):
        raise OptionError(
            "keep_best and early_stopping look at the validation data, and there is none: fit(train, valid)"
        )
    found.metrics(metric_names(arguments, found))
    return found.beside(source, arguments.reading(found.first))


def _problems(arguments: Arguments) -> list[Problem]:
    """Options that ask for something of one task alone."""
    reasons = {
        "task": "each data set says what it is for, leave it out",
        "adapter": "an adapter is saved with one head; tune the body, or tune each task by itself",
        "few_shot": "it fits one head; leave it out",
    }
    given = [f"{name}= and a MultiTask: {why}" for name, why in reasons.items() if getattr(arguments, name)]
    raced = arguments.learning_rate == "find" and (
        "learning_rate='find' and a MultiTask: the race looks at one task; name a rate"
    )
    return [*given, raced]


def _of_tasks(parts: Mapping[str, Task]) -> list[Problem]:
    """Tasks that cannot stand on one body."""
    first = next(iter(parts))
    return [
        *(
            f"MultiTask: {name!r} is {task.name}, which learns alone: its loss joins rows, or it writes texts or places"
            for name, task in parts.items()
            if not task.shares_body
        ),
        *(
            f"MultiTask: {name!r} reads {task.inputs.__name__}, and {first!r} {parts[first].inputs.__name__}: one body "
            "reads one kind of input"
            for name, task in parts.items()
            if task.inputs is not parts[first].inputs
        ),
    ]


def _raise(errors: Sequence[Exception]) -> None:
    if not errors:
        return
    kinds = {type(error) for error in errors}
    kind: Any = kinds.pop() if len(kinds) == 1 else DataError if any(isinstance(e, DataError) for e in errors) else None
    raise (kind or OptionError)("\n".join(str(error) for error in errors))


def part_of(fitted: Fitted, name: str) -> Fitted:
    """One task of several, with a model of its own: what a plain run for it would leave.

    Args:
        fitted: of several tasks.
        name: of one.
    """
    task = fitted.task
    assert isinstance(task, Several)
    own = [{role: v for role, v in row.items() if role != "task"} for row in fitted.samples if row["task"] == name]
    before = f"{name}."
    return replace(
        fitted,
        task=task.parts[name],
        model=plain_copy(fitted.model, name).eval(),
        settings={**fitted.settings, "task": task.parts[name].name},
        samples=own,
        metrics={key.removeprefix(before): v for key, v in fitted.metrics.items() if key.startswith(before)},
        layout=None,
        recall=None,
        decided={},
    )


def together_again(parts: Mapping[str, Fitted], *, scales: tuple[float, ...], mixing: float) -> Fitted:
    """Several tasks that were saved as one each, on one body again.

    Args:
        parts: name -> what its folder holds.
        scales: of each task.
        mixing: as it was.
    """
    first = next(iter(parts.values()))
    task = Several(parts={name: part.task for name, part in parts.items()}, mixing=mixing, scales=scales)
    model = shared({name: deepcopy(part.model) for name, part in parts.items()})
    metrics = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.metrics.items()}
    return replace(first, task=task, model=model, settings={**first.settings, "task": task.name}, metrics=metrics)


def body_copy(fitted: Fitted) -> nn.Module:
    """A copy of the tuned body.

    Raises:
        OptionError: the model is no body under a head.
    """
    model = fitted.model
    name = fitted.task.names[0] if isinstance(fitted.task, Several) else ""
    body = body_of(plain_copy(model, name) if name else deepcopy(model))
    if body is None:
        raise OptionError(f"body: {type(model).__name__} is not a transformers model with a body and a head")
    return body
