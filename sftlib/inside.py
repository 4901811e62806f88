"""What the rooms above the front ask of a tuner beyond its public face; users have no need of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from sftlib.data.dataset import TaskDataset
from sftlib.finetuner import FineTuner
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.sources import AdaptedSource
from sftlib.run.assemble import assemble
from sftlib.run.choose import choose_task
from sftlib.run.fitted import Fitted
from sftlib.run.on_disk import RunInMemory
from sftlib.run.prepare import Call, prepare
from sftlib.tasks.base import Task
from sftlib.train.comm import open_comm


def fitted_of(tuner: FineTuner, use: str) -> Fitted:
    """What a tuner holds, for the rooms above: whoever looks into a model rather than at its answers.

    Raises:
        NotFittedError: before ``fit`` or ``load``.
    """
    return tuner._ready(use)


def origin_of(tuner: FineTuner, data: TaskDataset) -> Fitted:
    """The model as it was before any tuning, under a fresh head for this data; the tuner is not changed.

    Raises:
        DataError: rows that ``fit`` would refuse.
        OptionError: options that do not go with the data or the model.
        ArtifactError: a model or a tokenizer that cannot be opened.
    """
    task = choose_task(tuner._arguments, data, None)
    return replace(assemble(tuner._arguments, tuner._source, task), encodings=tuner._encodings)


def learned_rows_of(tuner: FineTuner) -> Any:
    """The rows of the last ``fit``, a `TaskDataset` or a `MultiTask`; None of a tuner that was loaded."""
    return tuner._learned_rows


def beginning_with(tuner: FineTuner, body: nn.Module) -> FineTuner:
    """A clone whose runs begin with another body; what that lacks comes from where the model came from."""
    twin = tuner.clone()
    twin._source = AdaptedSource(tuner._source, body)
    return twin


def learned_around(
    tuner: FineTuner,
    task: Task,
    around: Callable[[Task], Task],
    train: TaskDataset,
    valid: TaskDataset | None,
    *,
    progress: bool,
) -> FineTuner:
    """A clone that learned rows by a task around its own, and answers as its own does.

    Args:
        tuner: how to learn; it is not changed.
        task: its own, which knows its labels.
        around: gives the task that is learned instead.
        train: rows, labelled or not.
        valid: labelled rows that are only observed, or None.
        progress: as in `FineTuner.fit`.

    Raises:
        OptionError: options that do not go with the data or the model.
        ArtifactError: a model or a tokenizer that cannot be opened.
    """
    twin = tuner.clone()
    own = task.beside(twin._source, twin._arguments.reading(task))
    call = Call(
        arguments=twin._arguments.of(own),
        source=twin._source,
        task=around(own),
        train=train,
        valid=valid,
        callbacks=(),
        encodings=twin._encodings,
        store=PrefixStore(),
        comm=open_comm(),
        progress=progress and open_comm().rank == 0,
    )
    fitting = prepare(call, RunInMemory())
    fitting.go()
    learned = replace(fitting.fitted, task=own)
    twin._fitted, twin._learned_rows = learned.with_choices_of(valid, call.metric_names), train
    return twin


def noted(tuner: FineTuner, name: str, value: Any) -> FineTuner:
    """The same tuner, with what was decided on the way to it in ``decided``."""
    fitted = tuner._ready(name)
    tuner._fitted = replace(fitted, decided={**fitted.decided, name: value})
    return tuner
