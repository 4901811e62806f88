"""`Fitted`: a model together with all that is needed to use it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.base import Encoder
from sftlib.encoders.encoded import Encoded
from sftlib.metrics import Metrics
from sftlib.models.layouts.layout import Layout
from sftlib.models.precision import Precision
from sftlib.run.encodings import Encodings
from sftlib.tasks.base import Task
from sftlib.tasks.plan import Plan
from sftlib.train.comm import Alone, Comm
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward
from sftlib.train.held import Held, Whole
from sftlib.train.history import History
from sftlib.train.inference import Inference
from sftlib.train.plan import Budget
from sftlib.train.recall import Recall

_COST_OF_A_PASS = 2**14
_ROWS_OF_A_PASS = 128


@final
@dataclass(frozen=True)
class Fitted:
    """A model ready for use; what is found out later makes a new one (`sftlib.run.settle`).

    Attributes:
        task: with its labels.
        model: with its weights, on its device.
        encoder: reads inputs.
        precision: number format of the products.
        device: where the model lies.
        settings: every option as it was resolved on this machine, as JSON values.
        layout: how rows lie inside the model; None until rows were at hand to try it on.
        history: of the run that made it.
        metrics: of the last evaluation, for the model card.
        drawn: names of the weights that its source did not hold.
        told: what is to be said of the model before the first step.
        lost: of that, what says that something trained is not used.
        samples: a few inputs of its kind, to compare predictions after saving.
        encodings: columns made so far.
        recall: computes what is frozen once for each row; None where nothing is, or where that cannot be done.
        comm: the processes that share the work.
        held: how they hold the weights while the run lasts.
        decided: what a recipe decided on the way, and by which numbers; it is told, and not saved.
        peaks: name of a parameter -> the peak of its learning rate, of those that have not the run's.
    """

    task: Task
    model: nn.Module
    encoder: Encoder
    precision: Precision
    device: torch.device
    settings: Mapping[str, Any]
    layout: Layout | None = None
    history: History = field(default_factory=History)
    metrics: Mapping[str, float] = field(default_factory=dict)
    drawn: frozenset[str] = frozenset()
    told: Sequence[str] = ()
    lost: Sequence[str] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    encodings: Encodings = field(default_factory=Encodings)
    recall: Recall | None = None
    comm: Comm = field(default_factory=Alone)
    held: Held = field(default_factory=Whole)
    decided: Mapping[str, Any] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)

    def alone(self) -> Fitted:
        """The same for this process by itself."""
        return replace(self, comm=Alone())

    @property
    def share_of_inputs(self) -> float:
        """What the table of input embeddings has of the run's learning rate."""
        if not self.peaks:
            return 1.0
        table: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        rate = self.settings["learning_rate"]
        own = (self.peaks.get(f"{name}.weight", rate) for name, module in self.model.named_modules() if module is table)
        return float(next(own) / rate) if rate else 1.0

    # Rows.

    def encode(self, data: TaskDataset) -> Encoded:
        """The columns of rows; what was made before is used again.

        Raises:
            OptionError: rows that the model cannot read, or a ``cache_dir`` that cannot be written.
        """
        return self._checked(self.encodings.encode(self.task, data, self.encoder))

    def encode_once(self, data: TaskDataset) -> Encoded:
        """As `encode`, of rows that will not come again: nothing is kept."""
        return self._checked(self.task.encode(data, self.encoder))

    def read(self, rows: Sequence[Mapping[str, Any]]) -> tuple[TaskDataset, Encoded]:
        """Inputs under role names as a data set, and its columns; those of inputs that come once are not kept."""
        data = self.task.data_of(rows)
        return data, self.encode_once(data)

    def examples(self) -> Encoded:
        """A few inputs of the kind that the task takes, of different cost."""
        return self.read([self.task.inputs_of(example) for example in self.task.examples()])[1]

    def _checked(self, encoded: Encoded) -> Encoded:
        self.encoder.check(self.model, encoded)
        return encoded

    def feed(
        self,
        encoded: Encoded,
        budget: Budget | None = None,
        *,
        plan: Plan | None = None,
        identified: bool | None = None,
        knows: Callable[[Sequence[bytes]], bool] | None = None,
    ) -> Feed:
        """Hands rows to the device.

        Args:
            encoded: the rows.
            budget: of one pass; that of a pass without gradients when None.
            plan: which rows make up which step, in training.
            identified: whether batches say what identifies each row; where something is recalled by it when None.
            knows: of a forward pass that recalls: whether it knows rows, which are not read then.
        """
        return Feed(
            self.task,
            encoded,
            self.encoder,
            device=self.device,
            budget=budget or Budget(_ROWS_OF_A_PASS, _COST_OF_A_PASS),
            comm=self.comm,
            plan=plan,
            seed=self.settings["seed"],
            identified=self.recall is not None if identified is None else identified,
            knows=knows,
        )

    # Passes.

    def forward(self, layout: Layout | None = None, precision: Precision | None = None) -> Forward:
        """Calls the model, in its own layout and precision unless others are given."""
        layout = layout or self.layout
        assert layout is not None, "no rows were at hand to try a layout on"
        return Forward(
            self.model,
            device=self.device,
            precision=precision or self.precision,
            layout=layout,
            call=self.encoder.calling(self.model),
            seed=self.settings["seed"],
            ask=self.held.asking(self.task.ask),
            checkpointing=self.settings.get("checkpointing") is True,
            draw=partial(self.task.draw, encoder=self.encoder),
        )

    def recalling(self) -> Forward:
        """As `forward`; of rows that were learned beforehand, what is frozen is not computed."""
        return self.forward(None if self.recall is None else self.recall.layout)

    def knowing(self, forward: Forward) -> Callable[[Sequence[bytes]], bool] | None:
        """Whether a pass knows rows by what identifies them; None for one that recalls nothing."""
        return self.recall.knows if self.recall is not None and forward.layout is self.recall.layout else None

    def learn_frozen(self, *parts: Encoded | None) -> None:
        """Compute the frozen part of these rows, where that is to be done once."""
        if self.recall is not None:
            self.recall.learn(*(part for part in parts if part is not None))

    def inference(self, forward: Forward, encoded: Encoded, batch_size: int | None = None) -> Inference:
        """Runs the model over rows; ``batch_size`` only decides how they are cut up."""
        budget = None if batch_size is None else Budget(batch_size, 2**62)
        feed = self.feed(encoded, budget, knows=self.knowing(forward))
        return Inference(forward, self.task, self.encoder, feed, self.comm, self.held)

    # Use.

    def evaluator(
        self, forward: Forward, data: TaskDataset | None, encoded: Encoded | None, names: Sequence[Any]
    ) -> Callable[[], Metrics | None]:
        """A function that evaluates on this data whenever it is called, or answers None without any."""
        references = [] if data is None else self.task.references(data)

        def evaluate() -> Metrics | None:
            if encoded is None or data is None:
                return None
            return self.inference(forward, encoded).evaluate(data, references, self.task.metrics(names))

        return evaluate

    @contextlib.contextmanager
    def evaluating(self, encoded: Encoded, batch_size: int | None = None) -> Iterator[Inference]:
        """What runs the model over these rows; while this lasts the model computes our way."""
        self.learn_frozen(encoded)
        forward = self.recalling()
        with forward.prepared():
            yield self.inference(forward, encoded, batch_size)

    def evaluate(
        self, data: TaskDataset, encoded: Encoded, names: Sequence[Any] | None, batch_size: int | None = None
    ) -> Metrics:
        """Metrics over labelled rows, whose columns are given too."""
        with self.evaluating(encoded, batch_size) as inference:
            return inference.evaluate(data, self.task.references(data), self.task.metrics(names))

    def predict(self, data: TaskDataset, encoded: Encoded, batch_size: int | None = None) -> list[Any]:
        """One prediction per row, in order."""
        forward = self.forward()
        with forward.prepared():
            return self.inference(forward, encoded, batch_size).predict(data)

    def with_choices_of(self, valid: TaskDataset | None, names: Sequence[Any]) -> Fitted:
        """After a run: with what the task chooses on the validation data, evaluated once more with it."""
        if valid is None or not self.task.settles:
            return self
        encoded = self.encode(valid)
        with self.evaluating(encoded) as inference:
            chosen = replace(self, task=self.task.settled(valid, inference.predict(valid)))
        return replace(chosen, metrics=chosen.evaluate(valid, encoded, names).to_dict())

    def suspects(self, forward: Forward, encoded: Encoded) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
        """A function that finds, among rows of ``encoded``, the rows of the data whose own loss is not finite."""
        feed = self.feed(encoded)

        def find(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            bad = []
            with torch.no_grad():
                for row in rows:
                    batch = feed.of(np.array([row]))
                    if not torch.isfinite(self.task.loss(forward(batch), batch).total):
                        bad.append(row)
            return np.unique(encoded.owners[np.array(bad, dtype=np.int64)])

        return find
