"""Relation extraction: how two places of a text, its head and its tail, are related.

Letters: ``N`` rows, ``L`` tokens of all rows together, ``B`` rows of a micro-batch, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.encoders.encoded import Ragged, offsets_of, ranges
from sftlib.encoders.text.tokenizer import PlacedChunk, TextEncoder
from sftlib.encoders.text.windows import framed
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Bound, Relations
from sftlib.support.checking import checked_fields, nearest, one_of_types, true_or_false
from sftlib.support.values import Problem
from sftlib.tasks.base import Label
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.single_label import OneLabelTask, SingleLabel

MARKERS = ("[HEAD]", "[/HEAD]", "[TAIL]", "[/TAIL]")
#: Labels that say "not related", where nothing else is said.
USUAL_NEGATIVES = ("no_relation", "no relation", "Other", "other", "NA", "none")

Span: TypeAlias = tuple[int, int]

_LEAST = 8  # tokens of a row, its markers included


@dataclass(frozen=True, kw_only=True)
class Learned(WeightedLabels):
    """What training data decided.

    Attributes:
        words: whether rows have words (role ``tokens``) rather than a text.
        negative_label: the label for "not related", or None.
    """

    words: bool = False
    negative_label: Label | None = None

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield true_or_false("words", self.words)
        yield _negative_problem(self.negative_label)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class RelationExtraction(OneLabelTask):
    """One of ``K`` relations between two marked places of a text, by cross-entropy.

    Head and tail stand between markers of their own (Baldini Soares et al., 2019): tokens that are added to the
    vocabulary and learned. Of a text that is too long, the tokens nearest to a marker are kept.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels.
        negative_label: the label for "not related", which metrics do not count as a relation; ``"no_relation"`` and the
            like where there is one when None.
        learned: labels, weights, and what rows are made of; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> RelationExtraction(negative_label="none").markers
        ('[HEAD]', '[/HEAD]', '[TAIL]', '[/TAIL]')
    """

    name = "relation-extraction"
    usual_metrics = ("f1_micro", "f1_macro", "precision_micro", "recall_micro", "accuracy")
    renamed = {"negative": "negative_label"}  # noqa: RUF012 - declared a ClassVar in the base

    negative_label: Label | None = None
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        return [*super().problems(), _negative_problem(self.negative_label)]

    def learned_from(self, data: TaskDataset) -> Self:
        labels = SingleLabel.learned_from(data, self.class_weights)
        negative = _negative(self.negative_label, labels["label_names"])
        return replace(self, learned=Learned(**labels, words="tokens" in data.roles, negative_label=negative))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        labels, negative = SingleLabel.brought(names, self.class_weights), _negative(self.negative_label, names)
        return replace(self, learned=Learned(**labels, words="tokens" in roles, negative_label=negative))

    @property
    def _words(self) -> bool:
        return bool(self.known.words)

    @property
    def markers(self) -> tuple[str, ...]:
        return MARKERS

    def check_form(self, data: TaskDataset) -> None:
        if self._words != ("tokens" in data.roles):
            had, has = ("words", "texts") if self._words else ("texts", "words")
            raise DataError(f"the data set has {has}, the model was made for {had} (roles 'text' and 'tokens')")

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ("tokens" if self._words else "text", "head", "tail")

    def write(self, data: TaskDataset, encoder: TextEncoder, writer: Writer) -> None:
        frame = encoder.frame()
        room = encoder.max_length - frame.size
        if room < _LEAST:
            raise OptionError(
                f"max_length={encoder.max_length}: expected at least {_LEAST + frame.size}, so that both places fit "
                "with their markers"
            )
        markers = np.array(encoder.tokenizer.convert_tokens_to_ids(list(MARKERS)), np.int32)
        places = zip(data.view("head"), data.view("tail"), strict=True)
        texts = self._placed_words if self._words else self._placed_text
        for chunk in texts(data, encoder):
            rows = [
                _marked(tokens, (_covered(starts, ends, head), _covered(starts, ends, tail)), markers)
                for (tokens, starts, ends), (head, tail) in zip(_rows(chunk), places, strict=False)
            ]
            kept = [_nearest(tokens, apart, room) for tokens, apart in rows]
            bodies = Ragged(np.concatenate(kept), offsets_of(np.array([len(row) for row in kept])))
            found = framed(bodies, frame.before, frame.after)
            types = {name: np.full(len(found.values), kinds[1], np.int8) for name, kinds in frame.types.items()}
            cut = np.array([len(tokens) for tokens, _ in rows]) - bodies.lengths
            writer.add({"input_ids": found.values, **types}, lengths=found.lengths, cut=cut)

    def _placed_text(self, data: TaskDataset, encoder: TextEncoder) -> Iterator[PlacedChunk]:
        return encoder.encode_places(data.view("text"))

    def _placed_words(self, data: TaskDataset, encoder: TextEncoder) -> Iterator[PlacedChunk]:
        """Tokens of words stand at their word, as those of a text at their characters."""
        for chunk in encoder.encode_words(data.view("tokens")):
            word = ranges(np.zeros(len(chunk.words), np.int64), chunk.words)  # (W,) its number in its row
            starts, ends = np.repeat(word, chunk.of_words), np.cumsum(chunk.words)
            tokens = np.concatenate([[0], np.cumsum(chunk.of_words)])
            yield PlacedChunk(chunk.tokens, starts, starts + 1, tokens[ends] - tokens[ends - chunk.words])

    def inputs_of(self, example: object) -> dict[str, Any]:
        wanted = self.reads
        if not isinstance(example, Mapping) or not set(wanted) <= example.keys():
            raise DataError(
                f"an input is a mapping with {', '.join(map(repr, wanted))} (spans: start and end); found "
                f"{brief(example, 80)}"
            )
        return {role: example[role] for role in wanted}

    def examples(self) -> list[object]:
        texts = ["Ada met Charles.", "A longer sentence, with a comma and 1 number.", "words " * 20]
        if self._words:
            return [{"tokens": text.split(), "head": (0, 1), "tail": (2, 3)} for text in texts]
        return [{"text": text, "head": (0, 1), "tail": (8, 12)} for text in texts]

    # What the model says.

    @property
    def family(self) -> Bound:  # type: ignore[override]
        """Micro and macro averages without the label for "not related", as TACRED is scored."""
        return Relations.excluding(self.known.negative_label)


def _negative_problem(value: object) -> Problem:
    return one_of_types("negative_label", value, str | int | None, "one of the labels, or None")


def _negative(given: Label | None, names: Sequence[Label]) -> Label | None:
    """The label for "not related": as it was given, or a usual one that is there."""
    if given is None:
        return next((name for name in USUAL_NEGATIVES if name in names), None)
    if given not in names:
        raise OptionError(f"negative_label={given!r} is not among the labels: {nearest(given, names)}")
    return given


def _rows(chunk: PlacedChunk) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    for start, end in pairwise(offsets_of(chunk.lengths).tolist()):
        yield chunk.tokens[start:end], chunk.starts[start:end], chunk.ends[start:end]


def _covered(starts: NDArray[Any], ends: NDArray[Any], span: Span) -> Span:
    """The first token that a span touches, and the one after its last."""
    first = int(np.searchsorted(ends, span[0], side="right"))
    return first, max(first, int(np.searchsorted(starts, span[1], side="left")))


def _marked(
    tokens: NDArray[np.int32], spans: tuple[Span, Span], markers: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Put markers around two spans, which may lie in each other.

    Returns:
        The tokens, and how far each is from a marker, twice; one more outside of both spans.
    """
    events = []
    for (first, last), opening, closing in zip(spans, markers[::2], markers[1::2], strict=True):
        size = last - first
        events.append((first, 1, -size, opening))  # at one place: what ends, ends first; what is longer, begins first
        events.append((last, 0 if size else 2, size, closing))
    events.sort()
    at = np.array([place for place, *_ in events]) + np.arange(len(events))
    found = np.insert(tokens, [place for place, *_ in events], [marker for *_, marker in events])
    depth = np.zeros(len(found), np.int64)
    depth[at] = [1 if kind == 1 else -1 for _, kind, *_ in events]
    apart = np.abs(np.arange(len(found))[:, None] - at).min(axis=1)
    return found, 2 * apart + (np.cumsum(depth) == 0) * (apart > 0)


def _nearest(tokens: NDArray[np.int32], apart: NDArray[np.int64], room: int) -> NDArray[np.int32]:
    """As many tokens as there is room for, those nearest to a marker first; they stay in order."""
    return tokens if len(tokens) <= room else tokens[np.sort(np.argsort(apart, kind="stable")[:room])]
