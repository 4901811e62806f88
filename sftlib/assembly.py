"""From options and data to the parts of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.arguments import Arguments
from sftlib.data.batching import BatchPlan
from sftlib.data.dataset import TaskDataset
from sftlib.data.encoded import Encoded
from sftlib.errors import DataError, OptionError
from sftlib.fitted import Fitted
from sftlib.models.backbone import ModelSource, longest_input, open_tokenizer, settle_padding
from sftlib.models.device import resolve_device
from sftlib.models.memory import tokens_of_a_pass
from sftlib.models.precision import resolve_precision
from sftlib.models.sizes import count_parameters
from sftlib.models.tokenizer import TextEncoder
from sftlib.tasks import find_task
from sftlib.tasks.base import Task
from sftlib.train.callbacks import Callback, KeepBest
from sftlib.train.inference import Budget


def choose_task(arguments: Arguments, train: TaskDataset, valid: TaskDataset | None) -> Task:
    """The task for this data, after everything about the data that can be refused was refused.

    Raises:
        DataError: every problem of both data sets in one error.
    """
    problems: list[DataError] = []
    for name, data in [("train", train), *([("valid", valid)] if valid is not None else [])]:
        try:
            require_labelled(data, f"fit ({name})")
        except DataError as error:
            problems.append(error)
    _raise_all(problems)
    named = arguments.task or train.task
    if train.task is not None and named != train.task:
        raise OptionError(f"task={arguments.task!r}, but the training data is for {train.task!r}")
    task = find_task(named or "").for_data(train, arguments.loss_options())
    for data in [train] if valid is None else [train, valid]:
        try:
            task.check(data)
        except DataError as error:
            problems.append(error)
    _raise_all(problems)
    if valid is None and (arguments.keep_best or arguments.early_stopping):
        raise OptionError("keep_best and early_stopping look at the validation data: fit(train, valid)")
    task.metrics(metric_names(arguments, task))
    return task


def require_labelled(data: object, purpose: str) -> None:
    """Refuse what is not a labelled, non-empty data set.

    Raises:
        DataError: saying which.
    """
    if not isinstance(data, TaskDataset):
        raise DataError(
            f"{purpose}: expected a TaskDataset, found {type(data).__name__}; wrap it: TaskDataset(rows, text=..., label=...)"
        )
    if len(data) == 0:
        raise DataError(f"{purpose}: the data set holds no rows")
    if not data.is_labelled:
        others = [name for name in data.columns if name not in data.roles.values()]
        hint = f"; columns without a role: {', '.join(map(repr, others[:10]))}" if others else ""
        raise DataError(
            f"{purpose}: the data set has no labels; name their column, for example label='sentiment'{hint}"
        )


def metric_names(arguments: Arguments, task: Task) -> list[Any]:
    """The metrics to compute: those asked for or the task's usual ones, and those that are watched."""
    watched = [arguments.keep_best, arguments.early_stopping.metric if arguments.early_stopping else None]
    names = list(task.usual_metrics if arguments.metrics is None else arguments.metrics)
    return [*names, *(name for name in dict.fromkeys(watched) if name is not None and name not in names)]


def assemble(arguments: Arguments, source: ModelSource, task: Task) -> Fitted:
    """Build the model and all it needs.

    Raises:
        ArtifactError: the model or its tokenizer cannot be opened.
        OptionError: the model does not fit the task or the options.
    """
    tokenizer = source.tokenizer() if arguments.tokenizer is None else arguments.tokenizer
    if isinstance(tokenizer, str):
        tokenizer = open_tokenizer(tokenizer)
    model = task.build(source, dropout=arguments.dropout, seed=arguments.seed)
    encoder = TextEncoder(tokenizer, max_length=2)
    settle_padding(model, encoder.tokenizer)
    longest = longest_input(model, encoder.tokenizer)
    encoder.max_length = arguments.max_length or longest
    if encoder.max_length > longest:
        raise OptionError(f"max_length={arguments.max_length}: this model takes at most {longest} tokens")
    device = resolve_device(arguments.device)
    precision = resolve_precision(arguments.precision, device=device, model=model)
    settings = {
        **{name: value for name, value in arguments.as_dict().items() if _is_plain(value)},
        "model": source.name,
        "task": task.name,
        "max_length": encoder.max_length,
        "device": str(device),
        "precision": precision.name,
    }
    return Fitted(task, model.to(device), encoder, precision, device, settings)


def plan_batches(arguments: Arguments, rows: int) -> BatchPlan:
    """Which rows make up which optimizer step."""
    steps = arguments.max_steps or arguments.epochs * math.ceil(rows / arguments.batch_size)
    return BatchPlan(rows, batch_size=arguments.batch_size, steps=steps, seed=arguments.seed)


def training_budget(arguments: Arguments, fitted: Fitted) -> Budget:
    """How an effective batch is cut: as asked, or by the memory there is; never where rows depend on each other."""
    if fitted.task.couples_rows:
        return Budget(arguments.batch_size, 2**62)
    if isinstance(arguments.micro_batch_size, int):
        return Budget(arguments.micro_batch_size, 2**62)
    return Budget(arguments.batch_size, tokens_of_a_pass(fitted.model, fitted.device))


def tokens_in_use(*parts: Encoded | None) -> NDArray[np.integer[Any]]:
    """Every token id that occurs."""
    return np.unique(np.concatenate([np.unique(part.inputs["input_ids"].values) for part in parts if part is not None]))


def watchers(arguments: Arguments) -> list[Callback]:
    """The callbacks that the options ask for."""
    stopping = arguments.early_stopping
    best = arguments.keep_best or (stopping.metric if stopping else None)
    return [*([stopping] if stopping else []), *([KeepBest(best)] if best else [])]


def opening_lines(
    fitted: Fitted, train: TaskDataset, encoded: Encoded, steps: int, valid: TaskDataset | None
) -> Sequence[str]:
    """What to say before the first step: what is trained, on what, how; and what is wrong with the data."""
    trained, total = count_parameters(fitted.model)
    rows = f"{len(train):,} rows" + (f" (+ {len(valid):,} valid)" if valid is not None else "")
    lines = [
        f"{fitted.task.name}: {fitted.settings['model']} on {fitted.device} in {fitted.precision.name} "
        f"({fitted.precision.reason}); {trained:,} of {total:,} parameters trained; {rows}, {steps:,} steps"
    ]
    if len(encoded.truncated):
        share = len(encoded.truncated) / len(encoded)
        lines.append(f"truncated to {fitted.encoder.max_length} tokens: {len(encoded.truncated):,} rows ({share:.1%})")
    return [*lines, *train.report(valid).problems]


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _raise_all(problems: Sequence[DataError]) -> None:
    if problems:
        kinds = {type(problem) for problem in problems}
        kind = kinds.pop() if len(kinds) == 1 else DataError
        raise kind("\n".join(str(problem) for problem in problems))
