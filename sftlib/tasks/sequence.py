"""What tasks with one output vector per text have in common: roles, encoding, the classification head.

Letters: ``B`` rows, ``T`` positions, ``K`` outputs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.collate import Batch, pad
from sftlib.data.dataset import TaskDataset
from sftlib.data.encoded import Encoded, Ragged
from sftlib.errors import DataError, OptionError
from sftlib.models.backbone import ModelSource
from sftlib.models.outputs import logits
from sftlib.models.tokenizer import TextEncoder
from sftlib.options import nearest
from sftlib.tasks.base import Task


class SequenceTask(Task):
    """A text, or a pair of texts, in; ``K`` numbers out.

    Args:
        pair: whether rows have a second text.
    """

    def __init__(self, *, pair: bool) -> None:
        self.pair = pair

    @abstractmethod
    def targets(self, data: TaskDataset) -> NDArray[Any]:
        """(N, ...) what the loss compares outputs with."""

    @final
    def build(self, source: ModelSource, *, dropout: float | None, seed: int) -> nn.Module:
        return source.build(self.head, dropout=dropout, seed=seed)

    @final
    def encode(self, data: TaskDataset, encoder: TextEncoder) -> Encoded:
        pairs = data.column("text_pair") if self.pair else None
        columns, uncut = encoder.encode(data.column("text"), pairs)
        targets = {"target": self.targets(data)} if data.is_labelled else {}
        return Encoded({name: Ragged.from_lists(rows) for name, rows in columns.items()}, targets, uncut)

    @final
    def collate(self, encoded: Encoded, rows: NDArray[np.int64], encoder: TextEncoder) -> Batch:
        return pad(encoded, rows, fill=encoder.fill)

    def scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, K) fp32 outputs of the model, checked against what the task needs.

        Raises:
            OptionError: a model whose output has another shape.
        """
        found = logits(outputs)
        expected = (len(batch.rows), self.head.outputs)
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs {expected}: "
                f"{expected[0]} rows and {expected[1]} outputs"
            )
        return found

    @final
    def check(self, data: TaskDataset) -> None:
        if data.task not in (None, self.name):
            raise DataError(f"this model was made for {self.name}, the data set is for {data.task}")
        if self.pair != ("text_pair" in data.roles):
            had, has = ("pairs of texts", "single texts") if self.pair else ("single texts", "pairs of texts")
            raise DataError(f"this model was made for {had}, the data set has {has} (role text_pair)")
        if data.is_labelled:
            self.check_targets(data)

    @abstractmethod
    def check_targets(self, data: TaskDataset) -> None:
        """Refuse targets that this task does not know."""

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        wanted = ("text", "text_pair") if self.pair else ("text",)
        values = {wanted[0]: example} if isinstance(example, str) else example
        if isinstance(example, tuple):
            values = dict(zip(("text", "text_pair"), example, strict=False)) if len(example) == 2 else {}
        shape = "a tuple of two strings" if self.pair else "a string"
        if (
            not isinstance(values, Mapping)
            or not set(wanted) <= set(values)
            or (not self.pair and "text_pair" in values)
        ):
            raise DataError(
                f"expected {shape}, or a mapping with {' and '.join(map(repr, wanted))}, found {example!r:.80}"
            )
        return {role: values[role] for role in wanted}

    def examples(self) -> list[object]:
        texts = ["Good.", "A longer sentence, with a comma and 1 number.", "words " * 20]
        return [(text, "And another.") for text in texts] if self.pair else list(texts)


def refuse_options(task: str, options: Mapping[str, Any], *, known: tuple[str, ...]) -> None:
    """Refuse loss options that were set although the task has no use for them.

    Raises:
        OptionError: naming each.
    """
    unused = [name for name, value in options.items() if name not in known and value not in (None, 0.0)]
    if unused:
        listed = ", ".join(f"{name}={options[name]!r}" for name in unused)
        raise OptionError(
            f"{task} has no use for {listed}; {nearest('', known) if known else 'it has no loss options'}"
        )


def as_tensor(weights: tuple[float, ...] | None, like: Tensor) -> Tensor | None:
    """Weights as a tensor of the type and device of ``like``."""
    return None if weights is None else torch.tensor(weights, dtype=like.dtype, device=like.device)
