"""What tasks with one output vector per row have in common, and those of them that read texts.

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
from sftlib.data.encoded import Encoded
from sftlib.data.problems import brief
from sftlib.data.tokens import TokenWriter
from sftlib.errors import DataError, OptionError
from sftlib.models.backbone import ModelSource
from sftlib.models.outputs import logits
from sftlib.models.tokenizer import TextEncoder
from sftlib.tasks.base import Task


class VectorTask(Task):
    """Something in; ``K`` numbers out."""

    @abstractmethod
    def targets(self, data: TaskDataset) -> NDArray[Any]:
        """(N, ...) what the loss compares outputs with."""

    @abstractmethod
    def check_form(self, data: TaskDataset) -> None:
        """Refuse rows that come in another form than those the model was made for."""

    @abstractmethod
    def check_targets(self, data: TaskDataset) -> None:
        """Refuse targets that this task does not know."""

    @final
    def build(self, source: ModelSource, *, dropout: float | None, seed: int) -> nn.Module:
        return source.build(self.head, dropout=dropout, seed=seed)

    @final
    def encode(self, data: TaskDataset, encoder: TextEncoder, tokens: Encoded | None = None) -> Encoded:
        found = self.tokenised(data, encoder) if tokens is None else tokens
        return found.with_targets({"target": self.targets(data)} if data.is_labelled else {})

    @final
    def collate(self, encoded: Encoded, rows: NDArray[np.int64], encoder: TextEncoder) -> Batch:
        return pad(encoded, rows, fill=encoder.fill)

    def scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, K) fp32 outputs of the model, checked against what the task needs.

        Raises:
            OptionError: a model whose output has another shape.
        """
        try:
            found = logits(outputs)
        except (TypeError, IndexError):
            raise OptionError(
                f"the model returned {type(outputs).__name__}; expected scores: a tensor (rows, {self.head.outputs}), "
                "or something that has one as .logits or 'logits', or first in a tuple"
            ) from None
        expected = (len(batch.rows), self.head.outputs)
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs {expected}: "
                f"rows times {'labels' if self.label_names else 'values'}"
            )
        return found

    @final
    def check(self, data: TaskDataset) -> None:
        if data.task not in (None, self.name):
            raise DataError(f"the data set is for {data.task}, the model for {self.name}")
        self.check_form(data)
        if data.is_labelled:
            self.check_targets(data)


class SequenceTask(VectorTask):
    """A text, or a pair of texts, in.

    Args:
        pair: whether rows have a second text.
    """

    def __init__(self, *, pair: bool) -> None:
        self.pair = pair

    @final
    def write_tokens(self, data: TaskDataset, encoder: TextEncoder, writer: TokenWriter) -> None:
        for chunk in encoder.encode(data.view("text"), data.view("text_pair") if self.pair else None):
            writer.add(chunk.inputs, lengths=chunk.lengths, uncut=chunk.uncut)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text", "text_pair") if self.pair else ("text",)

    @final
    def check_form(self, data: TaskDataset) -> None:
        if self.pair != ("text_pair" in data.roles):
            had, has = ("pairs of texts", "single texts") if self.pair else ("single texts", "pairs of texts")
            mend = "name the second text with text_pair=" if self.pair else "leave it out with text_pair=None"
            raise DataError(f"the data set has {has}, the model was made for {had} (role 'text_pair'); {mend}")

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        wanted = ("text", "text_pair") if self.pair else ("text",)
        values: object = example
        if isinstance(example, str):
            values = {"text": example}
        elif isinstance(example, tuple):
            values = dict(zip(("text", "text_pair"), example, strict=False)) if len(example) == 2 else None
        if not isinstance(values, Mapping) or {"text", "text_pair"} & values.keys() != set(wanted):
            raise DataError(self._wanted(example))
        return {role: values[role] for role in wanted}

    def _wanted(self, example: object) -> str:
        shown = brief(example, 80)
        if isinstance(example, list):
            return f"an input is a list: {shown}; give one flat list of inputs"
        if self.pair:
            form = "a tuple of two strings, or a mapping with 'text' and 'text_pair'"
            return f"this model takes pairs: {form}; found {shown}"
        many = "; several texts go into a list" if isinstance(example, tuple) else ""
        return f"this model takes single texts: a string, or a mapping with 'text'; found {shown}{many}"

    def examples(self) -> list[object]:
        texts = ["Good.", "A longer sentence, with a comma and 1 number.", "words " * 20]
        return [(text, "And another.") for text in texts] if self.pair else list(texts)


def as_tensor(weights: tuple[float, ...] | None, like: Tensor) -> Tensor | None:
    """Weights as a tensor of the type and device of ``like``."""
    return None if weights is None else torch.tensor(weights, dtype=like.dtype, device=like.device)
