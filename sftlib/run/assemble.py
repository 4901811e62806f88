"""From options and data to the parts of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sftlib.arguments import PLACES, Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.report import TokenReport, TrainingReport, padding_share
from sftlib.encoders.text.agreement import add_tokens, longest_input, settle_padding
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import OptionError
from sftlib.models.adapters import adapt, described, rate_of_adapters
from sftlib.models.checkpointing import can_checkpoint
from sftlib.models.device import resolve_device
from sftlib.models.frozen.freezing import freeze
from sftlib.models.language.encoder_decoder import settle_decoder
from sftlib.models.layouts.layout import Flat
from sftlib.models.memory import tokens_of_a_pass
from sftlib.models.opening import open_tokenizer
from sftlib.models.precision import resolve_precision
from sftlib.models.sizes import count_parameters
from sftlib.models.sources import ModelSource
from sftlib.run.fitted import Fitted
from sftlib.run.supervision import with_supervision
from sftlib.support.display import counted
from sftlib.support.redaction import redacted
from sftlib.tasks.base import Task
from sftlib.train.comm import open_comm
from sftlib.train.plan import BatchPlan, Budget

_USUAL_RATE = 5e-5


def assemble(arguments: Arguments, source: ModelSource, task: Task) -> Fitted:
    """Build the model and all it needs.

    Raises:
        ArtifactError: the model or its tokenizer cannot be opened.
        OptionError: the model does not fit the task or the options.
    """
    tokenizer = source.tokenizer() if arguments.tokenizer is None else open_tokenizer(arguments.tokenizer)
    if tokenizer is None:
        raise OptionError(
            f"tokenizer=None: a model that is passed as an object ({source.name}) comes without one; give tokenizer=, "
            "a transformers tokenizer, or the folder or name of one"
        )
    model = task.build(source, dropout=arguments.dropout, seed=arguments.seed)
    encoder = TextEncoder(tokenizer, max_length=2)
    settle_padding(model, encoder.tokenizer)
    settle_decoder(model, encoder.tokenizer)
    new_tokens = add_tokens(model, encoder.tokenizer, task.new_tokens, seed=arguments.seed)
    if not count_parameters(model)[0]:
        raise OptionError(f"model={source.name}: it has no parameter that can be trained (requires_grad)")
    freeze(model, arguments.freeze)
    adapt(
        model,
        arguments.adapter,
        head=task.head.auto_class,
        drawn=source.drawn,
        new_tokens=new_tokens,
        seed=arguments.seed,
    )
    longest = longest_input(model, encoder.tokenizer)
    encoder.max_length, encoder.longest = arguments.max_length or longest, longest
    if encoder.max_length > longest:
        raise OptionError(f"max_length={arguments.max_length}: this model takes at most {longest} tokens")
    task.prepare(model, encoder)
    device = resolve_device(arguments.device)
    precision = resolve_precision(arguments.precision, device=device, model=model)
    settings: dict[str, Any] = redacted(
        {
            **{name: value for name, value in arguments.as_dict().items() if _is_plain(value) and name not in PLACES},
            "model": source.name,
            "task": task.name,
            "tokenizer": Path(given).name if isinstance(given := arguments.tokenizer, str) else None,
            "max_length": encoder.max_length,
            "device": str(device),
            "precision": precision.name,
            "freeze": list(arguments.freeze) if isinstance(arguments.freeze, list | tuple) else arguments.freeze,
            "adapter": described(arguments.adapter),
            "learning_rate": learning_rate(arguments, model),
        }
    )
    return Fitted(
        task, model if arguments.quantize else model.to(device), encoder, precision, device, settings, comm=open_comm()
    )


def learning_rate(arguments: Arguments, model: nn.Module) -> float:
    """The peak of the schedule, as asked or as usual: an adapter, which begins at nothing, wants a higher one."""
    if arguments.learning_rate is not None:
        return arguments.learning_rate
    return _USUAL_RATE if arguments.adapter is None else rate_of_adapters(model)


def plan_batches(arguments: Arguments, rows: int) -> BatchPlan:
    """Which rows make up which optimizer step."""
    steps = arguments.max_steps or arguments.epochs * math.ceil(rows / arguments.batch_size)
    return BatchPlan(rows, batch_size=arguments.batch_size, steps=steps, seed=arguments.seed)


def training_budget(arguments: Arguments, fitted: Fitted) -> Budget:
    """How an effective batch is cut: as asked, or by the memory there is; never where rows depend on each other."""
    if fitted.task.couples_rows:
        fitted.comm.require_alone(f"{fitted.task.name}, whose loss couples the rows of a batch,")
        return Budget(arguments.batch_size, 2**62)
    if isinstance(arguments.micro_batch_size, int):
        return Budget(arguments.micro_batch_size, 2**62)
    tokens = tokens_of_a_pass(fitted.model, fitted.device, checkpointing=fitted.settings.get("checkpointing") is True)
    return Budget(arguments.batch_size, tokens, flat=fitted.settings.get("layout") == Flat.name)


def settle_checkpointing(arguments: Arguments, fitted: Fitted, encoded: Encoded) -> None:
    """Decide whether layers are to compute twice what they would have to keep.

    Raises:
        OptionError: it is asked for, and the model cannot.
    """
    asked, able = arguments.checkpointing, can_checkpoint(fitted.model)
    if asked is True and not able:
        raise OptionError(f"checkpointing=True: {type(fitted.model).__name__} does not support it; leave it 'auto'")
    if asked == "auto":
        longest = int(encoded.lengths.max(initial=0))
        asked = able and longest > tokens_of_a_pass(fitted.model, fitted.device)
    fitted.settings["checkpointing"] = bool(asked)


def tokens_in_use(task: Task, encoder: TextEncoder, *parts: Encoded | None) -> NDArray[np.integer[Any]]:
    """Every token id that the model may be shown."""
    if task.shows_more:
        return np.arange(len(encoder.tokenizer))
    return np.unique(np.concatenate([part.inputs["input_ids"].distinct() for part in parts if part is not None]))


def training_report(
    arguments: Arguments, fitted: Fitted, train: TaskDataset, valid: TaskDataset | None, encoded: Encoded
) -> TrainingReport:
    """What can be known about the data of a run before its first step.

    Args:
        arguments: the options.
        fitted: the task and its tokenizer.
        train: training rows.
        valid: validation rows, if there are any.
        encoded: the training rows, tokenised.
    """
    learned, budget = with_supervision(fitted.task, encoded), training_budget(arguments, fitted)
    plan = plan_batches(arguments, len(learned))
    passes = (part for step in range(plan.steps_per_epoch) for part in budget.cut(plan.rows(step), learned))
    others = None if valid is None else fitted.encode(valid)
    return TrainingReport(
        data=train.report(valid),
        train=TokenReport.of(encoded, fitted.task.shortened(encoded)),
        valid=None if others is None else TokenReport.of(others, fitted.task.shortened(others)),
        max_length=fitted.encoder.max_length,
        batch_size=arguments.batch_size,
        steps=plan.steps,
        padding=padding_share(learned.lengths, passes),
    )


def opening_lines(
    fitted: Fitted, train: TaskDataset, encoded: Encoded, steps: int, valid: TaskDataset | None
) -> Sequence[str]:
    """What to say before the first step: what is trained, on what, how; and what is wrong with the data."""
    trained, total = count_parameters(fitted.model)
    rows = counted(len(train), "row") + (f" (+ {len(valid):,} valid)" if valid is not None else "")
    lines = [
        f"{fitted.task.name}: {type(fitted.model).__name__} on {fitted.device} in {fitted.precision.name} "
        f"({fitted.precision.reason}), {_layout(fitted)}; "
        f"{trained:,} of {total:,} parameters trained{_share(fitted, trained / total)}; "
        f"{rows}, {counted(steps, 'step')}"
    ]
    tokens = TokenReport.of(encoded, fitted.task.shortened(encoded))
    lines += [fitted.frozen] if fitted.frozen else []
    return [*lines, *train.report(valid).problems, *tokens.sentences(fitted.encoder.max_length, "")]


def _layout(fitted: Fitted) -> str:
    refused = fitted.layout.refused if fitted.layout else ""
    return f"{fitted.settings['layout']}{f' (end to end: {refused:.100})' if refused else ''}"


def _share(fitted: Fitted, share: float) -> str:
    adapter = fitted.settings["adapter"]
    return f" ({share:.2%}: {adapter:.80})" if adapter else ""


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
