"""From a call of `FineTuner.fit` to a tuned model: the parts are made ready, then wired into the loop, then it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import nn

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.encoders.encoded import Encoded
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.language.vocabulary import compact_vocabulary
from sftlib.models.sources import ModelSource, seeded
from sftlib.run.assemble import (
    assemble,
    opening_lines,
    plan_batches,
    settle_checkpointing,
    tokens_in_use,
    training_budget,
)
from sftlib.run.choose import metric_names, watchers
from sftlib.run.encodings import Encodings
from sftlib.run.fitted import Fitted
from sftlib.run.inputs import rows_of
from sftlib.run.on_disk import Run
from sftlib.run.supervision import check_supervision, with_supervision
from sftlib.run.usable import usable_forward
from sftlib.tasks.base import Task
from sftlib.train.callbacks import Callback, Callbacks
from sftlib.train.comm import Comm
from sftlib.train.feed import MicroBatches
from sftlib.train.forward import Forward
from sftlib.train.loop import Loop, NonFinitePolicy
from sftlib.train.nonfinite import RaiseNonFinite, SkipNonFinite
from sftlib.train.optimizer import decay_factors, make_optimizer
from sftlib.train.plan import BatchPlan
from sftlib.train.progress import Progress
from sftlib.train.schedules import SCHEDULES
from sftlib.train.state import Training


@final
@dataclass(frozen=True)
class Call:
    """What a run is asked for.

    Attributes:
        arguments: options of the tuner.
        source: of the model.
        task: chosen for the data.
        train: labelled rows.
        valid: rows that are only observed, if there are any.
        callbacks: of the user.
        encodings: tokens made so far.
        store: where outputs of frozen layers are kept.
        comm: the processes that share the work.
        progress: whether this process tells how far it is.
    """

    arguments: Arguments
    source: ModelSource
    task: Task
    train: TaskDataset
    valid: TaskDataset | None
    callbacks: Sequence[Callback]
    encodings: Encodings
    store: PrefixStore
    comm: Comm
    progress: bool

    @property
    def metric_names(self) -> Sequence[Any]:
        """What is computed whenever the validation rows are looked at."""
        return metric_names(self.arguments, self.task, self.callbacks)


@final
@dataclass(frozen=True)
class Parts:
    """What one run goes through.

    Attributes:
        fitted: the model, and what is needed to use it.
        train: rows to learn from.
        valid: rows to observe, if there are any.
        plan: which rows make up which step.
        forward: calls the model.
        micro_batches: cuts the rows of a step.
        training: where the run stands.
        reporters: tell how far it is; one, or none.
    """

    fitted: Fitted
    train: Encoded
    valid: Encoded | None
    plan: BatchPlan
    forward: Forward
    micro_batches: MicroBatches
    training: Training
    reporters: Sequence[Progress]


@final
class Fitting:
    """A run that is ready to begin.

    Args:
        call: what it is asked for, as settled.
        run: what it leaves on disk.
        parts: what it goes through.
        loop: its steps.
    """

    def __init__(self, call: Call, run: Run, parts: Parts, loop: Loop) -> None:
        self.fitted = parts.fitted
        self._call = call
        self._run = run
        self._parts = parts
        self._loop = loop

    def go(self) -> None:
        """Go through the steps, and leave the tuned model in place; after an error, as far as it came."""
        fitted, training = self.fitted, self._parts.training
        try:
            with self._run.threads():
                fitted.learn_frozen(self._parts.train, self._parts.valid)
            self._steps()
        finally:
            fitted.model.eval()
            fitted.metrics = fitted.history.metrics_at(training.weights_of) or fitted.metrics
            for reporter in self._parts.reporters:
                reporter.close()
        fitted.settle(self._call.valid, self._call.metric_names)

    def _steps(self) -> None:
        parts, arguments, model = self._parts, self._call.arguments, self.fitted.model
        smaller_table = compact_vocabulary(
            model,
            used=lambda: tokens_in_use(self._call.task, self.fitted.encoder, parts.train, parts.valid),
            decays=lambda: decay_factors(parts.training, arguments.weight_decay),
        )
        with seeded(arguments.seed), parts.forward.prepared(), smaller_table:
            rate = self.fitted.settings["learning_rate"]
            optimizer = make_optimizer(model, learning_rate=rate, weight_decay=arguments.weight_decay)
            with self._run.running(optimizer):
                self._loop.run(parts.training, optimizer)


def prepare(call: Call, run: Run) -> Fitting:
    """Everything up to the first step.

    Raises:
        DataError: rows that cannot be learned from.
        OptionError: options that do not go with the data or the model.
        ArtifactError: the model or its tokenizer cannot be opened.
        CheckpointError: the folder of the run holds another one.
    """
    arguments = run.settle(call.arguments, call.source.name, call.train, call.valid, call.callbacks)
    call = replace(call, arguments=arguments)
    parts = _parts(call, run.lines)
    members = [*watchers(arguments), *call.callbacks]
    savers = run.begin(parts.training, parts.fitted, parts.train, parts.micro_batches, members)
    # Whoever saves comes last, when all others have seen the step.
    callbacks = Callbacks([*members, *parts.reporters, *call.comm.watchers(), *savers])
    return Fitting(call, run, parts, _loop(call, parts, callbacks))


def _parts(call: Call, lines: Sequence[str]) -> Parts:
    """Open the model, tokenise the rows, and see how the one is to read the other."""
    arguments = call.arguments
    fitted = assemble(arguments, call.source, call.task)
    fitted.encodings = call.encodings
    whole = fitted.encode(call.train)
    valid = None if call.valid is None else fitted.encode(call.valid)
    fitted.samples = rows_of(call.task, call.train[:3])
    check_supervision(call.task, whole, call.train)
    train = with_supervision(call.task, whole)
    settle_checkpointing(arguments, fitted, train)
    plan = plan_batches(arguments, len(train))
    forward = _forward(call, fitted, train)
    opening = [*opening_lines(fitted, call.train, whole, plan.steps, call.valid), *lines] if call.progress else []
    return Parts(
        fitted=fitted,
        train=train,
        valid=valid,
        plan=plan,
        forward=forward,
        micro_batches=fitted.micro_batches(train, training_budget(arguments, fitted)),
        training=Training(fitted.model, fitted.history, plan.steps, plan.steps_per_epoch),
        reporters=[Progress(opening)] if call.progress else [],
    )


def _forward(call: Call, fitted: Fitted, train: Encoded) -> Forward:
    forward = usable_forward(fitted, train, own_module=isinstance(call.arguments.model, nn.Module))
    return forward if call.arguments.freeze is None else fitted.hold_frozen(train, call.store)


def _loop(call: Call, parts: Parts, callbacks: Callbacks) -> Loop:
    arguments, fitted = call.arguments, parts.fitted
    return Loop(
        forward=parts.forward,
        task=call.task,
        plan=parts.plan,
        micro_batches=parts.micro_batches,
        learning_rate=fitted.settings["learning_rate"],
        schedule=SCHEDULES[arguments.schedule](parts.plan.steps, arguments.warmup),
        max_grad_norm=math.inf if arguments.max_grad_norm is None else arguments.max_grad_norm,
        evaluate=fitted.evaluator(parts.forward, call.valid, parts.valid, call.metric_names),
        on_nonfinite=_on_nonfinite(arguments, parts),
        callbacks=callbacks,
        comm=call.comm,
    )


def _on_nonfinite(arguments: Arguments, parts: Parts) -> NonFinitePolicy:
    if arguments.on_nonfinite == "skip":
        return SkipNonFinite()
    return RaiseNonFinite(parts.fitted.suspects(parts.forward, parts.train), parts.train.owners)
