"""The contract of a task: everything that depends on what is learned, and nothing about how the loop runs.

A task is one file. It says which roles it reads, puts a head on a model, encodes rows, lays them out, sums a loss,
turns outputs into predictions, and names its metrics. The contract tests run over every registered task.

What a model returns goes three ways: into `Task.loss`, into `Task.decode`, and, where an answer takes more than one
pass (generation), it is `Task.answer` that asks. A row that is too long for one pass may be cut into windows: each is
then a row of `Encoded`, and `Task.complete` puts what was decoded of them together.

Letters: ``N`` rows, ``B`` rows of a micro-batch, ``T`` positions, ``K`` outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.base import Draws, Encoder, Inputs, Mixed
from sftlib.encoders.batch import IGNORED, Batch, laid_out
from sftlib.encoders.encoded import Column, Encoded, Filed
from sftlib.encoders.text.inputs import Text
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Kind, Metrics
from sftlib.models.language.generation import Generation
from sftlib.models.sources import Head, ModelSource
from sftlib.support.values import Checked, as_json, from_json, given_fields, shown
from sftlib.tasks.earlier import in_two_parts
from sftlib.tasks.plan import Plan

Label = str | int | bool

_PARTS = {"options", "learned"}  # of a config


class LossSum(NamedTuple):
    """A loss that has not been divided yet.

    Sums of micro-batches and of processes add up exactly; means do not (transformers#47688). The loop divides once.

    Attributes:
        total: () the summed loss, with its graph.
        count: () what the sum must be divided by: supervised units, or the sum of their weights.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # `tuple.count` is of no use here


class Asked(Protocol):
    """A model that is ready to be called on batches, in evaluation mode; see `sftlib.train.forward.Forward`."""

    model: nn.Module

    def __call__(self, batch: Batch) -> Any:
        """What `Task.ask` makes of a batch."""

    def plain(self) -> AbstractContextManager[nn.Module]:
        """Within this context the model is called as transformers does, with its own attention: for generating."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Task(Checked, ABC):
    """One kind of supervised learning: a frozen value, whose options are its fields.

    A task of one's own is a dataclass like this one; ``repr=False`` keeps the short `repr` of all tasks, and `problems`
    says what is wrong with its options, as far as that can be known without data.

    Args:
        learned: what the training data decided, a frozen dataclass of the task's own; None before `learned_from`.

    Attributes:
        name: the task's public name.
        usual_metrics: what is computed when nothing else is asked for, beside the loss.
        auto_class: transformers' Auto class that has its head.
        inputs: how its inputs are read when nothing else is asked for.
        told_by: values of ``problem_type`` under which a model of that class is for this task and no other; none where
            its class does not tell.
        couples_rows: whether a row's loss depends on the other rows of the batch; `by_row` and `from_rows` then say
            how such a batch is cut.
        every_row_counts: whether a run is refused for a single row of which nothing is learned.
        nothing_left: why of a row nothing may be left to learn, and what to do; for messages.
        shows_more: whether the model sees more than ``Encoded.inputs`` holds: what `draw` changes from step to step, or
            further inputs. Nothing can then be known of a row beforehand, and anything may come.
        shares_body: whether its head may stand beside others on one body, each row being learned by itself.
        mixes: whether it learns from rows in which another one is seen too; `mix` then says what their targets are.
        family: the family of its metrics, or None to have it found by their names.
        renamed: entries of folders of version 0.1 -> the field that has the value now.
        attached: names of the children that `attach` gives to a model of transformers.
        head_alone: whether a new head on a body that is trained learns as fast as alone, where no rate is named.
    """

    name: ClassVar[str]
    usual_metrics: ClassVar[tuple[str, ...]]
    auto_class: ClassVar[str]
    inputs: ClassVar[type[Inputs]] = Text
    told_by: ClassVar[tuple[str | None, ...]] = ()
    couples_rows: ClassVar[bool] = False
    every_row_counts: ClassVar[bool] = False
    shows_more: ClassVar[bool] = False
    shares_body: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    nothing_left: ClassVar[str] = (
        "the answer begins beyond it, or the row does not end with one; raise max_length, shorten the inputs, drop "
        "what follows the last answer, or drop these rows"
    )
    family: ClassVar[Kind | None] = None
    renamed: ClassVar[Mapping[str, str]] = {}
    attached: ClassVar[tuple[str, ...]] = ()
    head_alone: ClassVar[bool] = True

    learned: Any = None

    def learned_from(self, data: TaskDataset) -> Self:
        """The task for this training data: the same options, and in `learned` what the labelled rows decide.

        Raises:
            LabelError: labels that cannot be learned.
            OptionError: an option that does not go with the data.
        """
        return self

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        """The task as a model knows it that comes with its head, and was tuned elsewhere: no data decided anything.

        Args:
            names: its labels, in the order of its outputs.
            roles: of the rows that it is to be used on.

        Raises:
            OptionError: training data alone can tell what is to be known.
        """
        raise OptionError(f"{self.name} has to be learned, or loaded, before it can be used")

    @property
    def unsettled(self) -> str:
        """What to say of a run without validation data, where `settled` was asked for; else nothing."""
        return ""

    def beside(self, source: ModelSource, inputs: Any) -> Task:
        """The task as this model learns it; the same for all models, unless a task may be learned in several ways.

        Args:
            source: of the model.
            inputs: how its inputs are to be read.

        Raises:
            OptionError: the model cannot learn it.
        """
        return self

    @final
    @property
    def known(self) -> Any:
        """What the data decided.

        Raises:
            OptionError: there was no data yet.
        """
        if self.learned is None:
            raise OptionError(f"{self!r} has seen no data yet: learned_from(data)")
        return self.learned

    # The value.

    @final
    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The names of its options."""
        return tuple(item.name for item in given_fields(cls) if item.name != "learned")

    @final
    def options(self) -> dict[str, Any]:
        """Option -> value."""
        return {name: getattr(self, name) for name in self.option_names()}

    @final
    def untaught(self) -> Self:
        """The same options, before any data."""
        return replace(self, learned=None)

    @final
    def config(self) -> dict[str, Any]:
        """Everything needed to predict and to evaluate again, as JSON values."""
        return {"options": {name: as_json(v) for name, v in self.options().items()}, "learned": as_json(self.learned)}

    @final
    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The task that `config` described, here or in version 0.1.

        Raises:
            OptionError: entries that are missing, unknown or of another type.
        """
        parts = config if config.keys() & _PARTS else in_two_parts(cls, config)
        options = parts.get("options")
        if parts.keys() != _PARTS or not isinstance(options, Mapping) or "learned" in options:
            raise OptionError(f"config: found {dict(config)!r:.200}, expected the objects 'options' and 'learned'")
        return from_json(cls, {**options, "learned": parts["learned"]}, name="config")

    @final
    @property
    def label_names(self) -> tuple[Label, ...] | None:
        """The label of each output, or None."""
        return getattr(self.learned, "label_names", None)

    @final
    def __repr__(self) -> str:
        return shown(self, without=("learned",))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew of the fields: what was found out about models stays behind."""
        return _made, (type(self), {item.name: getattr(self, item.name) for item in given_fields(self)})

    # The model.

    def open(self, inputs: Any, source: ModelSource) -> Encoder:
        """The encoder of a model for this task; as the inputs open it, unless a task needs them read in one way.

        Args:
            inputs: of the kind that ``self.inputs`` is.
            source: of the model.
        """
        encoder: Encoder = inputs.open(source)
        return encoder

    @property
    def head(self) -> Head:
        """The head, as transformers describes it."""
        return Head(auto_class=self.auto_class)

    def build(self, source: ModelSource, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        """A fresh model with this task's head; see `ModelSource.build`."""
        model = source.build(self.head, dropout=dropout, seed=seed, pooled=pooled)
        self.check_model(model, source.name)
        return model

    def check_model(self, model: nn.Module, name: str) -> None:
        """Refuse a model that cannot do what the task asks of it.

        Args:
            model: with its head.
            name: what messages call it.

        Raises:
            OptionError: saying why.
        """
        return

    def attach(self, model: nn.Module, encoder: Any, *, seed: int) -> Collection[str]:
        """Give a fresh model, or one that is to be filled from a folder, the layers that only this task knows of.

        Args:
            model: with its head; changed.
            encoder: reads its inputs.
            seed: of weights that are drawn.

        Returns:
            The names of the weights that were drawn.

        Raises:
            OptionError: it cannot be done with this model.
        """
        return ()

    def prepare(self, model: nn.Module, encoder: Encoder) -> None:
        """Add to a fresh model and its encoder what belongs to the task and is saved with them."""
        return

    def generating(self, generation: Generation) -> Task:
        """The same task, answering in another way.

        Raises:
            OptionError: it does not generate.
        """
        raise OptionError(f"generation={generation!r}: {self.name} does not generate texts")

    def brief(self) -> Task:
        """The same task with short answers, for a look at whether two models agree."""
        return self

    @property
    def markers(self) -> tuple[str, ...]:
        """Signs that this task adds to what the model reads; each gets an embedding of its own, drawn from the seed."""
        return ()

    # Rows.

    @final
    def check(self, data: TaskDataset) -> None:
        """Refuse rows that this task cannot be evaluated on, or that are another task's.

        Raises:
            DataError: with every row concerned.
        """
        if data.task not in (None, self.name):
            raise DataError(f"the data set is for {data.task}, the model for {self.name}")
        self.check_rows(data)

    def check_rows(self, data: TaskDataset) -> None:
        """As `check`, of rows that are this task's.

        Raises:
            DataError: with every row concerned.
        """
        return

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The roles that columns are a function of, inputs first; of them those that the data has.

        What was written is kept under their values, the encoder and `write_options`, and shared between runs, folds and
        whatever the other roles say.
        """

    def write_options(self, encoder: Any) -> Mapping[str, Any]:
        """What else columns are a function of, as JSON values: the task's own options, a template of the tokenizer."""
        return {}

    def write(self, data: TaskDataset, encoder: Any, writer: Writer) -> None:
        """Write the columns of rows, chunk by chunk; pure, and each row for itself.

        Targets and notes are written too where they follow from the roles in `reads`; `targets` adds what does not.

        Args:
            data: rows, labelled or not.
            encoder: of the kind that `inputs` opens.
            writer: takes the columns.
        """
        encoder.write({role: data.view(role) for role in self.reads if role in data.roles}, writer)

    @final
    def written(self, data: TaskDataset, encoder: Encoder) -> Encoded:
        """What `write` makes of these rows, in memory or in a scratch file."""
        with Writer() as writer:
            self.write(data, encoder, writer)
            return writer.done()

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        """Columns of rows with their targets.

        Args:
            data: rows, labelled or not.
            encoder: of the kind that `inputs` opens.
            columns: what `write` once made of these rows; made anew when None.
        """
        return self.written(data, encoder) if columns is None else columns

    @final
    def collate(
        self,
        encoded: Encoded,
        rows: NDArray[np.int64],
        encoder: Encoder,
        draws: Draws | None = None,
        *,
        read: bool = True,
    ) -> Batch:
        """Lay rows out as tensors.

        Args:
            encoded: the data set.
            rows: (B,) row numbers.
            encoder: lays out what the model sees.
            draws: what is drawn for each row in this epoch; None in evaluation.
            read: whether what the model sees of them will be looked at.
        """
        loaded = encoder.load(encoded, rows, draws) if read else encoder.unread(encoded, rows)
        batch = Batch(
            rows=torch.from_numpy(rows),
            cost=torch.from_numpy(encoded.cost[rows]),
            inputs=encoder.lay_out(loaded),
            targets=laid_out(_at_hand(encoded.targets), rows, IGNORED),
            notes=laid_out(encoded.notes, rows, 0),
        )
        placed = self.place(batch, encoded, encoder, loaded.moved)
        return placed if loaded.mixed is None else self.mix(placed, encoded, loaded.mixed)

    def place(self, batch: Batch, encoded: Encoded, encoder: Any, moved: NDArray[np.float64] | None) -> Batch:
        """Put into a batch what the encoder does not know of: inputs made of targets, or targets moved along.

        Args:
            batch: as it was laid out.
            encoded: the data set.
            encoder: that laid it out.
            moved: (B, 3, 3) how the picture of each row was moved, or None.
        """
        return batch

    def mix(self, batch: Batch, encoded: Encoded, mixed: Mixed) -> Batch:
        """Put into a batch what rows are in which another one is seen too; of tasks that say that they mix.

        Args:
            batch: as it was laid out.
            encoded: the data set.
            mixed: the other rows, and how much of each row is its own.
        """
        raise NotImplementedError(f"{self.name} says that it mixes, and not how")

    def counts(self, encoded: Encoded, rows: NDArray[np.int64]) -> Mapping[str, float]:
        """Counts of a whole effective batch, for a loss of several denominators; it reads them in ``batch.of_step``.

        One count cannot divide a loss whose parts are divided by different ones. Such a task scales each part so that
        the loop's division by its one count comes out right: ``total = sum of part_t * C / c_t``.

        Args:
            encoded: the data set.
            rows: (B,) of the effective batch, of all processes.
        """
        return {}

    def plan(self, encoded: Encoded, *, batch_size: int, seed: int) -> Plan | None:
        """Which rows make up which step; None for all rows shuffled anew in every epoch."""
        return None

    def units(self, data: TaskDataset) -> float:
        """What the counts of `loss` add up to over these labelled rows: rows, unless a task counts something else."""
        return float(len(data))

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        """(M,) Numbers of the rows whose supervision was cut off with their end; none where a row has one target."""
        return np.empty(0, dtype=np.int64)

    def shortened(self, encoded: Encoded) -> NDArray[np.int64]:
        """(M,) Numbers of the rows that lost all supervision with their end, or a part of it: for reports."""
        return self.unsupervised(encoded)

    def draw(self, inputs: Mapping[str, Tensor], encoder: Any, *, seed: int, step: int | None) -> Mapping[str, Tensor]:
        """What the model is shown of a batch; the rows as they are, unless a task draws something anew in every step.

        Args:
            inputs: name -> (B, ...), as collated.
            encoder: of the kind that `inputs` opens.
            seed: of the run.
            step: optimizer step, from 0; None in evaluation, where rows must look the same every time.
        """
        return inputs

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        """What loss and predictions are made of: whatever the model returns, unless a task wants a part of it only.

        Args:
            model: in its layout, precision and mode.
            call: hands inputs to a model the way its ``forward`` takes them.
            inputs: name -> (B, ...), and what the layout adds.
        """
        return call(model, inputs)

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Sum the loss over a micro-batch."""

    @abstractmethod
    def decode(self, outputs: Any, batch: Batch) -> Sequence[Any]:
        """One prediction per row of the batch, in its order; of a window, whatever `complete` needs of it."""

    def by_row(self, outputs: Any, batch: Batch) -> Tensor:
        """(b, ...) what `ask` made, a line for each row of the batch; of tasks that couple rows."""
        raise NotImplementedError(f"{self.name} says that it couples rows, and not how its outputs belong to them")

    def from_rows(self, lines: Tensor) -> Any:
        """What `loss` takes, from the lines of `by_row` of a whole effective batch."""
        raise NotImplementedError(f"{self.name} says that it couples rows, and not how its outputs belong to them")

    def answer(self, model: Asked, batch: Batch, encoder: Any) -> Sequence[Any]:
        """As `decode`, with the model at hand: for tasks whose answers take more than one pass."""
        return self.decode(model(batch), batch)

    def judge(self, model: Asked, batch: Batch, encoder: Any, metrics: Metrics) -> tuple[LossSum, Sequence[Any]]:
        """Loss and predictions of labelled rows; ``metrics`` are those that will be computed from them."""
        outputs = model(batch)
        return self.loss(outputs, batch), self.decode(outputs, batch)

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Any]) -> Any:
        """The prediction for a row of the data, from what was decoded of its windows in their order."""
        (only,) = pieces
        return only

    @property
    def settles(self) -> bool:
        """Whether something is left to choose on the validation data when a run is over; see `settled`."""
        return False

    def settled(self, data: TaskDataset, predictions: Sequence[Any]) -> Task:
        """The task with what the validation data decides, such as a threshold; it is saved with the model.

        Asked once, after a run that had validation data, with the weights that it leaves. Weights are never touched.

        Args:
            data: the validation rows.
            predictions: one for each.
        """
        return self

    @abstractmethod
    def references(self, data: TaskDataset) -> Sequence[Any]:
        """What the predictions are compared with, one per row."""

    def metrics(self, names: Sequence[Any] | None = None) -> Metrics:
        """Empty metrics: the loss, and those named or the task's usual ones."""
        chosen = self.usual_metrics if names is None else names
        names = ["loss", *(name for name in chosen if name != "loss")]
        return Metrics(names, label_names=self.label_names, family=self.family)

    @abstractmethod
    def inputs_of(self, example: object) -> dict[str, Any]:
        """One input to ``predict`` as a row under role names.

        Raises:
            DataError: it does not have the shape of an input.
        """

    def is_one(self, given: object) -> bool:
        """Whether ``predict`` was given a single input of several parts, other than a mapping, rather than several."""
        return False

    def data_of(self, rows: Sequence[Mapping[str, Any]]) -> TaskDataset:
        """Inputs under role names as a data set."""
        roles = dict.fromkeys(role for row in rows for role in row)  # of a row beside another there may be fewer
        return TaskDataset({role: [row.get(role) for row in rows] for role in roles}, task=self.name)

    def samples(self, data: TaskDataset) -> Sequence[Mapping[str, Any]]:
        """The inputs of a few of these rows, for checks after saving."""
        return [self.inputs_of({role: row[role] for role in data.inputs}) for row in data[:3]]

    def preview(self, data: TaskDataset, row: int, encoder: Encoder, *, seed: int) -> Any:
        """What the model is shown of a row, and what of it is learned, for people to look at.

        Args:
            data: labelled rows.
            row: number of the one to look at.
            encoder: of the kind that `inputs` opens.
            seed: of what is drawn for the row.

        Raises:
            OptionError: there is nothing to look at yet.
        """
        said = ", ".join(str(data[row][role]) for role in data.targets)
        return encoder.preview(self.encode(data.select([row]), encoder), said)

    def said(self, train: TaskDataset, valid: TaskDataset | None) -> Sequence[str]:
        """What there is to say of the rows before the first step that is of this task alone."""
        return ()

    def examples(self) -> Sequence[object]:
        """A few inputs of different lengths that ``predict`` takes, for checks after saving."""
        return ["Good.", "A longer sentence, with a comma and 1 number.", "words " * 20]


def _at_hand(targets: Mapping[str, Column]) -> dict[str, Column]:
    """Without those that lie in files, which `Task.place` reads, since they are moved with their picture."""
    return {name: values for name, values in targets.items() if not isinstance(values, Filed)}


def _made(kind: type[Task], given: Mapping[str, Any]) -> Task:
    return kind(**given)
