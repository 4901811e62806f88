"""Question answering: the span of a context that answers a question, or none.

Letters: ``N`` rows, ``B`` windows of a micro-batch, ``T`` positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.encoders.batch import Batch, places
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of, ranges
from sftlib.encoders.text.tokenizer import Frame, TextEncoder
from sftlib.encoders.text.windows import Windows, cut_windows, framed, settled_stride, window_room
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.metrics import Answers
from sftlib.metrics.answers import overlap
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, real_number, true_or_false, whole_number
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Label, LossSum, Task

_BLOCK = 2**11  # rows tokenised together; a context that several of them share is tokenised once
_NEVER = float("-inf")


@final
@dataclass(frozen=True)
class Answer:
    """The answer to a question: ``context[start:end]``.

    Attributes:
        answer: empty where the context does not answer the question.
        start: its first character in the context; 0 without an answer.
        end: the character after its last; 0 without an answer.
        score: probability of its first times that of its last token, in the window it was found in, 0 to 1.
        best: the best span, also where it is not the answer.
        null_odds: by how much "no answer" is preferred to the best span, in logits; compared with the threshold.
    """

    answer: str
    start: int
    end: int
    score: float
    best: str = field(repr=False, compare=False)
    null_odds: float = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Prediction(answer={self.answer!r}, start={self.start}, end={self.end}, score={self.score:.4g})"


class _Piece(NamedTuple):
    """What a window says: its best span, and how likely it holds none."""

    score: float
    start: int
    end: int
    probability: float
    null_score: float
    null_probability: float


class _Texts(NamedTuple):
    """Tokens of some texts, and the characters that each stands for."""

    tokens: Ragged
    starts: Ragged
    ends: Ragged


@dataclass(frozen=True, kw_only=True)
class Learned(Checked):
    """What the data decided.

    Attributes:
        unanswerable: whether the training data has questions without an answer; otherwise every question gets one.
        threshold: how much "no answer" must be preferred, in logits; chosen on the validation data after a run.
    """

    unanswerable: bool
    threshold: float = 0.0

    def problems(self) -> Iterable[Problem]:
        yield true_or_false("unanswerable", self.unanswerable)
        yield real_number("threshold", self.threshold, -math.inf, expected="a finite number")


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class QuestionAnswering(Task):
    """The span of a context that answers a question, by cross-entropy over where it starts and where it ends.

    A context that is too long is read in windows, each behind the question. A window that does not hold the whole
    answer is taught, and says, that there is none: both ends on the control token in front. Of several windows the span
    with the highest sum of logits is the answer; there is none if every window prefers that by more than the threshold.
    The loss counts windows.

    Args:
        stride: tokens that two windows share; a quarter of a window when None, half at most.
        max_answer_length: tokens of an answer.
        learned: whether there are questions without an answer, and the threshold; from the data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> task = QuestionAnswering(stride=64, max_answer_length=20)
        >>> task
        QuestionAnswering(stride=64, max_answer_length=20)
        >>> task.inputs_of({"question": "Where?", "context": "In Rome."})
        {'question': 'Where?', 'context': 'In Rome.'}
    """

    name = "question-answering"
    told_by = (None,)
    usual_metrics = ("exact_match", "f1")
    auto_class = "AutoModelForQuestionAnswering"
    family = Answers
    shares_body = True

    stride: int | None = None
    max_answer_length: int = 30  # as the scripts of SQuAD have it
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        return [
            self.stride is not None and whole_number("stride", self.stride, at_least=0),
            whole_number("max_answer_length", self.max_answer_length, at_least=1),
        ]

    def learned_from(self, data: TaskDataset) -> Self:
        answered = [bool(answers["text"]) for answers in data.view("answers")]
        if not any(answered):
            raise LabelError(
                f"column {data.roles['answers']!r}: none of the {len(data):,} questions has an answer, so there is "
                "nothing to learn"
            )
        return replace(self, learned=Learned(unanswerable=not all(answered)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=Learned(unanswerable=True))

    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, outputs=2)

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ("question", "context", "answers")

    def write_options(self, encoder: TextEncoder) -> Mapping[str, Any]:
        return {"stride": self.stride}

    def write(self, data: TaskDataset, encoder: TextEncoder, writer: Writer) -> None:
        """A window is the question, cut to half of the limit, and a part of the context.

        Notes say which characters each position stands for (none outside of the context), and where "no answer" is.
        """
        frame = encoder.frame(pair=True)
        room = window_room(encoder.max_length - frame.size, encoder.max_length, self.stride)
        for start in range(0, len(data), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(data)))
            questions = _tokenised(data.view("question")[rows], encoder).tokens
            contexts = _tokenised(data.view("context")[rows], encoder)
            answers = data.view("answers")[rows] if data.is_labelled else None
            writer.extend(self._windows(questions, contexts, answers, frame, room, start))

    def _windows(
        self,
        asked: Ragged,
        contexts: _Texts,
        answers: Sequence[Mapping[str, Any]] | None,
        frame: Frame,
        room: int,
        first_row: int,
    ) -> Encoded:
        questions = _shortened(asked, max(1, room // 2))
        rooms = room - questions.lengths
        windows = cut_windows(contexts.tokens.lengths, rooms, settled_stride(self.stride, rooms))
        own = questions.take(windows.owners)
        offsets, places = offsets_of(windows.lengths), windows.places()
        control = (frame.before, frame.between, frame.after)

        def of_context(values: NDArray[Any]) -> Ragged:
            """Values of the contexts' tokens, and 0 everywhere else."""
            return _between(
                _like(own, 0), Ragged(values[places], offsets), tuple(np.zeros(len(part), np.int64) for part in control)
            )

        ids = _between(own, Ragged(contexts.tokens.values[places], offsets), control)
        inputs = {"input_ids": ids}
        for name, kinds in frame.types.items():
            filled = tuple(np.full(len(part), kinds[i]) for part, i in zip(control, (0, 2, 4), strict=True))
            types = _between(_like(own, kinds[1]), Ragged(np.full(len(places), kinds[3]), offsets), filled)
            inputs[name] = ids.alike(types.values.astype(np.int8))
        targets: dict[str, NDArray[Any] | Ragged] = {}
        if answers is not None:
            before = frame.size - len(frame.after) + own.lengths
            targets = _targets(answers, contexts, windows, before, frame.null)
        notes: dict[str, NDArray[Any] | Ragged] = {
            "starts": of_context(contexts.starts.values.astype(np.int32)),
            "ends": of_context(contexts.ends.values.astype(np.int32)),
            "null": np.full(len(own), frame.null, np.int64),
        }
        lost = (asked.lengths - questions.lengths)[windows.owners]
        return Encoded(inputs, targets, cut=lost, owners=windows.owners + first_row, notes=notes)

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        return np.flatnonzero(np.asarray(encoded.targets["lost"]))

    # What the model says.

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        """(B, T, 2) Scores of where an answer starts and where it ends.

        Raises:
            OptionError: a model that returns something else.
        """
        found = call(model, inputs)
        if isinstance(found, Tensor):
            return found
        parts = found if isinstance(found, Mapping) else vars(found) if not isinstance(found, tuple) else {}
        start, end = parts.get("start_logits"), parts.get("end_logits")
        if not parts and isinstance(found, tuple) and len(found) >= 2:
            start, end = found[:2]
        if not isinstance(start, Tensor) or not isinstance(end, Tensor):
            raise OptionError(
                f"the model returned {type(found).__name__}; expected something that has .start_logits and "
                ".end_logits, each (rows, tokens), or a tensor (rows, tokens, 2)"
            )
        return torch.stack([start, end], dim=-1)

    def _scores(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T, 2) scores, -inf where neither the context nor "no answer" is; and (B, T) where the context is.

        Raises:
            OptionError: a model whose output has another shape.
        """
        found, expected = logits(outputs), (*batch.inputs["input_ids"].shape, 2)
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs "
                f"{tuple(expected)}: rows times tokens times start and end"
            )
        context = batch.notes["ends"] > batch.notes["starts"]
        allowed = context.scatter(1, batch.notes["null"][:, None], True)
        return found.masked_fill(~allowed[..., None], _NEVER), context

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """The mean of both ends' cross-entropy over context and "no answer"; the count is the number of windows."""
        scores, _ = self._scores(outputs, batch)
        learned = places(~batch.at_hand.targets["lost"], scores.device)
        target = torch.stack([batch.targets["start"], batch.targets["end"]], dim=-1)  # (B, 2)
        chosen = torch.log_softmax(scores, dim=1).gather(1, target[:, None]).squeeze(1)  # (B, 2)
        return LossSum(-chosen[learned].sum() / 2, scores.new_full((), len(learned[0])))

    def decode(self, outputs: Any, batch: Batch) -> list[_Piece]:
        scores, context = self._scores(outputs, batch)
        chances = torch.log_softmax(scores, dim=1)  # (B, T, 2)
        best, start, end = _best_spans(scores.masked_fill(~context[..., None], _NEVER), self.max_answer_length)
        rows, null = torch.arange(len(scores), device=scores.device), batch.notes["null"]
        columns = (
            best,
            batch.notes["starts"][rows, start],
            batch.notes["ends"][rows, end],
            (chances[rows, start, 0] + chances[rows, end, 1]).exp(),
            scores[rows, null].sum(-1),
            chances[rows, null].sum(-1).exp(),
        )
        return [_Piece(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[_Piece]) -> Answer:
        found = max(pieces, key=lambda piece: piece.score)
        null = min(pieces, key=lambda piece: piece.null_score)
        odds = null.null_score - found.score
        best = "" if found.score == _NEVER else data.view("context")[row][found.start : found.end]
        if not best or (self.known.unanswerable and odds > self.known.threshold):
            return Answer("", 0, 0, null.null_probability, best, odds)
        return Answer(best, found.start, found.end, found.probability, best, odds)

    @property
    def settles(self) -> bool:
        return bool(self.known.unanswerable)

    def settled(self, data: TaskDataset, predictions: Sequence[Answer]) -> Self:
        """The same with the threshold under which F1 on these rows is highest; of several the one nearest to 0."""
        rows = [
            (
                found.null_odds,
                max((overlap(text, found.best) for text in answers["text"]), default=0.0),
                answers["text"],
            )
            for found, answers in zip(predictions, self.references(data), strict=True)
        ]
        threshold = _best_threshold([(odds, f1 - (not texts)) for odds, f1, texts in rows])
        return replace(self, learned=replace(self.known, threshold=threshold))

    def references(self, data: TaskDataset) -> Sequence[Mapping[str, Any]]:
        answers: Sequence[Mapping[str, Any]] = data.column("answers")
        return answers

    def inputs_of(self, example: object) -> dict[str, Any]:
        if not isinstance(example, Mapping) or not {"question", "context"} <= example.keys():
            raise DataError(f"an input is a mapping with 'question' and 'context'; found {brief(example, 80)}")
        return {"question": example["question"], "context": example["context"]}

    def examples(self) -> list[object]:
        contexts = ["Good.", "A longer sentence, with a comma and 1 number.", "words " * 20]
        return [{"question": "How many numbers?", "context": context} for context in contexts]


def _tokenised(texts: Sequence[str], encoder: TextEncoder) -> _Texts:
    """Tokens of texts; those that come several times are tokenised once."""
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    chunks = list(encoder.encode_places(list(number)))
    offsets = offsets_of(np.concatenate([chunk.lengths for chunk in chunks]))
    rows = np.fromiter(map(number.__getitem__, texts), np.int64, len(texts))
    parts = (np.concatenate([chunk[i] for chunk in chunks]) for i in (0, 1, 2))
    tokens, starts, ends = (Ragged(part, offsets).take(rows) for part in parts)
    lengths = offsets_of(tokens.lengths)
    return _Texts(*(Ragged(part.values, lengths) for part in (tokens, starts, ends)))


def _shortened(rows: Ragged, most: int) -> Ragged:
    """The first tokens of each row."""
    lengths = np.minimum(rows.lengths, most)
    return Ragged(rows.values[ranges(rows.offsets[:-1], lengths)], offsets_of(lengths))


def _like(rows: Ragged, value: int) -> Ragged:
    return Ragged(np.full(int(rows.lengths.sum()), value), offsets_of(rows.lengths))


def _between(first: Ragged, second: Ragged, control: tuple[NDArray[Any], ...]) -> Ragged:
    """Two texts a row, with what stands before, between and after them."""
    return framed(second, framed(first, control[0], control[1]), control[2])


def _targets(
    answers: Sequence[Mapping[str, Any]], contexts: _Texts, windows: Windows, before: NDArray[np.int64], null: int
) -> dict[str, NDArray[Any] | Ragged]:
    """(N,) Positions of the first answer's ends in each window that holds it whole, and where none does.

    Args:
        answers: of each row.
        contexts: of each row.
        windows: over the contexts.
        before: (N,) how much stands before the context in each window.
        null: position of "no answer".
    """
    spans = np.full((len(answers), 2), -1, np.int64)
    offsets = contexts.tokens.offsets
    for row, answer in enumerate(answers):
        if answer["text"]:
            begin = answer["answer_start"][0]
            end = begin + len(answer["text"][0])
            spans[row, 0] = offsets[row] + np.searchsorted(contexts.ends[row], begin, side="right")
            spans[row, 1] = offsets[row] + np.searchsorted(contexts.starts[row], end, side="left") - 1
    first, last = spans[windows.owners].T
    inside = (windows.starts <= first) & (first <= last) & (last < windows.ends)
    inside[inside] = _stands(contexts, first[inside]) & _stands(contexts, last[inside])
    asked = spans[:, 0] >= 0
    found = np.zeros(len(answers), bool)
    np.logical_or.at(found, windows.owners, inside)
    shift = before - windows.starts
    return {
        "start": np.where(inside, first + shift, null),
        "end": np.where(inside, last + shift, null),
        "lost": (asked & ~found)[windows.owners],
    }


def _stands(contexts: _Texts, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether tokens stand for any character."""
    return np.asarray(contexts.ends.values[places] > contexts.starts.values[places])


def _best_spans(scores: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) The highest sum of a start's and an end's score in each window, and where these are.

    Args:
        scores: (B, T, 2) starts and ends, -inf where none may be.
        longest: positions of a span.
    """
    starts, ends = scores.unbind(-1)  # (B, T)
    best = torch.full_like(starts[:, 0], _NEVER)
    start, end = (torch.zeros(len(scores), dtype=torch.int64, device=scores.device) for _ in range(2))
    for more in range(min(longest, starts.shape[1])):
        found, place = (starts[:, : starts.shape[1] - more] + ends[:, more:]).max(dim=1)
        better = found > best
        best, start = torch.where(better, found, best), torch.where(better, place, start)
        end = torch.where(better, place + more, end)
    return best, start, end


def _best_threshold(rows: Sequence[tuple[float, float]]) -> float:
    """Where to cut: rows at or below the threshold are answered.

    Args:
        rows: of each its odds, and what is gained by answering it.

    Example:
        >>> _best_threshold([(-3.0, 1.0), (-1.0, 0.5), (2.0, -1.0)]), _best_threshold([(1.0, 1.0), (4.0, -1.0)])
        (0.0, 2.5)
    """
    rows = sorted(row for row in rows if math.isfinite(row[0]))
    if not rows:
        return 0.0
    odds = [rows[0][0] - 2, *(row[0] for row in rows), rows[-1][0] + 2]
    cuts = [
        (total, 0.0 if low <= 0 < high else (low + high) / 2)
        for total, (low, high) in zip(accumulate((row[1] for row in rows), initial=0.0), pairwise(odds), strict=True)
        if low < high
    ]
    most = max(total for total, _ in cuts)
    return min((cut for total, cut in cuts if total >= most - 1e-9), key=abs)
