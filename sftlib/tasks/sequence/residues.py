"""Residue classification: a label for each letter of a sequence, such as the structure of a protein's backbone.

Letters: ``N`` rows, ``B`` windows of a micro-batch, ``T`` positions, ``L`` letters, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.inputs import Sequence as SequenceInputs
from sftlib.encoders.text.tokenizer import Frame
from sftlib.encoders.text.windows import cut_windows, settled_stride, window_room
from sftlib.encoders.writer import Writer
from sftlib.errors import LabelError
from sftlib.metrics.residues import Residues
from sftlib.support.checking import checked_fields, true_or_false
from sftlib.support.values import Problem
from sftlib.tasks.labelled_tokens import LabelledTokens
from sftlib.tasks.labels import WeightedLabels, check_labels, label_weights
from sftlib.tasks.sequence.coloured import coloured
from sftlib.tasks.sequence.letters import ANYWHERE, letters_of, one_sequence, require_letters

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

    def to_html(
        self,
        sequence: str | None = None,
        *,
        reference: Sequence[str | None] | None = None,
        mask: Sequence[object] | None = None,
    ) -> str:
        """The letters with a colour for each label, paler where the model is less sure: HTML without scripts.

        Args:
            sequence: the letters that were predicted; the labels themselves are shown when None.
            reference: the label that each letter should have: letters with another one are underlined.
            mask: ``1`` for letters that count, as a ``residue_mask``; the others are grey.

        Raises:
            DataError: not one letter, reference or mark for each label.
        """
        sure = [max(letter) for letter in zip(*self.probabilities.values(), strict=True)]
        return coloured(
            sequence or self.labels,
            self.labels,
            names=tuple(self.probabilities),
            reference=reference,
            mask=mask,
            sure=sure,
        )

    def _repr_html_(self) -> str:
        return self.to_html()


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
class ResidueClassification(LabelledTokens):
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
    family = Residues
    inputs = SequenceInputs
    note, column, called = "letters", "labels", "labels"

    learned: Learned | None = None

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

    def check_rows(self, data: TaskDataset) -> None:
        if data.is_labelled:
            check_labels(_counted(data), self._label_names, column=data.roles["residue_labels"])

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sequence",)

    def write(self, data: TaskDataset, encoder: SequenceEncoder, writer: Writer) -> None:
        require_letters(encoder, "labels")
        sequences = data.view("sequence")
        encoder.checked(sequences)
        frame, first = encoder.frame(), 0
        room = window_room(encoder.max_length - frame.size, encoder.max_length, self.stride)
        for texts in encoder.texts(sequences):
            rows = letters_of(encoder, texts, sequences[first : first + len(texts)], first=first)
            writer.extend(self._windows(rows, frame, room, first))
            first += len(rows)

    def _windows(self, rows: Sequence[Sequence[int]], frame: Frame, room: int, first: int) -> Encoded:
        """Cut rows into windows, lay control tokens around each, and mark the letters that each speaks for."""
        tokens = Ragged.from_lists(rows)
        rooms = np.full(len(rows), room, np.int64)
        windows = cut_windows(tokens.lengths, rooms, settled_stride(self.stride, rooms))
        return self.framed(windows, tokens.values, None, frame, first)

    def numbers(self, data: TaskDataset) -> NDArray[np.int32]:
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

    def decode(self, outputs: Any, batch: Batch) -> list[list[list[float]]]:
        probabilities, rows = self.spoken(outputs, batch)
        letters = probabilities.tolist()  # (L, K)
        return [letters[a:b] for a, b in rows]

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
