"""`FineTuner`: wires the parts together. No arithmetic happens here; see `sftlib.train.loop` for that."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast, final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sftlib.arguments import HINTS, Arguments, own_options, with_deep
from sftlib.data.dataset import TaskDataset
from sftlib.data.several import MULTI_TASK, MultiTask
from sftlib.data.stream import TaskStream
from sftlib.encoders.base import Inputs
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.report import TrainingReport
from sftlib.encoders.sequence.views import Views
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics
from sftlib.metrics.several import TaskMetrics
from sftlib.models.adapters import LoRA
from sftlib.models.device import resolve_device
from sftlib.models.frozen.freezing import Freeze
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.language.generation import Generation
from sftlib.models.pretrained import Pretrained
from sftlib.models.sources import ModelSource, held, open_source
from sftlib.preflight.plan import Plan, plan
from sftlib.preflight.self_check import CheckReport, self_check
from sftlib.run.adapt import adapted, stages_of
from sftlib.run.assemble import (
    assemble,
    training_report,
)
from sftlib.run.choose import (
    check_data,
    choose_task,
    metric_names,
    require_labelled,
)
from sftlib.run.encodings import Encodings
from sftlib.run.features import text_features
from sftlib.run.find_rate import FIND
from sftlib.run.fitted import Fitted
from sftlib.run.inputs import rows_of
from sftlib.run.judged import Judged, judged
from sftlib.run.minutes import Deadline
from sftlib.run.open_run import Disk
from sftlib.run.prepare import Call
from sftlib.run.pseudo import Pseudo
from sftlib.run.several import TaskName, body_copy, choose_tasks, part_of, task_asked, together_again
from sftlib.run.supply import supplied
from sftlib.run.tuning import tuned
from sftlib.run.untuned import as_it_came, task_of
from sftlib.run.usable import answering
from sftlib.run.views import shown_as
from sftlib.saved import artifact
from sftlib.saved.round_trip import opened, plain_model, save
from sftlib.saved.several import is_of_several, read_together, save_parts
from sftlib.support.checking import above_zero, checked, raise_together, true_or_false, whole_number
from sftlib.support.elsewhere import FIT, PREDICT
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, Task
from sftlib.tasks.labels import ClassWeights
from sftlib.tasks.several import Several
from sftlib.train.callbacks import Callback, EarlyStopping, check_callbacks
from sftlib.train.comm import open_comm, together
from sftlib.train.history import History

if TYPE_CHECKING:
    from sftlib.audits import Audit
    from sftlib.sure import Calibration, Conformal, Decision, LabelThresholds

_SHOWN_WHOLE = (
    str,
    int,
    float,
    Mapping,
    list,
    tuple,
    EarlyStopping,
    LoRA,
    Task,
    Inputs,
)  # in `repr`; other objects by their type


@final
class FineTuner:
    """Supervised fine-tuning of a pretrained model.

    Args:
        model: a model's name on the hub, a local folder, a `Pretrained` (a GGUF file, weights in fewer bits), a
            transformers model, or any ``torch.nn.Module``. An object is copied and never changed.
        task: the task with its options, such as ``QuestionAnswering(stride=64)``, or its name; taken from the training
            data when None.
        inputs: how inputs are read, such as ``Text(max_length=256)``; as the task usually reads them when None.
        tokenizer: short for ``Text(tokenizer=...)``: a transformers tokenizer, or the folder or name of one.
        epochs: passes over the training data.
        max_steps: optimizer steps; takes the place of ``epochs`` when given.
        learning_rate: peak of the schedule; None for 5e-5 (of bodies narrower than 768 up to 2e-4), with an adapter
            1e-4 to 1e-3 by the width of the model, where only a head is trained 1e-3, or of one layer 1e-2 and more in
            few steps: 0.75 divided by them, up to 5e-2 (it then learns from features that are centred and of one
            size, and is a plain layer in the end); ``"find"`` for a race of five rates around it in short runs, which
            takes half as long as the run again.
        head_learning_rate: the same for everything outside the body: a head that begins at nothing may learn faster
            than a body that knows much. None for that of the body; where ``learning_rate`` is None too, a new head
            learns at 1e-2 (one layer) or 1e-3, as on a body that is frozen.
        layer_decay: factor of the rate from each layer of the body to the one below it, 0.65 to 0.95 where it is used;
            1 for one rate in all layers (Clark et al., 2020, "ELECTRA").
        batch_size: rows of one optimizer step.
        micro_batch_size: rows of one forward and backward pass; decides how the work is cut up, never the result.
        max_length: short for ``Text(max_length=...)``: tokens of a row, control tokens included.
        weight_decay: of AdamW, on matrices and embeddings.
        schedule: ``"linear"``, ``"cosine"`` or ``"constant"``, after the warm-up.
        warmup: a share of the steps (float) or a number of steps (int).
        max_grad_norm: gradients are scaled down to this norm; None to leave them.
        class_weights: short for the field of that name of tasks with labels: ``"balanced"``, or label -> weight (of
            several labels that of a yes beside a no).
        label_smoothing: short for the field of that name: share of the target spread over all labels or tokens.
        dropout: replaces every dropout rate of the model; the model's own when None.
        freeze: what is not trained: ``"backbone"`` (everything but the head), a number of lowest layers (and the
            embeddings), or a list of patterns for names of parameters or modules, such as ``"*.embeddings"``.
        adapter: ``"lora"``, a `LoRA`, or a config of `peft`: a few new weights are trained in place of the model's own,
            and the head; None to train the model itself. Frozen layers get none.
        few_shot: True for the recipe for few labels (8 to 64 a label): a head fitted on what the model makes of the
            rows, the model taught by all pairs of them, the head anew; kept only where half of the rows say that it
            helps on the other half. ``"contrast"`` does without that look. Steps and batches follow from the rows.
            ``"head-first"``: a plain run that begins with a head fitted on the body as it came.
        padding_free: True to lay rows end to end inside a model that can take it, False never, ``"auto"`` where it
            pays.
        checkpointing: True to compute layers twice instead of keeping what they computed, False never, ``"auto"`` where
            the longest row would not fit into memory; the result is the same.
        shard: True to have each of several processes hold a part of the weights, their gradients and the optimizer's
            state, for models that do not fit into one (`fully_shard` of torch, FSDP2); the result is the same.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``; weights and optimizer stay in fp32.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``, ...
        metrics: names or functions for `evaluate` and validation; the task's usual ones when None.
        early_stopping: an `EarlyStopping`; the best weights come back.
        keep_best: name of the metric whose best weights come back when the run ends.
        on_nonfinite: ``"error"`` or ``"skip"`` for a step whose loss or gradient is not finite.
        seed: of the new head, the order of rows, and dropout.
        cache_dir: a folder that keeps tokenised data sets for other processes, readable by the user alone; None to keep
            those of the last few data sets in memory.

    Raises:
        OptionError: options that do not exist or values they cannot have, all at once.
        ArtifactError: a model folder that does not exist.

    Example:
        >>> tuner = FineTuner("bert-base-uncased", epochs=3, learning_rate=2e-5)
        >>> tuner
        FineTuner('bert-base-uncased', learning_rate=2e-05)
    """

    @partial(checked, moved=HINTS)
    def __init__(
        self,
        model: str | os.PathLike[str] | Pretrained | nn.Module,
        *,
        task: Task | str | None = None,
        inputs: Inputs | None = None,
        tokenizer: Any = None,
        epochs: int = 3,
        max_steps: int | None = None,
        learning_rate: float | str | None = None,
        head_learning_rate: float | None = None,
        layer_decay: float = 1.0,
        batch_size: int = 32,
        micro_batch_size: int | str = "auto",
        max_length: int | None = None,
        weight_decay: float = 0.01,
        schedule: str = "linear",
        warmup: float | int = 0.1,
        max_grad_norm: float | None = 1.0,
        class_weights: ClassWeights = None,
        label_smoothing: float = 0.0,
        dropout: float | None = None,
        freeze: Freeze = None,
        adapter: Any = None,
        few_shot: bool | str | None = None,
        padding_free: bool | str = "auto",
        checkpointing: bool | str = "auto",
        shard: bool = False,
        precision: str = "auto",
        device: str | torch.device = "auto",
        metrics: Sequence[Any] | None = None,
        early_stopping: EarlyStopping | None = None,
        keep_best: str | None = None,
        on_nonfinite: str = "error",
        seed: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._fitted: Fitted | None = None
        self._untuned: Fitted | None = None  # a model with the head that it came with, used before any fit

        self._parts: dict[str, FineTuner] = {}  # of several tasks, those that were asked for
        self._learned_rows: Any = None  # of the last `fit`: not to be decided on
        self._named_tests: set[str] = set()
        self._source: ModelSource
        self._store = PrefixStore()
        self._encodings = Encodings()
        given = {name: value for name, value in locals().items() if name != "self"}
        self._set(given)

    # Options, as scikit-learn's searches expect them.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Option -> value as given; ``deep`` adds the options of a task and of inputs, as ``task__stride``."""
        return {**self._options, **(self._deep() if deep else {})}

    def set_params(self, **options: Any) -> Self:
        """Change options, also those of a task or of inputs by themselves (``task__stride=64``).

        A fitted model is kept until the next ``fit``.

        Raises:
            OptionError: an unknown option, or a value it cannot have.
        """
        changed = with_deep(self._options, options)
        fitted, source = self._fitted, self._source
        self._set(changed)
        self._fitted = fitted
        if "model" not in options:
            self._source = source  # which `adapt` may have moved
        return self

    def clone(self) -> FineTuner:
        """An unfitted tuner with the same options; tokens and outputs of frozen layers made so far serve it too."""
        twin = FineTuner(**self._options)
        twin._source = self._source
        twin._store = self._store
        twin._encodings = self._encodings
        return twin

    def holding(self) -> FineTuner:
        """A clone that keeps the weights it begins with in memory: for many fits after one another."""
        twin = self.clone()
        twin._source = held(self._source)
        return twin

    # Training.

    @partial(checked, moved=FIT)
    @together
    def fit(
        self,
        train: TaskDataset | MultiTask | TaskStream,
        valid: TaskDataset | MultiTask | None = None,
        *,
        unlabelled: Any = None,
        minutes: float | None = None,
        baseline: bool = False,
        callbacks: Sequence[Callback] = (),
        output_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
        save_every: int | None = None,
        progress: bool = True,
    ) -> Self:
        """Tune a fresh copy of the model; each call starts again from the original weights, unless it resumes.

        Args:
            train: labelled rows; of several tasks that are to share a body, a `MultiTask`; or a `TaskStream`.
            valid: labelled rows that are evaluated after each epoch and otherwise only observed; of the same kind.
            unlabelled: rows without labels, of the same kind: a list of texts, or a `TaskDataset` whose labels are not
                looked at. They get labels in at most two rounds, of which each is kept only if it is not worse; see
                `pseudo`.
            minutes: a budget of time for the whole call: the schedule is laid over as many steps as fit, planned after
                the first five and corrected at each quarter; at most ``epochs``. Plans are records in the history.
            baseline: whether to judge, beside the tuned model, the body as it came under a head alone (of one label a
                row a logistic regression), on ``valid``: a line, a warning where tuning made it worse, and `decided`.
                It takes a pass over the rows; of other tasks a run of the head as well.
            callbacks: see `sftlib.Callback`.
            output_dir: folder of the run's checkpoints; None to write nothing. With it, SIGTERM and SIGINT end the run
                after its current step, saved.
            resume: go on from the newest complete checkpoint, to the bit; from step 0 where there is none.
            save_every: optimizer steps between two checkpoints; None for one after each epoch.
            progress: a start-up line, a bar, and a line per epoch; False prints nothing at all.

        Returns:
            The tuner itself.

        Raises:
            DataError: rows that cannot be used, all of them at once, before the first step.
            OptionError: options that do not go with the data or the model.
            ArtifactError: a model or a tokenizer that cannot be opened.
            LabelError: labels that cannot be learned or were never seen in training.
            NonFiniteError: a loss or a gradient that is not finite; the weights are those of the step before.
            ProcessError: another process of a run that ``torchrun`` started failed or is gone.
            CheckpointError: ``output_dir`` cannot be written, is in use by a living run, is not empty without
                ``resume``, or holds another run: other options or data than now, each named.
        """
        callbacks = check_callbacks(callbacks)
        started = time.monotonic()
        problems = self._problems_of_fit(valid, minutes, unlabelled, baseline)
        raise_together([true_or_false("progress", progress), *problems])
        train, supply = supplied(
            train, self._arguments, {"minutes=": minutes, "unlabelled=": unlabelled, "baseline=": baseline}
        )
        task, comm, several = self._chosen(train, valid, callbacks), open_comm(), isinstance(train, MultiTask)
        if minutes is not None:
            comm.require_alone("fit(minutes=...)")  # clocks of several processes differ, and with them the steps
        call = Call(
            arguments=self._arguments if several else self._arguments.of(task),
            source=self._source,
            task=task,
            train=cast("TaskDataset", train),  # a run asks of several what it asks of one
            valid=cast("TaskDataset | None", valid),
            callbacks=callbacks,
            encodings=self._encodings,
            # What a run on disk computes must not depend, to the last bit, on what this process computed before.
            store=self._store if output_dir is None else PrefixStore(),
            comm=comm,
            progress=progress and comm.rank == 0,
            supply=supply,
            deadline=None
            if minutes is None
            else Deadline(minutes, started=started, rows=len(valid or ()), batch_size=self._arguments.batch_size),
        )

        def shown(fitted: Fitted) -> None:
            self._fitted, self._learned_rows = fitted, train  # which callbacks use meanwhile
            self._parts = {}

        disk = Disk(output_dir, resume, save_every)
        shown(tuned(call, disk, unlabelled=unlabelled, compared=baseline, shown=shown))
        return self

    @checked
    def adapt(
        self,
        texts: Any,
        *,
        epochs: int | None = None,
        max_steps: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        mask_probability: float | None = None,
        progress: bool = True,
    ) -> Self:
        """Let the model go on learning the language of unlabelled texts, as it was pretrained; then `fit` as usual.

        It moves the origin: every later ``fit`` starts from what this made of the body, and another ``adapt`` goes on
        from there. Encoders fill gaps (``masked-lm``), decoders continue texts (``causal-lm``). Everything is trained,
        whatever ``freeze`` and ``adapter`` say of `fit`; but a head that the model does not bring first learns alone,
        as many steps. A new ``model`` in `set_params` forgets it.

        Args:
            texts: a list of strings, or a `TaskDataset` whose texts are taken and whose labels are not looked at.
            epochs: passes over the texts; as many as of `fit` when None, and likewise the others.
            max_steps: optimizer steps, in place of ``epochs``.
            learning_rate: peak of the schedule.
            batch_size: texts of one optimizer step.
            mask_probability: share of the tokens that become gaps.
            progress: as in `fit`.

        Returns:
            The tuner itself.

        Raises:
            DataError: there are no texts.
            OptionError: values that options cannot have, or a model that cannot learn from plain texts.
        """
        raise_together([true_or_false("progress", progress)])
        options = {"epochs": epochs, "max_steps": max_steps, "batch_size": batch_size}
        twin = self.clone()
        for stage in stages_of(self._source, learning_rate):
            asked = {**options, **stage}
            twin._source = adapted(
                twin, twin._source, texts, asked, mask_probability=mask_probability, progress=progress
            )
        self._source, self._untuned = twin._source, None
        return self

    @checked
    def report(
        self, train: TaskDataset | MultiTask | TaskStream, valid: TaskDataset | MultiTask | None = None
    ) -> TrainingReport:
        """What can be known about data before training: what its own ``report()`` finds, tokens, truncation, padding.

        Before ``fit`` the model is opened for it, since the length limit is the model's.

        Args:
            train: labelled rows; of a `TaskStream` those of its first block are looked at.
            valid: labelled rows that should be independent of them.

        Raises:
            DataError: rows that ``fit`` would refuse.
            OptionError: options that do not go with the data or the model.
            ArtifactError: a model or a tokenizer that cannot be opened.
        """
        train, _ = supplied(train, self._arguments)  # of a stream its first block
        fitted = self._fitted_for(self._chosen(train, valid))
        rows, others = cast("TaskDataset", train), cast("TaskDataset | None", valid)
        return training_report(self._arguments, fitted, rows, others, fitted.encode(rows))

    # Use.

    @overload
    def evaluate(self, data: TaskDataset, *, task: str | None = None, batch_size: int | None = None) -> Metrics: ...
    @overload
    def evaluate(self, data: MultiTask, *, task: None = None, batch_size: int | None = None) -> TaskMetrics: ...
    @checked
    @together
    def evaluate(self, data: TaskDataset | MultiTask, *, task: str | None = None, batch_size: int | None = None) -> Any:
        """Metrics over labelled rows; no batch size changes them.

        Before ``fit`` a model that was tuned elsewhere is judged as it came, if its head names its labels.

        Args:
            data: labelled rows.
            task: of a model of several, whose rows these are.
            batch_size: rows of one pass.

        Returns:
            `Metrics`; of a `MultiTask` the name of each task -> its `Metrics`, those of tasks without rows nan.

        Raises:
            NotFittedError: before ``fit`` or ``load``, of a model without such a head.
            DataError: unlabelled or empty data, or another task's.
            LabelError: labels that the model does not know.
        """
        raise_together([None if batch_size is None else whole_number("batch_size", batch_size, at_least=1)])
        if isinstance(data, MultiTask):
            return self._evaluate_several(data, batch_size)
        if self._is_of_several or task is not None:
            return self._part_for("evaluate", task).evaluate(data, batch_size=batch_size)
        fitted = self._usable("evaluate", data)
        require_labelled(data, "evaluate", fitted.task.name)
        check_data(fitted.task, data, "evaluate")
        encoded = fitted.encode(data)
        names = metric_names(self._arguments, fitted.task)
        return self._settled(fitted, encoded).evaluate(data, encoded, names, batch_size)

    @checked
    @together
    def judge(self, data: TaskDataset, *, batch_size: int | None = None) -> Judged:
        """As `evaluate`, and what was predicted for each row, in one pass.

        Returns:
            ``metrics``; ``predictions``, one a row in order, as evaluation decodes them: a task that generates does so
            only where a metric needs it; ``loss_sum`` and its ``count``.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            DataError: unlabelled or empty data, or another task's.
            LabelError: labels that the model does not know.
        """
        raise_together([None if batch_size is None else whole_number("batch_size", batch_size, at_least=1)])
        fitted = self._ready("judge")
        require_labelled(data, "judge", fitted.task.name)
        check_data(fitted.task, data, "judge")
        encoded = fitted.encode(data)
        return judged(
            self._settled(fitted, encoded), data, encoded, metric_names(self._arguments, fitted.task), batch_size
        )

    @checked
    def features(self, data: TaskDataset) -> NDArray[np.float32]:
        """What the pretrained body makes of texts, as it is: the mean over each text's tokens, at length 1.

        Of pairs both vectors stand side by side, with how far they are apart and their product at every place. `fit`
        changes nothing here, `adapt` does.

        Args:
            data: rows with texts, labelled or not.

        Returns:
            (N, H) a vector a row.

        Raises:
            DataError: something else than a data set.
            OptionError: rows that are no texts.
            ArtifactError: the model cannot be opened.
        """
        return text_features(self._arguments, self._source, data, self._encodings)

    @partial(checked, moved=PREDICT)
    @together
    def predict(
        self,
        inputs: Any,
        *,
        task: str | None = None,
        batch_size: int | None = None,
        generation: Generation | None = None,
        abstain_below: float | None = None,
        sets: bool = False,
        views: Views | str | None = None,
    ) -> Any:
        """Predictions in the order of the inputs; no batch size changes them.

        Args:
            inputs: a string, a tuple of two strings (a pair), or a mapping under role names; or a list of these, or a
                `TaskDataset`, labelled or not.
            task: of a model of several, the one that is asked.
            batch_size: rows of one pass.
            generation: how answers are generated; as the tuner was told when None.
            abstain_below: a probability; predictions that are less sure say ``abstained``, and keep their label.
            sets: whether to add what `conform` promised of: ``labels``, or ``low`` and ``high``.
            views: `Views` of a sequence, or the name of an augmentation: the mean over several ways of showing it.

        Returns:
            One prediction for one input, a list for a list.

        Raises:
            NotFittedError: before ``fit`` or ``load``, of a model without a head that says what its outputs are.
            DataError: an input of another shape, with its row.
            OptionError: probabilities or sets of a task that has none, or sets before `conform`.
        """
        raise_together(
            [
                None if batch_size is None else whole_number("batch_size", batch_size, at_least=1),
                views is not None
                and sets is not False
                and "sets=True: what conform() promised was found without views; give one of both",
            ]
        )
        if self._is_of_several or task is not None:
            more: dict[str, Any] = {"generation": generation, "abstain_below": abstain_below, "sets": sets}
            return self._part_for("predict", task).predict(inputs, batch_size=batch_size, **more)
        fitted = self._usable("predict", inputs)
        said: Callable[[list[Any]], list[Any]] = list
        if abstain_below is not None or sets is not False:
            from sftlib.sure.answers import saying_more

            said = saying_more(fitted.task, fitted.settings, abstain_below=abstain_below, sets=sets)
        one = isinstance(inputs, Mapping) or fitted.encoder.is_one(inputs) or fitted.task.is_one(inputs)
        rows = [fitted.task.inputs_of(inputs)] if one else rows_of(fitted.task, inputs)
        if not rows:
            return []
        shown, merged = shown_as(views, fitted, rows)
        data, encoded = fitted.read(shown)
        fitted = self._settled(fitted, encoded)
        writing = generation or getattr(self._arguments.task, "generation", None)  # which may be another by now
        if writing is not None:
            fitted = replace(fitted, task=fitted.task.generating(writing))
        found = said(merged(fitted.predict(data, encoded, batch_size)))
        return found[0] if one else found

    # How sure it is: see `sftlib.sure`.

    @checked
    def calibrate(self, valid: TaskDataset, *, method: str = "temperature") -> Calibration:
        """Make probabilities say how often the model is right: one temperature, folded into its last layer.

        Labels and their order stay; what is saved gives the calibrated scores everywhere. What `conform` found before
        is forgotten, since it was found on other probabilities.

        Args:
            valid: at least 50 labelled rows that the model did not learn from.
            method: ``"temperature"``, one number for all labels (Guo et al., 2017).

        Returns:
            The temperature, and calibration error, Brier score and log loss before and after.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            DataError: too few rows, or rows that the model learned from.
            OptionError: a task without probabilities, or a model without a last linear layer.
        """
        from sftlib.sure.calibration import calibrate

        found, self._fitted = calibrate(self._ready("calibrate"), valid, self._learned_rows, method=method)
        return found

    @checked
    def conform(self, valid: TaskDataset, *, level: float = 0.9, per_label: bool = False) -> Conformal:
        """Find what it takes for ``predict(..., sets=True)`` to hold what is true in a promised share of rows.

        Args:
            valid: labelled rows that the model did not learn from, drawn like those to come.
            level: the promised share.
            per_label: whether it is promised of the rows of each label by itself.

        Returns:
            Threshold, and coverage and size of the sets (or intervals) on these rows.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            DataError: too few rows, or rows that the model learned from.
            OptionError: a task without single labels or numbers.
        """
        from sftlib.sure.conformal import conform

        fitted = self._ready("conform")
        found, self._fitted = conform(fitted, valid, self._learned_rows, level=level, per_label=per_label)
        return found

    @overload
    def decide(
        self, valid: TaskDataset, *, accuracy: float | None = ..., confidence: float | None = ..., metric: None = None
    ) -> Decision: ...

    @overload
    def decide(self, valid: TaskDataset, *, metric: str) -> LabelThresholds: ...

    @checked
    def decide(
        self,
        valid: TaskDataset,
        *,
        accuracy: float | None = None,
        confidence: float | None = None,
        metric: str | None = None,
    ) -> Decision | LabelThresholds:
        """Find from which probability on answers are given: right as often as promised, or with the best metric.

        Of one label a row, `predict` takes the threshold. Of several, a ``metric`` says what the thresholds of all
        labels are chosen for; the tuner answers with them from then on, and saves them.

        Args:
            valid: labelled rows that the model did not learn from, drawn like those to come.
            accuracy: the promised share of right answers among those given; 0.95 when None.
            confidence: with which the promise holds; 0.95 when None.
            metric: ``"f1_macro"``, for tasks with several labels a row; in place of a promise.

        Returns:
            The threshold for ``predict(..., abstain_below=found.threshold)``, and how many rows are answered then; or
            the threshold of each label, and what they are worth on rows that they were not chosen on.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            DataError: too few rows, or rows that the model learned from.
            OptionError: a task without one label a row, or with a metric one without several.
        """
        from sftlib.sure.cutting import choose_thresholds
        from sftlib.sure.deciding import decide

        fitted = self._ready("decide")
        if metric is None:
            promised = [0.95 if given is None else given for given in (accuracy, confidence)]
            return decide(fitted, valid, self._learned_rows, accuracy=promised[0], confidence=promised[1])
        raise_together(
            f"{name}={given!r:.60} and metric= do not go together: thresholds for a metric promise no accuracy"
            for name, given in (("accuracy", accuracy), ("confidence", confidence))
            if given is not None
        )
        found, self._fitted = choose_thresholds(fitted, valid, self._learned_rows, metric=metric)
        return found

    @checked
    def report_card(
        self,
        path: str | os.PathLike[str],
        *,
        test: TaskDataset,
        train: TaskDataset | None = None,
        audit: Audit | None = None,
        explain: int = 8,
    ) -> None:
        """Write what a person who answers for the model must know into one HTML file, which loads nothing else.

        Args:
            path: of the file, ending in ``.html``.
            test: labelled rows that the model has not learned from; `sftlib.audit` knows them as such from then on.
            train: the rows that it learned from, to describe them; those of the last ``fit`` when None.
            audit: what `sftlib.audit` found in the training rows; left out when None.
            explain: how many of the errors are explained, the surest first; 0 for none.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            DataError: unlabelled rows, or rows that the model learned from.
            OptionError: another ending, or a number that cannot be.
        """
        from sftlib.cards.report import write_report

        raise_together([whole_number("explain", explain, at_least=0)])
        self._ready("report_card")
        write_report(self, path, test=test, train=train or self._learned_rows, audit=audit, errors=explain)
        self._named_tests.add(test.fingerprint())

    def is_named_test(self, data: TaskDataset) -> bool:
        """Whether these rows were given to `report_card` for testing."""
        return bool(self._named_tests) and data.fingerprint() in self._named_tests

    @checked
    def preview(self, data: TaskDataset, row: int = 0) -> Any:
        """What the model reads of a row, and what of it is learned.

        Of texts and sequences the tokens; of sounds a waveform and a player; of pictures how they are shown in
        evaluation and in the first epochs of training, with labels, boxes and masks where they came to lie. Before
        ``fit`` the model is opened for it, since tokenizer and length limit are its own.

        Args:
            data: labelled rows.
            row: number of the one to look at.

        Raises:
            DataError: rows that ``fit`` would refuse, or no such row.
        """
        raise_together([whole_number("row", row, at_least=0)])
        require_labelled(data, "preview", self.task)
        if row >= len(data):
            raise DataError(f"preview: there is no row {row}, the data set has {len(data):,}")
        fitted = self._fitted_for(self._chosen(data, None))
        return fitted.task.preview(data, row, fitted.encoder, seed=int(fitted.settings["seed"]))

    @checked
    def plan(self, train: TaskDataset, *, processes: int | None = None, link: str | None = None) -> Plan:
        """What a run will take: rows, tokens, memory and time, measured in a few steps; the tuner is not changed.

        Args:
            train: labelled rows.
            processes: how many are to share a step, for what that would take: computed, not measured.
            link: the slowest between two of them, one way, such as ``"100 Gbit/s"``; given together with ``processes``.

        Returns:
            Seconds a step, peak memory and finish time for training everything, what was asked for, and the head only.

        Raises:
            DataError: rows that cannot be used.
            OptionError: ``processes`` without ``link``, or values that they cannot have.
        """
        open_comm().require_alone("plan")
        require_labelled(train, "plan", self.task)
        return plan(self, train, processes=processes, link=link)

    @checked
    def self_check(self, data: TaskDataset, *, steps: int = 3) -> CheckReport:
        """Prove on this model and data that results do not depend on how the work is cut up.

        A dozen short runs on two dozen rows; the tuner itself is not changed.

        Args:
            data: labelled rows.
            steps: optimizer steps of each run.

        Returns:
            What was varied, what was compared, and whether it holds; prints as a table.

        Raises:
            DataError: rows that cannot be used.
        """
        open_comm().require_alone("self_check")
        require_labelled(data, "self_check")
        return self_check(self, data, steps=steps)

    @together
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained folder of safetensors and JSON, read it back, and compare predictions.

        Of several tasks each becomes a folder of its own, under its name, that needs none of the others.

        Args:
            path: a folder that does not exist, is empty, or holds a model saved by sftlib (which is replaced).

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            ArtifactError: the folder cannot be written, or what was read back differs.
        """
        fitted = self._ready("save").alone()

        def reload(folder: str | os.PathLike[str], model: Any) -> Fitted:
            return FineTuner.load(folder, model=model, device=fitted.device)._ready("save").alone()

        def write(part: FineTuner, folder: str | os.PathLike[str]) -> None:
            save(part._ready("save").alone(), part._arguments, folder, reload=reload)

        if isinstance(fitted.task, Several):
            task, parts = fitted.task, {name: partial(write, self._part(name)) for name in fitted.task.names}
            open_comm().on_first(lambda: save_parts(path, parts, scales=task.scales, mixing=task.mixing))
            return
        open_comm().on_first(lambda: write(self, path))

    @classmethod
    @partial(checked, moved=HINTS)
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | Pretrained | nn.Module | None = None,
        device: str | torch.device = "auto",
    ) -> FineTuner:
        """Open a saved folder; nothing in it is executed, and nothing else is needed but the base of an adapter.

        Args:
            path: the folder.
            model: an instance to fill, for a model that is not of a transformers class. For an adapter the base it was
                trained on: a folder, a name, a `Pretrained`, or a model object, which is copied.
            device: to compute on, as of `FineTuner`.

        Raises:
            ArtifactError: the folder is missing, incomplete or changed, or needs ``model=``, or that is another one.
            OptionError: a device that this machine does not have.
        """
        resolve_device(device)
        if model is None and is_of_several(path):
            return cls._load_several(path, device)
        contents = artifact.load(path, model=model)
        options = artifact.options_of(contents, known=inspect.signature(cls).parameters)
        with artifact.refusing(path):
            given = artifact.origin_of(contents, path, model)
            tuner = cls(**{**options, **given, "adapter": contents.adapter, "device": device})
        tuner._fitted = opened(contents, tuner._arguments, tuner._encodings)
        return tuner

    @classmethod
    def _load_several(cls, path: str | os.PathLike[str], device: str | torch.device) -> FineTuner:
        names, scales, mixing = read_together(path)
        parts = {name: cls.load(os.path.join(path, name), device=device) for name in names}
        first = parts[names[0]]
        tuner = first.clone().set_params(task=None)
        fitted = {name: part._ready("load") for name, part in parts.items()}
        tuner._fitted, tuner._parts = together_again(fitted, scales=scales, mixing=mixing), parts
        return tuner

    def merge(self) -> FineTuner:
        """A tuner with a plain model: the adapter's weights are added to the model's own, and nothing beside is left.

        What it saves is self-contained, and opens without `peft`. This tuner is not changed.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            OptionError: there is no adapter.
        """
        fitted = self._ready("merge")
        if fitted.settings.get("adapter") is None:
            raise OptionError("merge: this FineTuner has no adapter; its model is a plain one already")
        plain = plain_model(fitted, self._arguments)
        given = {"adapter": None, "model": plain, "inputs": None, **fitted.encoder.given}
        tuner = FineTuner(**{**self._options, **given})
        settings = {**fitted.settings, "adapter": None, "gguf_file": None, "quantize": None}
        tuner._fitted = replace(fitted, model=plain, settings=settings, layout=None, recall=None)
        return tuner

    # What is known after fit or load.

    @property
    def model(self) -> nn.Module:
        """The tuned model, on its device."""
        return self._ready("model").model

    @property
    def history(self) -> History:
        """One record per optimizer step and per evaluation."""
        return self._ready("history").history

    @property
    def label_names(self) -> tuple[Label, ...] | None:
        """The label of each output, or None for tasks without labels."""
        return self._ready("label_names").task.label_names

    @property
    def task(self) -> str | None:
        """Name of the task; None as long as neither an option nor data has named one.

        Of several it is ``"multi-task"``, and can be asked for the tuner of one: ``tuner.task("topic")`` is a plain
        tuner, with a model of its own.
        """
        if self._fitted is None:
            return self._arguments.task_name
        return TaskName.asking(MULTI_TASK, self._part) if self._is_of_several else self._fitted.task.name

    def body(self) -> nn.Module:
        """A copy of the tuned body, a model of transformers without a head: ``FineTuner(tuner.body(), tokenizer=...)``.

        Raises:
            NotFittedError: before ``fit`` or ``load``.
            OptionError: the model is no body under a head.
        """
        return body_copy(self._ready("body"))

    @property
    def device(self) -> torch.device:
        """Where the model lies, or will lie."""
        return resolve_device(self._arguments.device) if self._fitted is None else self._fitted.device

    @property
    def precision(self) -> str:
        """Number format of the products: ``"fp32"``, ``"bf16"`` or ``"fp16"``."""
        return self._ready("precision").precision.name

    @property
    def settings(self) -> dict[str, Any]:
        """Every option as it was resolved on this machine."""
        return dict(self._ready("settings").settings)

    @property
    def pseudo(self) -> Pseudo | None:
        """What became of ``fit(unlabelled=...)``: rounds, and every pseudo-label; None without such rows."""
        return self._ready("pseudo").decided.get("pseudo")

    @property
    def decided(self) -> dict[str, Any]:
        """What the last ``fit`` decided on the way, and by which numbers; empty where nothing was left to decide.

        Of ``few_shot=True`` whether the body was ``"tuned"`` or stays ``"frozen"``, and how many of the rows it looked
        at were right before and after; of ``learning_rate="find"`` the loss at each rate; of ``baseline=True`` its
        ``metrics``, what its ``head`` was and how many ``seconds`` it took; of a `TaskStream` what was read of it, left
        out and cut.
        """
        return dict(self._ready("decided").decided)

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(FineTuner).parameters.items()}
        shown = [
            f"{name}={value!r}" if isinstance(value, _SHOWN_WHOLE) else f"{name}=<{type(value).__name__}>"
            for name, value in self._options.items()
            if name != "model" and value is not defaults[name] and value != defaults[name]
        ]
        pretrained, name = self._arguments.pretrained, self._source.name
        return f"FineTuner({', '.join([repr(replace(pretrained, name=name) if pretrained else name), *shown])})"

    @property
    def _is_of_several(self) -> bool:
        return self._fitted is not None and isinstance(self._fitted.task, Several)

    def _part(self, name: str) -> FineTuner:
        """The tuner of one of several tasks; made once.

        Raises:
            OptionError: there is no such task.
        """
        fitted = self._ready("task")
        task_asked(fitted, "task", name)
        if name not in self._parts:
            part = self.clone().set_params(keep_best=None, early_stopping=None)  # which name metrics of several
            part._fitted = part_of(fitted, name)
            part._learned_rows = None if self._learned_rows is None else self._learned_rows[name]
            self._parts[name] = part
        return self._parts[name]

    def _part_for(self, use: str, task: str | None) -> FineTuner:
        """The tuner of the task that is asked; the only one where there is one.

        Raises:
            OptionError: it is not said which, or there is no such task.
        """
        return self._part(task_asked(self._ready(use), use, task))

    def _evaluate_several(self, data: MultiTask, batch_size: int | None) -> TaskMetrics:
        fitted = self._ready("evaluate")
        if not isinstance(fitted.task, Several):
            raise DataError(f"evaluate: the data is of several tasks, and this model has one, {fitted.task.name}")
        check_data(fitted.task, cast("TaskDataset", data), "evaluate")
        names = metric_names(replace(self._arguments, keep_best=None, early_stopping=None), fitted.task)
        return TaskMetrics(
            {
                name: self._part(name).evaluate(data[name], batch_size=batch_size)
                if name in data
                else task.metrics(names or None)
                for name, task in fitted.task.parts.items()
            }
        )

    def _problems_of_fit(self, valid: object, minutes: object, unlabelled: object, baseline: object) -> list[Problem]:
        problems = [
            true_or_false("baseline", baseline),
            baseline is True
            and valid is None
            and "baseline=True looks at the validation data, and there is none: fit(train, valid, baseline=True)",
        ]
        if minutes is None:
            return problems
        given = [name for name in ("max_steps", "few_shot") if getattr(self._arguments, name)]
        if self._arguments.learning_rate == FIND:
            given.append("learning_rate='find'")
        if unlabelled is not None:
            given.append("unlabelled=")
        return [
            *problems,
            above_zero("minutes", minutes, otherwise="None for no limit"),
            bool(given) and f"minutes={minutes!r:.40} and {given[0]}: a run takes one of them, not both",
        ]

    def _deep(self) -> dict[str, Any]:
        """The options of those options that are values themselves."""
        values = {name: value for name, value in self._options.items() if isinstance(value, Task | Inputs)}
        return {f"{name}__{own}": getattr(value, own) for name, value in values.items() for own in own_options(value)}

    def _set(self, options: Mapping[str, Any]) -> None:
        arguments = Arguments(**options)
        arguments.check()
        self._source = open_source(arguments.model)  # may refuse, and then nothing has changed
        self._arguments, self._options = arguments, dict(options)  # as given: searches compare the very objects
        self._fitted = self._untuned = None
        self._parts = {}
        self._encodings = self._encodings.kept_in(arguments.cache_dir)

    def _chosen(self, train: Any, valid: Any, callbacks: Sequence[Callback] = ()) -> Task:
        """The task for this data, as the model learns it."""
        if isinstance(train, MultiTask):
            return choose_tasks(self._arguments, self._source, train, valid)
        task = choose_task(self._arguments, train, valid, callbacks)
        return task.beside(self._source, self._arguments.reading(task))

    def _fitted_for(self, task: Task) -> Fitted:
        """What was fitted for this very task; else what `fit` would begin with."""
        if self._fitted is not None and self._fitted.task == task:
            return self._fitted
        return replace(assemble(self._arguments, self._source, task), encodings=self._encodings)

    def _usable(self, use: str, inputs: object) -> Fitted:
        """What was fitted; before that, a model that comes with a head which says what its outputs are.

        Raises:
            NotFittedError: there is neither.
        """
        if self._fitted is not None:
            return self._fitted
        try:
            task = task_of(self._arguments, self._source, inputs)
            if self._untuned is None or self._untuned.task != task:
                found = as_it_came(self._arguments, self._source, task)
                self._untuned = replace(found, encodings=self._encodings)
        except OptionError as error:
            raise self._not_fitted(use, f", and {error}") from error
        return self._untuned

    def _settled(self, fitted: Fitted, encoded: Encoded) -> Fitted:
        """What is ready for use, its layout tried on these rows if it had none."""
        found = answering(fitted, encoded)
        if fitted is self._fitted:
            self._fitted = found
        else:
            self._untuned = found
        return found

    def _ready(self, use: str) -> Fitted:
        if self._fitted is None:
            raise self._not_fitted(use)
        return self._fitted

    @staticmethod
    def _not_fitted(use: str, why: str = "") -> Exception:
        from sftlib.errors import NotFittedError  # scikit-learn's comes with it: most of a second

        return NotFittedError(
            f"{use}: this FineTuner holds no model yet{why}; call fit(train), or FineTuner.load(path)"
        )
