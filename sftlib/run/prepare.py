"""From a call of `FineTuner.fit` to a tuned model: the parts are made ready, then wired into the loop, then it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.data.look.voices import shared_speakers
from sftlib.encoders.encoded import Encoded
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.layouts.layout import Layout
from sftlib.models.randomness import find_randomness, refuse
from sftlib.models.seeds import seeded
from sftlib.models.sources import ModelSource
from sftlib.models.units import make_plain
from sftlib.run.assemble import assemble, opening_lines, steps_of, training_budget, with_checkpointing
from sftlib.run.centred import centre
from sftlib.run.choose import metric_names, watchers
from sftlib.run.encodings import Encodings
from sftlib.run.fitted import Fitted
from sftlib.run.lone_head import begin_in_the_middle, with_lone_head
from sftlib.run.minutes import Deadline, Planned
from sftlib.run.on_disk import Run
from sftlib.run.settle import holding_frozen
from sftlib.run.sharding import ANEW, held_by, with_parts
from sftlib.run.supervision import check_supervision, with_supervision
from sftlib.run.supply import AtHand, Supply
from sftlib.run.usable import usable
from sftlib.tasks.base import Task
from sftlib.tasks.plan import Plan
from sftlib.train.backward import Separate
from sftlib.train.callbacks import Callback, Callbacks
from sftlib.train.comm import Comm
from sftlib.train.coupled import Coupled
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward
from sftlib.train.held import Whole
from sftlib.train.loop import Loop, NonFinitePolicy
from sftlib.train.nonfinite import RaiseNonFinite, SkipNonFinite
from sftlib.train.optimizer import decay_factors, make_optimizer
from sftlib.train.progress import Progress, Unshown
from sftlib.train.schedules import SCHEDULES, Schedule
from sftlib.train.state import Training

Rows = NDArray[np.int64]


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
        encodings: columns made so far.
        store: where outputs of frozen layers are kept.
        comm: the processes that share the work.
        progress: whether this process tells how far it is.
        deadline: lays the steps over a budget of time, where one was given.
        supply: of training rows beyond those at hand.
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
    deadline: Deadline | None = None
    supply: Supply = field(default_factory=AtHand)

    @property
    def metric_names(self) -> Sequence[Any]:
        """What is computed whenever the validation rows are looked at."""
        return metric_names(self.arguments, self.task, self.callbacks)


@final
class Fitting:
    """A run that is ready to begin.

    Args:
        call: what it is asked for, as settled.
        run: what it leaves on disk.
        fitted: the model, and what is needed to use it.
        train: rows to learn from.
        valid: rows to observe, if there are any.
        training: where the run stands.
        loop: its steps.
        layout: how rows lie in the model when the steps are done.
        reporters: tell how far it is; one, or none.

    Attributes:
        fitted: the model, while the run lasts and as it left it.
    """

    def __init__(
        self,
        call: Call,
        run: Run,
        *,
        fitted: Fitted,
        train: Encoded,
        valid: Encoded | None,
        training: Training,
        loop: Loop,
        layout: Layout | None,
        reporters: Sequence[Progress | Unshown],
    ) -> None:
        self.fitted = fitted
        self._call = call
        self._run = run
        self._train = train
        self._valid = valid
        self._training = training
        self._loop = loop
        self._layout = layout
        self._reporters = reporters

    def go(self) -> None:
        """Go through the steps, and leave the tuned model in place; after an error, as far as it came."""
        fitted, training = self.fitted, self._training
        try:
            with self._run.threads():
                fitted.learn_frozen(None if fitted.encoder.draws else self._train, self._valid)
                if not self._training.step:
                    centre(fitted, self._train)
                    begin_in_the_middle(fitted, self._train)
            self._steps()
        finally:
            fitted.model.eval()
            make_plain(fitted.model)
            last = fitted.history.metrics_at(None)
            self.fitted = replace(
                fitted,
                held=Whole(),
                layout=self._layout,
                metrics=fitted.history.metrics_at(training.weights_of) or last,
                decided={**fitted.decided, **self._call.supply.found()},
            )
            for reporter in self._reporters:
                reporter.close()
        self.fitted = self.fitted.with_choices_of(self._call.valid, self._call.metric_names)

    def _steps(self) -> None:
        arguments, fitted, training = self._call.arguments, self.fitted, self._training
        known = self._call.supply.lasting and not fitted.task.shows_more
        seen = [part for part in (self._train, self._valid) if part is not None] if known else None
        narrowed = fitted.encoder.narrowed(
            fitted.model, seen, decays=lambda: decay_factors(training, arguments.weight_decay, fitted.share_of_inputs)
        )
        held, forward = fitted.held, self._loop.forward
        with seeded(arguments.seed), forward.prepared(), narrowed, held.installed(fitted.model):
            self._optimized()

    def _optimized(self) -> None:
        """The steps, with an optimizer that is gone before weights are whole again: then its memory is wanted."""
        arguments, fitted = self._call.arguments, self.fitted
        optimizer = make_optimizer(
            fitted.model,
            learning_rate=fitted.settings["learning_rate"],
            weight_decay=arguments.weight_decay,
            peaks=fitted.peaks,
            parameters=fitted.held.trained(fitted.model),
        )
        with self._run.running(optimizer):
            self._loop.run(self._training, optimizer)


def prepare(call: Call, run: Run) -> Fitting:
    """Everything up to the first step, in the one order in which each part knows what it needs.

    Raises:
        DataError: rows that cannot be learned from.
        OptionError: options that do not go with the data or the model.
        ArtifactError: the model or its encoder cannot be opened.
        CheckpointError: the folder of the run holds another one.
    """
    # What is asked for, and what a run on disk was resolved to when it began.
    arguments = run.settle(call.arguments, call.source.name, call.train, call.valid, call.callbacks)
    call = replace(call, arguments=arguments)

    # The model, what it draws by itself, and the rows as it reads them.
    held = held_by(arguments, call.task, call.comm)
    fitted = replace(assemble(arguments, call.source, call.task), encodings=call.encodings, held=held)
    drawn = find_randomness(fitted.model)
    refuse(drawn)
    whole = fitted.encode(call.train)
    valid = None if call.valid is None else fitted.encode(call.valid)
    check_supervision(call.task, whole, call.train)
    train = with_supervision(call.task, whole)

    # How rows go through the model; what fits into a pass depends on that.
    fitted = replace(with_checkpointing(arguments, fitted, train), samples=call.task.samples(call.train))
    tried = call.source.tried
    fitted = usable(fitted, train, own_module=isinstance(arguments.model, nn.Module), tried=tried)
    whole_layout = fitted.layout
    fitted = with_parts(fitted, train, valid, call.metric_names)
    fitted, frozen = (fitted, "") if arguments.freeze is None else holding_frozen(fitted, train, call.store, tried)
    fitted, frozen = (replace(fitted, recall=None), ANEW) if frozen and held.parted else (fitted, frozen)
    fitted, frozen = call.supply.held(fitted, frozen)
    plan = call.supply.plan(arguments, fitted, train)
    fitted = with_lone_head(fitted, arguments, train, steps_of(arguments, plan))
    forward = fitted.recalling()
    feed = fitted.feed(train, training_budget(arguments, fitted), plan=plan, knows=fitted.knowing(forward))

    # The loop, and whoever watches it; whoever saves comes last, when all others have seen the step.
    training = Training(fitted.model, fitted.history, steps_of(arguments, plan), plan.steps_per_epoch, held=held)
    opening = opening_lines(fitted, call.train, whole, training.steps, call.valid) if call.progress else []
    unsettled = [call.task.unsettled] if call.valid is None and call.task.unsettled else []
    told = [*fitted.told, *unsettled, *(found.sentence for found in drawn), *([frozen] if frozen else [])]
    notes = [*told, *call.supply.lines, *run.lines]
    shown: list[Progress | Unshown] = (
        [Progress([*opening, *notes])] if call.progress else [Unshown([*fitted.lost, *unsettled, *_heard_twice(call)])]
    )
    reporters = shown if call.comm.rank == 0 else []
    deadline = [] if call.deadline is None else [call.deadline]
    members = [*watchers(arguments), *call.callbacks, *deadline, *call.supply.watchers()]
    savers = run.begin(training, fitted, feed, members)
    callbacks = Callbacks([*members, *reporters, *call.comm.watchers(run.saves), *savers])
    loop = _loop(call, fitted, forward, feed, plan, valid, callbacks)
    return Fitting(
        call,
        run,
        fitted=fitted,
        train=train,
        valid=valid,
        training=training,
        loop=loop,
        layout=whole_layout if held.parted else fitted.layout,
        reporters=reporters,
    )


def _heard_twice(call: Call) -> list[str]:
    """That the validation rows flatter, where they are spoken by who is learned from."""
    said = "" if call.valid is None else shared_speakers(call.train, call.valid)
    return [said] if said else []


def _loop(
    call: Call, fitted: Fitted, forward: Forward, feed: Feed, plan: Plan, valid: Encoded | None, callbacks: Callback
) -> Loop:
    arguments = call.arguments
    schedule: Schedule = SCHEDULES[arguments.schedule](steps_of(arguments, plan), arguments.warmup)
    if call.deadline is not None:
        schedule = call.deadline.schedule = Planned(schedule)
    return Loop(
        forward=forward,
        backward=Coupled(forward, call.task, feed, call.comm)
        if call.task.couples_rows
        else fitted.held.backward(Separate(forward, call.task, feed)),
        plan=plan,
        feed=feed,
        learning_rate=fitted.settings["learning_rate"],
        schedule=schedule,
        max_grad_norm=math.inf if arguments.max_grad_norm is None else arguments.max_grad_norm,
        evaluate=fitted.evaluator(forward, call.valid, valid, call.metric_names),
        on_nonfinite=_on_nonfinite(arguments, fitted, forward, feed, plan),
        callbacks=callbacks,
        comm=call.comm,
    )


def _on_nonfinite(arguments: Arguments, fitted: Fitted, forward: Forward, feed: Feed, plan: Plan) -> NonFinitePolicy:
    if arguments.on_nonfinite == "skip":
        return SkipNonFinite()

    def find(step: int, rows: Rows) -> tuple[Rows, Rows]:
        """The rows of the data that are to blame, and all those of the step."""
        columns = feed.columns(step)
        return fitted.suspects(forward, columns)(rows), np.unique(columns.owners[rows])

    return RaiseNonFinite(find, plan.named)
