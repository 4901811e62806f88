"""A label for each unit of a row, such as a word or a letter: windows, loss and the positions that speak.

Letters: ``B`` windows of a micro-batch, ``T`` positions, ``U`` units that count, ``K`` labels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import IGNORED, Batch, places
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.text.tokenizer import Frame
from sftlib.encoders.text.windows import Windows, framed
from sftlib.errors import OptionError
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.checking import share, whole_number
from sftlib.support.values import Problem
from sftlib.tasks.base import LossSum, Task
from sftlib.tasks.labels import ClassWeights, weights_problems
from sftlib.tasks.vector import as_tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class LabelledTokens(Task):
    """One of ``K`` labels for each unit of a row, by cross-entropy at the position that speaks for it.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the units of a label count.
        label_smoothing: share of the target spread over all labels.
        stride: tokens that two windows share; a quarter of a window when None, half at most.

    Attributes:
        note: of `Encoded`, marks the positions that speak for a unit.
        column: of `Encoded`, the label of each position.
        called: what messages call the labels.
    """

    auto_class = "AutoModelForTokenClassification"
    note: ClassVar[str]
    column: ClassVar[str]
    called: ClassVar[str]

    class_weights: ClassWeights = None
    label_smoothing: float = 0.0
    stride: int | None = None

    @final
    def problems(self) -> Iterable[Problem]:
        return [
            *weights_problems(self.class_weights),
            share("label_smoothing", self.label_smoothing),
            self.stride is not None and whole_number("stride", self.stride, at_least=0),
        ]

    @final
    @property
    def _label_names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.known.label_names
        return names

    @final
    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, outputs=len(self._label_names), labels=self._label_names)

    @final
    def write_options(self, encoder: Any) -> Mapping[str, Any]:
        return {"stride": self.stride}

    @abstractmethod
    def numbers(self, data: TaskDataset) -> NDArray[np.int32]:
        """The number of the label of each unit of all rows, `IGNORED` where it does not count."""

    @final
    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        """Windows over each row; a note says which positions speak for a unit, and have its label."""
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found
        speaks = np.asarray(found.notes[self.note].values, bool)  # type: ignore[union-attr]
        labels = np.full(len(speaks), IGNORED, np.int32)
        labels[speaks] = self.numbers(data)
        return found.with_targets({self.column: Ragged(labels, offsets_of(found.cost))})

    @final
    def framed(
        self, windows: Windows, tokens: NDArray[Any], speaks: NDArray[np.bool_] | None, frame: Frame, first: int
    ) -> Encoded:
        """Windows with control tokens around each, and marks where a position speaks for a unit.

        Args:
            windows: over the tokens of all rows.
            tokens: laid end to end.
            speaks: of each token, whether it speaks for a unit; each does when None.
            frame: what stands around a window.
            first: number of the first row.
        """
        places, offsets = windows.places(), offsets_of(windows.lengths)
        own = windows.owned() if speaks is None else speaks[places] & windows.owned()
        inputs = framed(Ragged(tokens[places], offsets), frame.before, frame.after)
        silent = np.zeros(frame.size, np.int8)
        before = len(frame.before)
        marks = framed(Ragged(own.astype(np.int8), offsets), silent[:before], silent[before:])
        types = {
            name: inputs.alike(np.full(len(inputs.values), kinds[1], np.int8)) for name, kinds in frame.types.items()
        }
        owners = windows.owners + first
        return Encoded({"input_ids": inputs, **types}, {}, owners=owners, notes={self.note: marks})

    # What the model says.

    @final
    def scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, T, K) outputs of the model, checked against what the task needs.

        Raises:
            OptionError: a model whose output has another shape.
        """
        try:
            found = logits(outputs)
        except (TypeError, IndexError):
            raise OptionError(
                f"the model returned {type(outputs).__name__}; expected scores: a tensor (rows, tokens, {self.called}),"
                " or something that has one as .logits or 'logits', or first in a tuple"
            ) from None
        expected = (*batch.inputs["input_ids"].shape, len(self._label_names))
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs "
                f"{tuple(expected)}: rows times tokens times {self.called}"
            )
        return found

    @final
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Weighted, smoothed cross-entropy over units; the count is the sum of the weights of their labels."""
        target = batch.targets[self.column]  # (B, T)
        learned = places(batch.at_hand.targets[self.column] != IGNORED, target.device)
        scores, target = self.scores(outputs, batch)[learned], target[learned]  # (U, K), (U,)
        weights = as_tensor(self.known.class_weights, scores)
        total = functional.cross_entropy(
            scores, target, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return LossSum(total, scores.new_full((), len(target)) if weights is None else weights[target].sum())

    @final
    def spoken(self, outputs: Any, batch: Batch) -> tuple[Tensor, list[tuple[int, int]]]:
        """(U, K) the probabilities of each unit of the batch, and of each row the first and one beyond its last."""
        speaks = batch.notes[self.note].bool()  # (B, T)
        ends = np.cumsum(speaks.sum(1).cpu().numpy()).tolist()
        return self.scores(outputs, batch)[speaks].softmax(dim=-1), list(pairwise([0, *ends]))
