"""Residue classification: a label for each letter of a sequence, such as the structure of a protein's backbone.

Letters: ``N`` rows, ``B`` windows of a micro-batch, ``T`` positions, ``L`` letters, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import IGNORED, Batch, places
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.inputs import Sequence as SequenceInputs
from sftlib.encoders.text.tokenizer import Frame
from sftlib.encoders.text.windows import cut_windows, framed, settled_stride, window_room
from sftlib.encoders.writer import Writer
from sftlib.errors import LabelError, OptionError
from sftlib.metrics.residues import Residues
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, share, true_or_false, whole_number
from sftlib.support.values import Problem
from sftlib.tasks.base import LossSum, Task
from sftlib.tasks.labels import ClassWeights, WeightedLabels, check_labels, label_weights, weights_problems
from sftlib.tasks.sequence.letters import ANYWHERE, one_sequence
from sftlib.tasks.vector import as_tensor

_COUNTS = "1"  # of a mask


@final
@dataclass(frozen=True)
class ResidueLabels:
    """A label for each letter.

    Attributes:
        labels: the most probable label of each letter: a string where all labels are single characters, else a tuple.
        probabilities: label -> its probability at each letter.
    """

    labels: str | tuple[str, ...]
    probabilities: Mapping[str, tuple[float, ...]] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        shown = self.labels if len(self.labels) <= 60 else self.labels[:60]
        more = f" and {len(self.labels) - 60} more" if len(self.labels) > 60 else ""
        return f"Prediction(labels={shown!r}{more})"


@dataclass(frozen=True, kw_only=True)
class Learned(WeightedLabels):
    """What training data decided.

    Attributes:
        single: whether every label is a single character, so that those of a row are written as a string.
    """

    single: bool = True

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield true_or_false("single", self.single)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class ResidueClassification(Task):
    """A label for each letter of a sequence, by cross-entropy over the letters that count.

    Control tokens have no label, and letters whose ``residue_mask`` is 0 are neither learned nor scored. A row that is
    longer than the limit is cut into windows that overlap; every letter is learned and predicted in the one window in
    which it has most context. Each letter must be a token of its own: ``Sequence(tokens="char")``.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the letters of a label count.
        label_smoothing: share of the target spread over all labels.
        stride: letters that two windows share; a quarter of a window when None, half at most.
        learned: labels and weights; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> data = TaskDataset({"sequence": ["MKVA"], "residue_labels": ["CHHX"], "residue_mask": ["1110"]})
        >>> ResidueClassification().learned_from(data).label_names
        ('C', 'H')
    """

    name = "residue-classification"
    usual_metrics = ("accuracy", "f1_macro")
    auto_class = "AutoModelForTokenClassification"
    family = Residues
    inputs = SequenceInputs

    class_weights: ClassWeights = None
    label_smoothing: float = 0.0
    stride: int | None = None
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        return [
            *weights_problems(self.class_weights),
            share("label_smoothing", self.label_smoothing),
            self.stride is not None and whole_number("stride", self.stride, at_least=0),
        ]

    def learned_from(self, data: TaskDataset) -> Self:
        seen = dict.fromkeys(chain.from_iterable(_counted(data)))
        names = tuple(str(name) for name in data.label_names or () if name in seen)
        if len(names) < 2:
            raise LabelError(
                f"column {data.roles['residue_labels']!r}: all letters that count have the same label; classification "
                "needs at least two in the training data"
            )
        weights = label_weights(self.class_weights, chain.from_iterable(_counted(data)), names)
        single = all(len(name) == 1 for name in names)
        return replace(self, learned=Learned(label_names=names, class_weights=weights, single=single))

    @property
    def _label_names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.known.label_names
        return names

    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, outputs=len(self._label_names), labels=self._label_names)

    def check_rows(self, data: TaskDataset) -> None:
        if data.is_labelled:
            check_labels(_counted(data), self._label_names, column=data.roles["residue_labels"])

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sequence",)

    def write_options(self, encoder: SequenceEncoder) -> Mapping[str, Any]:
        return {"stride": self.stride}

    def write(self, data: TaskDataset, encoder: SequenceEncoder, writer: Writer) -> None:
        _require_letters(encoder)
        sequences = data.view("sequence")
        encoder.checked(sequences)
        frame, first = encoder.frame(), 0
        room = window_room(encoder.max_length - frame.size, encoder.max_length, self.stride)
        for texts in encoder.texts(sequences):
            rows = encoder.text.bare(texts)
            lengths = [len(sequence) for sequence in sequences[first : first + len(rows)]]
            _require_tokens(encoder, [len(ids) for ids in rows], lengths, first)
            writer.extend(self._windows(rows, frame, room, first))
            first += len(rows)

    def _windows(self, rows: Sequence[Sequence[int]], frame: Frame, room: int, first: int) -> Encoded:
        """Cut rows into windows, lay control tokens around each, and mark the letters that each speaks for."""
        tokens = Ragged.from_lists(rows)
        rooms = np.full(len(rows), room, np.int64)
        windows = cut_windows(tokens.lengths, rooms, settled_stride(self.stride, rooms))
        offsets = offsets_of(windows.lengths)
        inputs = framed(Ragged(tokens.values[windows.places()], offsets), frame.before, frame.after)
        own = _around(Ragged(windows.owned().astype(np.int8), offsets), frame)
        types = {
            name: inputs.alike(np.full(len(inputs.values), kinds[1], np.int8)) for name, kinds in frame.types.items()
        }
        return Encoded({"input_ids": inputs, **types}, {}, owners=windows.owners + first, notes={"letters": own})

    def encode(self, data: TaskDataset, encoder: SequenceEncoder, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found
        own = np.asarray(found.notes["letters"].values, bool)  # type: ignore[union-attr]
        labels = np.full(len(own), IGNORED, np.int32)
        labels[own] = self._numbers(data)
        return found.with_targets({"labels": Ragged(labels, offsets_of(found.cost))})

    def _numbers(self, data: TaskDataset) -> NDArray[np.int32]:
        """(L,) The number of each letter's label, `IGNORED` where it does not count."""
        number: dict[str | None, int] = {name: i for i, name in enumerate(self._label_names)}
        number[None] = IGNORED
        return np.fromiter((number[label] for row in _masked(data) for label in row), np.int32)

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        labels = encoded.targets["labels"]
        assert isinstance(labels, Ragged)
        counts = np.add.reduceat(labels.values != IGNORED, labels.offsets[:-1]) if len(labels) else np.empty(0)
        return np.flatnonzero(counts == 0)

    # What the model says.

    def _scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, T, K) outputs of the model, checked against what the task needs.

        Raises:
            OptionError: a model whose output has another shape.
        """
        try:
            found = logits(outputs)
        except (TypeError, IndexError):
            raise OptionError(
                f"the model returned {type(outputs).__name__}; expected scores: a tensor (rows, tokens, labels), or "
                "something that has one as .logits or 'logits', or first in a tuple"
            ) from None
        expected = (*batch.inputs["input_ids"].shape, len(self._label_names))
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs "
                f"{tuple(expected)}: rows times tokens times labels"
            )
        return found

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Weighted, smoothed cross-entropy over letters; the count is the sum of the weights of their labels."""
        target = batch.targets["labels"]  # (B, T)
        learned = places(batch.at_hand.targets["labels"] != IGNORED, target.device)
        scores, target = self._scores(outputs, batch)[learned], target[learned]  # (L, K), (L,)
        weights = as_tensor(self.known.class_weights, scores)
        total = functional.cross_entropy(
            scores, target, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return LossSum(total, scores.new_full((), len(target)) if weights is None else weights[target].sum())

    def decode(self, outputs: Any, batch: Batch) -> list[list[list[float]]]:
        own = batch.notes["letters"].bool()  # (B, T)
        probabilities = torch.softmax(self._scores(outputs, batch)[own], dim=-1).tolist()  # (L, K)
        ends = np.cumsum(own.sum(1).cpu().numpy()).tolist()
        return [probabilities[a:b] for a, b in pairwise([0, *ends])]

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[list[list[float]]]) -> ResidueLabels:
        letters = [letter for piece in pieces for letter in piece]  # (L, K)
        best = [self._label_names[max(range(len(letter)), key=letter.__getitem__)] for letter in letters]
        columns = zip(*letters, strict=True)
        labels = "".join(best) if self.known.single else tuple(best)
        return ResidueLabels(labels, dict(zip(self._label_names, columns, strict=True)))

    def references(self, data: TaskDataset) -> Sequence[Any]:
        return [list(row) for row in _masked(data)]

    def inputs_of(self, example: object) -> dict[str, Any]:
        return one_sequence(example)

    def examples(self) -> list[object]:
        return list(ANYWHERE)


def _masked(data: TaskDataset) -> Iterable[list[str | None]]:
    """The labels of each row, None for letters that do not count."""
    if "residue_mask" not in data.roles:
        yield from (list(labels) for labels in data.view("residue_labels"))
        return
    for labels, mask in zip(data.view("residue_labels"), data.view("residue_mask"), strict=True):
        yield [label if mark == _COUNTS else None for label, mark in zip(labels, mask, strict=True)]


def _counted(data: TaskDataset) -> list[list[str]]:
    """The labels of the letters of each row that count."""
    return [[label for label in row if label is not None] for row in _masked(data)]


def _require_letters(encoder: SequenceEncoder) -> None:
    """Refuse inputs of which a letter cannot be told from its neighbours, or would be somewhere else.

    Raises:
        OptionError: saying which.
    """
    if encoder.cut.size != 1:
        raise OptionError(f"tokens={encoder.cut.form!r}: each letter has a label, so each is a token: tokens='char'")
    if encoder.augment or encoder.strand == "both":
        raise OptionError("augment= and strand='both' move letters, and the labels would stay where they were")


def _require_tokens(encoder: SequenceEncoder, tokens: Sequence[int], letters: Sequence[int], first: int) -> None:
    wrong = [row for row, (has, wanted) in enumerate(zip(tokens, letters, strict=True)) if has != wanted]
    if wrong:
        row = wrong[0]
        raise OptionError(
            f"row {first + row}: the tokenizer makes {tokens[row]} tokens of {letters[row]} letters; each letter has a "
            "label, so each must be a token of its own: give another tokenizer, or a model without one"
        )


def _around(bodies: Ragged, frame: Frame) -> Ragged:
    """Windows of marks, with 0 wherever a control token stands."""
    control = np.zeros(frame.size, bodies.values.dtype)
    return framed(bodies, control[: len(frame.before)], control[len(frame.before) :])
