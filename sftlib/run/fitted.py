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
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.metrics import Metrics
from sftlib.models.frozen.prefix_cache import Recalling
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.layouts.layout import Layout
from sftlib.models.opening import check_vocabulary
from sftlib.models.precision import Fp32, Precision
from sftlib.models.sources import seeded
from sftlib.run.encodings import Encodings
from sftlib.tasks.base import Task
from sftlib.train.comm import Alone, Comm
from sftlib.train.feed import MicroBatches
from sftlib.train.forward import Forward, fitting_layout
from sftlib.train.history import History
from sftlib.train.inference import Inference
from sftlib.train.plan import Budget
from sftlib.train.recall import Recall, freeze_layout, try_recall

_TOKENS_OF_A_PASS = 2**14
_ROWS_OF_A_PASS = 128


@final
@dataclass
class Fitted:
    """A model ready for use.

    Attributes:
        task: with its labels.
        model: with its weights, on its device.
        encoder: tokenizer and length limit.
        precision: number format of the products.
        device: where the model lies.
        settings: every option as it was resolved on this machine, as JSON values.
        history: of the run that made it.
        metrics: of the last evaluation, for the model card.
        layout: how rows lie inside the model; settled when rows are first at hand.
        samples: a few inputs of its kind, to compare predictions after saving.
        encodings: tokens made so far.
        recall: computes what is frozen once for each row; None where nothing is, or where that cannot be done.
        frozen: what to say of that before the first step.
        comm: the processes that share the work.
    """

    task: Task
    model: nn.Module
    encoder: TextEncoder
    precision: Precision
    device: torch.device
    settings: dict[str, Any]
    layout: Layout | None = None
    history: History = field(default_factory=History)
    metrics: dict[str, float] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    encodings: Encodings = field(default_factory=Encodings)
    recall: Recall | None = None
    frozen: str = ""
    comm: Comm = field(default_factory=Alone)

    def alone(self) -> Fitted:
        """The same for this process by itself."""
        return replace(self, comm=Alone())

    def forward(self, encoded: Encoded) -> Forward:
        """Calls the model; the layout is tried out on the first rows that come along.

        Args:
            encoded: rows of the kind that will follow.
        """
        if self.layout is None:
            wanted = self.settings["padding_free"]
            probes = [self._probe(self._examples()), self._probe(encoded)]  # the data may be one short row
            self.layout = fitting_layout(
                self.model,
                probes,
                self.device,
                padding_free=None if wanted == "auto" else wanted,
                ask=self.task.ask,
                draw=partial(self.task.draw, encoder=self.encoder),
            )
            self.settings["layout"] = self.layout.name
        return self._forward(self.layout, self.precision)

    def learn_frozen(self, *parts: Encoded | None) -> None:
        """Compute the frozen part of these rows, where that is to be done once."""
        if self.recall is not None:
            self.recall.learn(*(part for part in parts if part is not None))

    def hold_frozen(self, encoded: Encoded, store: PrefixStore) -> Forward:
        """After a part of the model was frozen: keep what is constant in evaluation mode, and see how to recall it.

        Args:
            encoded: rows of the kind that will follow.
            store: where to keep outputs.
        """
        plain, batch = self.forward(encoded).layout, self._probe(encoded)
        with seeded(self.settings["seed"]):
            self.layout = frozen = freeze_layout(lambda layout: self._forward(layout, Fp32()), plain, batch)
            found: Recalling | str = "every step shows the model other tokens"
            if not self.task.shows_more:
                found = try_recall(lambda layout: self._forward(layout, Fp32()), frozen, batch)
        if not isinstance(found, Recalling):
            self.frozen = f"frozen layers are computed anew in every step: {found}"
            return self.forward(encoded)
        budget = Budget(_ROWS_OF_A_PASS, _TOKENS_OF_A_PASS)
        self.recall = Recall(found, self.forward(encoded), self.task, self.encoder, budget=budget, store=store)
        self.frozen = "frozen layers are computed once for each row"
        return self._forward(found, self.precision)

    def _examples(self) -> Encoded:
        rows = [self.task.inputs_of(example) for example in self.task.examples()]
        return self.task.encode(self._unlabelled(rows), self.encoder)

    def _unlabelled(self, rows: Sequence[Mapping[str, Any]]) -> TaskDataset:
        return TaskDataset({role: [row[role] for row in rows] for role in rows[0]}, task=self.task.name)

    def _probe(self, encoded: Encoded) -> Batch:
        """A few rows of different lengths, the longest among them."""
        by_length = np.argsort(encoded.lengths, kind="stable")
        probe = np.unique(by_length[[0, len(by_length) // 2, -1]])
        return self.task.collate(encoded, probe, self.encoder).to(self.device)

    def _forward(self, layout: Layout, precision: Precision) -> Forward:
        return Forward(
            self.model,
            device=self.device,
            precision=precision,
            layout=layout,
            seed=self.settings["seed"],
            ask=self.task.ask,
            checkpointing=self.settings.get("checkpointing") is True,
            draw=partial(self.task.draw, encoder=self.encoder),
        )

    def encode(self, data: TaskDataset) -> Encoded:
        """Tokenised rows; tokens that were made before are used again.

        Raises:
            OptionError: tokens that the model does not know, or a ``cache_dir`` that cannot be written.
        """
        return self._known(self.encodings.encode(self.task, data, self.encoder))

    def _known(self, encoded: Encoded) -> Encoded:
        check_vocabulary(self.model, encoded.inputs["input_ids"].distinct())
        return encoded

    def inference(self, forward: Forward, batch_size: int | None = None) -> Inference:
        """Runs the model over rows; ``batch_size`` only decides how they are cut up."""
        tokens = _TOKENS_OF_A_PASS if batch_size is None else 2**62
        return Inference(forward, self.task, self.encoder, Budget(batch_size or _ROWS_OF_A_PASS, tokens), self.comm)

    def micro_batches(self, encoded: Encoded, budget: Budget) -> MicroBatches:
        """Cuts effective batches of these rows."""
        return MicroBatches(self.task, encoded, self.encoder, device=self.device, budget=budget, comm=self.comm)

    def evaluator(
        self, forward: Forward, data: TaskDataset | None, encoded: Encoded | None, names: Sequence[Any]
    ) -> Callable[[], Metrics | None]:
        """A function that evaluates on this data whenever it is called, or answers None without any."""
        references = [] if data is None else self.task.references(data)

        def evaluate() -> Metrics | None:
            if encoded is None or data is None:
                return None
            metrics = self.inference(forward).evaluate(encoded, data, references, self.task.metrics(names))
            self.metrics = metrics.to_dict()
            return metrics

        return evaluate

    def settle(self, valid: TaskDataset | None, names: Sequence[Any]) -> None:
        """After a run: let the task choose what it chooses on the validation data, and evaluate once more with it."""
        if valid is None or not self.task.settles:
            return
        with self._evaluating(valid) as (inference, encoded):
            self.task = self.task.settled(valid, inference.predict(encoded, valid))
        self.metrics = self.evaluate(valid, names).to_dict()

    @contextlib.contextmanager
    def _evaluating(self, data: TaskDataset, batch_size: int | None = None) -> Iterator[tuple[Inference, Encoded]]:
        """What runs the model over these rows, and the rows; while this lasts the model computes our way."""
        encoded = self.encode(data)
        self.learn_frozen(encoded)
        forward = self.forward(encoded) if self.recall is None else self._forward(self.recall.layout, self.precision)
        with forward.prepared():
            yield self.inference(forward, batch_size), encoded

    def evaluate(self, data: TaskDataset, names: Sequence[Any] | None, batch_size: int | None = None) -> Metrics:
        """Metrics over labelled rows."""
        with self._evaluating(data, batch_size) as (inference, encoded):
            return inference.evaluate(encoded, data, self.task.references(data), self.task.metrics(names))

    def predict(self, rows: Sequence[Mapping[str, Any]], batch_size: int | None = None) -> list[Any]:
        """One prediction per row under role names, in order."""
        if not rows:
            return []
        data = self._unlabelled(rows)
        encoded = self._known(self.task.encode(data, self.encoder))  # inputs that come once are not kept
        forward = self.forward(encoded)
        with forward.prepared():
            return self.inference(forward, batch_size).predict(encoded, data)

    def suspects(self, forward: Forward, encoded: Encoded) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
        """A function that finds, among rows of ``encoded``, the rows of the data whose own loss is not finite."""

        def find(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            bad = []
            with torch.inference_mode():
                for row in rows:
                    batch = self.task.collate(encoded, np.array([row]), self.encoder).to(self.device)
                    if not torch.isfinite(self.task.loss(forward(batch), batch).total):
                        bad.append(row)
            return np.unique(encoded.owners[np.array(bad, dtype=np.int64)])

        return find
