"""A task around a task: rows, inputs and the model are the inner task's; what is learned of them is another matter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.writer import Writer
from sftlib.models.sources import Head, ModelSource
from sftlib.tasks.base import LossSum, Task


@dataclass(frozen=True, kw_only=True, repr=False)
class Around(Task):
    """Everything as the inner task has it; whoever inherits says what is different.

    Args:
        inner: the task with labels, which says what rows are and how they are read.

    Attributes:
        taken: attributes that are those of the inner task.
    """

    taken: ClassVar[tuple[str, ...]] = (
        "name",
        "auto_class",
        "inputs",
        "shows_more",
        "every_row_counts",
        "usual_metrics",
        "family",
        "attached",
    )
    usual_metrics = ()

    inner: Task

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update({name: getattr(self.inner, name) for name in (*self.taken, "learned")})

    # Rows and inputs: the inner task's.

    @property
    def head(self) -> Head:
        return self.inner.head

    @property
    def reads(self) -> tuple[str, ...]:
        return self.inner.reads

    @property
    def markers(self) -> tuple[str, ...]:
        return self.inner.markers

    def open(self, inputs: Any, source: ModelSource) -> Encoder:
        return self.inner.open(inputs, source)

    def check_model(self, model: nn.Module, name: str) -> None:
        self.inner.check_model(model, name)

    def check_rows(self, data: TaskDataset) -> None:
        self.inner.check_rows(data)

    def write_options(self, encoder: Any) -> Mapping[str, Any]:
        return self.inner.write_options(encoder)

    def write(self, data: TaskDataset, encoder: Any, writer: Writer) -> None:
        self.inner.write(data, encoder, writer)

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        return self.inner.encode(data, encoder, columns)

    def place(self, batch: Batch, encoded: Encoded, encoder: Any, moved: NDArray[np.float64] | None) -> Batch:
        return self.inner.place(batch, encoded, encoder, moved)

    def draw(self, inputs: Mapping[str, Tensor], encoder: Any, *, seed: int, step: int | None) -> Mapping[str, Tensor]:
        return self.inner.draw(inputs, encoder, seed=seed, step=step)

    def references(self, data: TaskDataset) -> Sequence[Any]:
        return self.inner.references(data)

    def inputs_of(self, example: object) -> dict[str, Any]:
        return self.inner.inputs_of(example)

    def is_one(self, given: object) -> bool:
        return self.inner.is_one(given)

    def examples(self) -> Sequence[object]:
        return self.inner.examples()

    # The model.

    def attach(self, model: nn.Module, encoder: Any, *, seed: int) -> Collection[str]:
        return self.inner.attach(model, encoder, seed=seed)

    def prepare(self, model: nn.Module, encoder: Encoder) -> None:
        self.inner.prepare(model, encoder)

    # What is learned.

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        return self.inner.loss(outputs, batch)

    def decode(self, outputs: Any, batch: Batch) -> Sequence[Any]:
        return self.inner.decode(outputs, batch)

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Any]) -> Any:
        return self.inner.complete(data, row, pieces)
