"""Token classification: a tag for each word, such as names of entities or parts of speech.

Letters: ``B`` windows of a micro-batch, ``T`` positions, ``W`` words, ``K`` tags.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.encoders.batch import IGNORED, Batch, places
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.text.tokenizer import Frame, TextEncoder, WordChunk
from sftlib.encoders.text.windows import Windows, cut_windows, framed, settled_stride, window_room
from sftlib.encoders.text.words import SPLITTINGS, split_words, splitting_of
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.metrics import Spans
from sftlib.metrics.tags import TagReader, spans
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, choice, share, whole_number
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum, Task
from sftlib.tasks.labels import ClassWeights, WeightedLabels, check_labels, label_weights, weights_problems
from sftlib.tasks.single_label import SingleLabel
from sftlib.tasks.vector import as_tensor

_RAW = "raw text"  # column of the texts that were given to `predict` as they are


@final
@dataclass(frozen=True)
class Entity:
    """Words that belong together.

    Attributes:
        text: as it stands in a raw text; of words, those with a space between.
        label: the type, without the prefix of its tags.
        start: its first character in a raw text; of words, the number of its first.
        end: the character, or the word, after its last.
        score: mean probability of the tags of its words, 0 to 1.
    """

    text: str
    label: str
    start: int
    end: int
    score: float = field(compare=False)


@final
@dataclass(frozen=True)
class TokenLabels:
    """A tag for each word, and what they mean.

    Attributes:
        tags: the most probable tag of each word.
        entities: words that belong together by their tags, in order.
        tokens: the words.
        scores: probability of each tag.
    """

    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    tokens: tuple[str, ...] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False, compare=False)

    def __repr__(self) -> str:
        found = ", ".join(f"{entity.text!r}: {entity.label}" for entity in self.entities)
        return f"Prediction(entities=[{found}], tags={list(self.tags)})"


class _Piece(NamedTuple):
    """What a window says of the words it owns."""

    tags: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Learned(WeightedLabels):
    """What training data decided.

    Attributes:
        splitting: how raw texts are cut into words, of `sftlib.encoders.text.words.SPLITTINGS`.
    """

    splitting: str = "words"

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield choice("splitting", self.splitting, SPLITTINGS)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class TokenClassification(Task):
    """A tag for each word, by cross-entropy: the first sub-word of each bears its tag.

    A row that is longer than the limit is cut into windows that overlap; every word is learned and predicted in the
    one window in which it has most context, so none is lost. The loss counts words.

    Args:
        class_weights: ``"balanced"``, or tag -> weight: how much the words of a tag count.
        label_smoothing: share of the target spread over all tags.
        stride: tokens that two windows share; a quarter of a window when None, half at most.
        learned: tags, weights, and how raw texts are cut into words; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> data = TaskDataset({"tokens": [["Ada", "'s", "notes"]], "tags": [["B-PER", "O", "O"]]})
        >>> task = TokenClassification(stride=16).learned_from(data)
        >>> task, task.label_names
        (TokenClassification(stride=16), ('B-PER', 'O'))
        >>> task.inputs_of("Ada's notes.")["tokens"]
        ['Ada', "'s", 'notes', '.']
    """

    name = "token-classification"
    told_by = (None,)
    usual_metrics = ("f1", "precision", "recall", "accuracy")
    auto_class = "AutoModelForTokenClassification"
    family = Spans
    shares_body = True

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
        tags, names = data.view("tags"), data.label_names or ()
        if len({tag for row in tags for tag in row}) < 2:
            raise LabelError(
                f"column {data.roles['tags']!r}: all words of {len(data):,} rows have the same tag; classification "
                "needs at least two in the training data"
            )
        learned = Learned(
            label_names=tuple(str(name) for name in names),
            class_weights=label_weights(self.class_weights, chain.from_iterable(tags), names),
            splitting=splitting_of(data.view("tokens")),
        )
        return replace(self, learned=learned)

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=Learned(**SingleLabel.brought(tuple(map(str, names)), self.class_weights)))

    @property
    def _label_names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.known.label_names
        return names

    @cached_property
    def _reader(self) -> TagReader:
        return TagReader(self._label_names)

    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, outputs=len(self._label_names), labels=self._label_names)

    def check_rows(self, data: TaskDataset) -> None:
        if data.is_labelled:
            check_labels(data.view("tags"), self._label_names, column=data.roles["tags"])

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ("tokens",)

    def write_options(self, encoder: TextEncoder) -> Mapping[str, Any]:
        return {"stride": self.stride}

    def write(self, data: TaskDataset, encoder: TextEncoder, writer: Writer) -> None:
        frame, first = encoder.frame(), 0
        room = window_room(encoder.max_length - frame.size, encoder.max_length, self.stride)
        for chunk in encoder.encode_words(data.view("tokens")):
            writer.extend(self._windows(chunk, frame, room, first))
            first += len(chunk.words)

    def encode(self, data: TaskDataset, encoder: TextEncoder, columns: Encoded | None = None) -> Encoded:
        """Windows over the words of each row; a note says which positions speak for a word, and have its tag."""
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found
        speaks = np.asarray(found.notes["words"].values, bool)  # type: ignore[union-attr]
        tags = np.full(len(speaks), IGNORED, np.int32)
        tags[speaks] = self._numbers(data)
        return found.with_targets({"tags": Ragged(tags, offsets_of(found.cost))})

    def _numbers(self, data: TaskDataset) -> NDArray[np.int32]:
        """(W,) The number of each word's tag."""
        number = {name: i for i, name in enumerate(self._label_names)}
        return np.fromiter((number[tag] for row in data.view("tags") for tag in row), np.int32)

    def _windows(self, chunk: WordChunk, frame: Frame, room: int, first_row: int) -> Encoded:
        """Cut rows into windows, lay control tokens around each, and mark what speaks for a word."""
        speaks = np.zeros(len(chunk.tokens), bool)
        speaks[np.cumsum(chunk.of_words) - chunk.of_words] = True  # the first token of each word
        tokens = np.concatenate([[0], np.cumsum(chunk.of_words)])  # before each word
        ends = np.cumsum(chunk.words)
        lengths = tokens[ends] - tokens[ends - chunk.words]
        rooms = np.full_like(lengths, room)
        windows = cut_windows(lengths, rooms, settled_stride(self.stride, rooms), speaks)
        windows = windows.keep(_holds_words(windows, speaks))
        places, offsets = windows.places(), offsets_of(windows.lengths)
        own = speaks[places] & windows.owned()
        inputs = framed(Ragged(chunk.tokens[places], offsets), frame.before, frame.after)
        notes = _around(Ragged(own.astype(np.int8), offsets), frame, 0)
        types = {
            name: inputs.alike(np.full(len(inputs.values), kinds[1], np.int8)) for name, kinds in frame.types.items()
        }
        owners = windows.owners + first_row
        return Encoded({"input_ids": inputs, **types}, {}, owners=owners, notes={"words": notes})

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
                f"the model returned {type(outputs).__name__}; expected scores: a tensor (rows, tokens, tags), or "
                "something that has one as .logits or 'logits', or first in a tuple"
            ) from None
        expected = (*batch.inputs["input_ids"].shape, len(self._label_names))
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs "
                f"{tuple(expected)}: rows times tokens times tags"
            )
        return found

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Weighted, smoothed cross-entropy over words; the count is the sum of the weights of their tags."""
        target = batch.targets["tags"]  # (B, T)
        learned = places(batch.at_hand.targets["tags"] != IGNORED, target.device)
        scores, target = self._scores(outputs, batch)[learned], target[learned]  # (W, K), (W,)
        weights = as_tensor(self.known.class_weights, scores)
        total = functional.cross_entropy(
            scores, target, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return LossSum(total, scores.new_full((), len(target)) if weights is None else weights[target].sum())

    def units(self, data: TaskDataset) -> float:
        weights = self.known.class_weights
        if weights is None:
            return float(sum(map(len, data.view("tags"))))
        return float(sum(weights[number] for number in self._numbers(data).tolist()))

    def decode(self, outputs: Any, batch: Batch) -> list[_Piece]:
        words = batch.notes["words"].bool()  # (B, T)
        best = torch.softmax(self._scores(outputs, batch)[words], dim=-1).max(dim=-1)  # (W,)
        ends = np.cumsum(words.sum(1).cpu().numpy()).tolist()
        tags, scores = best.indices.tolist(), best.values.tolist()
        return [_Piece(tuple(tags[a:b]), tuple(scores[a:b])) for a, b in pairwise([0, *ends])]

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[_Piece]) -> TokenLabels:
        words = tuple(data.view("tokens")[row])
        raw = data.view(_RAW)[row] if _RAW in data.columns else None
        tags = tuple(self._label_names[number] for piece in pieces for number in piece.tags)
        scores = tuple(score for piece in pieces for score in piece.scores)
        found = [
            (str(label), first, last + 1, math.fsum(scores[first : last + 1]) / (last + 1 - first))
            for label, first, last in spans(self._reader.read(tags))
        ]
        entities = [
            Entity(" ".join(words[first:last]), label, first, last, score) for label, first, last, score in found
        ]
        if raw is not None:
            places = split_words(raw, self.known.splitting)
            ends = [(places[first][0], places[last - 1][1]) for _, first, last, _ in found]
            entities = [
                replace(entity, text=raw[start:end], start=start, end=end)
                for entity, (start, end) in zip(entities, ends, strict=True)
            ]
        return TokenLabels(tags, tuple(entities), words, scores)

    def references(self, data: TaskDataset) -> Sequence[Sequence[str]]:
        tags: Sequence[Sequence[str]] = data.column("tags")
        return tags

    def inputs_of(self, example: object) -> dict[str, Any]:
        if isinstance(example, str):
            words = [example[start:end] for start, end in split_words(example, self.known.splitting)]
            if not words:
                raise DataError(f"the text {example!r:.60} holds no word")
            return {"tokens": words, _RAW: example}
        if not isinstance(example, Mapping) or "tokens" not in example:
            raise DataError(
                f"an input is a text, which is cut into words, or a mapping with 'tokens', a list of words; "
                f"found {brief(example, 80)}"
            )
        return {"tokens": example["tokens"], _RAW: None}

    def examples(self) -> list[object]:
        return ["Good.", "A longer sentence, with a comma and 1 number.", {"tokens": ["words"] * 20}]


def _holds_words(windows: Windows, speaks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) Whether each window owns the first token of a word; inside of a giant word there is nothing to say."""
    before = np.concatenate([[0], np.cumsum(speaks)])
    return np.asarray(before[windows.lasts] > before[windows.firsts])


def _around(bodies: Ragged, frame: Frame, value: int) -> Ragged:
    """Windows of notes or targets, with one value wherever a control token stands."""
    control = np.full(frame.size, value, bodies.values.dtype)
    return framed(bodies, control[: len(frame.before)], control[len(frame.before) :])
