"""A model that comes with its head, used before anything was learned here: the head says what its outputs are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.models.head_rows import names_in, unnamed
from sftlib.models.sources import ModelSource, is_of_class
from sftlib.run.assemble import assemble
from sftlib.run.fitted import Fitted
from sftlib.tasks import TASKS, find_task
from sftlib.tasks.base import Label, Task


def task_of(arguments: Arguments, source: ModelSource, inputs: object) -> Task:
    """The task that a model was tuned for elsewhere, as its config tells.

    Args:
        arguments: of the tuner.
        source: of the model.
        inputs: what it is to be used on: a data set, an input, or a list of inputs.

    Raises:
        OptionError: it does not tell, or not what its outputs are.
    """
    if source.config is None:
        raise OptionError("a module of one's own does not say what its outputs are")
    name = arguments.task_name or (inputs.task if isinstance(inputs, TaskDataset) else None) or _task_of(source.config)
    task = arguments.learning(find_task(name))
    names = _labels_of(source.config, inputs) if _has_labels(task) else ()
    return task.brought(names, _roles_of(inputs))


def as_it_came(arguments: Arguments, source: ModelSource, task: Task) -> Fitted:
    """A model with the head that it came with, ready for use.

    Raises:
        OptionError: it comes without one.
    """
    arguments = arguments.of(task)
    missing = arguments.reading(task).open(source).missing(task.markers) if task.markers else []
    fitted = assemble(arguments, source, task)
    missing += sorted(fitted.drawn) if task.auto_class != "AutoModel" else []  # whose pooler is not asked
    if missing:
        raise OptionError(f"the model does not hold {', '.join(missing[:3])}, which {task.name} needs")
    return fitted


def _task_of(config: Any) -> str:
    """The task of which the class of a model tells.

    Raises:
        OptionError: it does not.
    """
    problem = getattr(config, "problem_type", None)
    for task in TASKS:
        if problem in task.told_by and is_of_class(config, task.auto_class):
            return task.name
    raise OptionError("what the model is to do is not known; if it can do it already, name it with task=")


def _has_labels(task: Task) -> bool:
    return any(hasattr(task, name) for name in ("class_weights", "thresholds"))


def _labels_of(config: Any, inputs: object) -> tuple[Label, ...]:
    """The labels of the head, of the type that the data has.

    Raises:
        OptionError: they have no names.
    """
    names = names_in(config)
    known = inputs.label_names if isinstance(inputs, TaskDataset) else None
    kind = type(known[0]) if known else str
    if unnamed(names) and kind is not str:
        names = tuple(str(place) if kind is int else str(bool(place)) for place in range(len(names)))
    if not names or unnamed(names):
        raise OptionError(
            f"the labels of the model's head have no names ({', '.join(names[:3]) or 'none'}); its config says them in "
            "id2label"
        )
    read: Mapping[str, Label] = {str(label): label for label in known or ()}
    if kind is int and all(name.lstrip("-").isdecimal() for name in names):
        read = {name: int(name) for name in names}
    if kind is bool and set(names) <= {"True", "False"}:
        read = {name: name == "True" for name in names}
    return tuple(read.get(name, name) for name in names) if kind is not str else names


def _roles_of(inputs: object) -> Collection[str]:
    """The roles of rows, or of the first of several inputs."""
    if isinstance(inputs, TaskDataset):
        return tuple(inputs.roles)
    if isinstance(inputs, Mapping):
        return tuple(map(str, inputs))
    if isinstance(inputs, tuple):
        return ("text", "text_pair")
    return (
        _roles_of(inputs[0]) if isinstance(inputs, Sequence) and not isinstance(inputs, str) and inputs else ("text",)
    )
