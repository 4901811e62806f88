"""Which number of a model's answer is explained.

Letters: ``B`` settings of the dials, ``K`` outputs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from sftlib.encoders.batch import IGNORED, Batch
from sftlib.errors import OptionError
from sftlib.explain.dials import Dials
from sftlib.explain.pieces import Text
from sftlib.models.outputs import logits
from sftlib.support.checking import nearest
from sftlib.tasks.base import Task
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.text.question_answering import QuestionAnswering
from sftlib.tasks.text.seq2seq import Seq2Seq
from sftlib.tasks.text.token_classification import TokenClassification
from sftlib.tasks.vector import VectorTask


class Question(ABC):
    """What is asked of each answer of the model.

    Attributes:
        target: what is explained, as it is shown.
        has_chance: whether it has a probability.
    """

    target: Any = None
    has_chance: bool = True

    @abstractmethod
    def number(self, outputs: Any, batch: Batch) -> Tensor:
        """(B,) what is explained; the scores of pieces add up to it."""

    @abstractmethod
    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        """(B,) its probability, where it has one."""


@final
class OfVector(Question):
    """One of the ``K`` numbers of a row: the score of a label, or the value.

    Args:
        task: with what it learned.
        place: of the number.
    """

    def __init__(self, task: VectorTask, place: int) -> None:
        self._task = task
        self._place = place
        self.target = None if task.label_names is None else task.label_names[place]
        self.has_chance = task.label_names is not None

    def number(self, outputs: Any, batch: Batch) -> Tensor:
        return self._task.scores(outputs, batch)[:, self._place]

    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        scores = self._task.scores(outputs, batch)
        if isinstance(self._task, MultiLabelTask):
            return torch.sigmoid(scores[:, self._place])
        return torch.softmax(scores, dim=-1)[:, self._place]


@final
class OfTag(Question):
    """The score of a tag for one word.

    Args:
        names: all tags.
        word: its number.
        position: of the token that speaks for the word.
        place: of the tag.
    """

    def __init__(self, names: Sequence[Any], word: int, position: int, place: int) -> None:
        self._position, self._place = position, place
        self.target = (word, names[place])

    def number(self, outputs: Any, batch: Batch) -> Tensor:
        return logits(outputs)[:, self._position, self._place]

    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        return torch.softmax(logits(outputs)[:, self._position], dim=-1)[:, self._place]


@final
class OfAnswer(Question):
    """The score of a span: that it starts here, and that it ends there.

    Args:
        first: position of its first token.
        last: position of its last.
        text: what stands there.
    """

    def __init__(self, first: int, last: int, text: str) -> None:
        self._first, self._last = first, last
        self.target = text

    def number(self, outputs: Any, batch: Batch) -> Tensor:
        found = logits(outputs)  # (B, T, 2)
        return found[:, self._first, 0] + found[:, self._last, 1]

    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        allowed = in_context(batch).scatter(1, batch.notes["null"][:, None], True)
        chances = torch.log_softmax(logits(outputs).masked_fill(~allowed[..., None], -math.inf), dim=1)
        return (chances[:, self._first, 0] + chances[:, self._last, 1]).exp()


@final
class OfText(Question):
    """A text that is written: the logarithm of its probability, summed over its tokens, each given those before it.

    Its probability is the geometric mean over tokens: that of the whole is tiny for every text of some length.

    Args:
        text: as it is read off.
    """

    def __init__(self, text: str) -> None:
        self.target = text

    def number(self, outputs: Any, batch: Batch) -> Tensor:
        target = batch.targets["target"]  # (B, S)
        logs = torch.log_softmax(logits(outputs).float(), dim=-1)  # (B, S, V)
        found = logs.gather(2, target.clamp_min(0)[..., None])[..., 0]
        return (found * (target != IGNORED)).sum(dim=1)

    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        tokens = (batch.targets["target"] != IGNORED).sum(dim=1).clamp_min(1)
        return (self.number(outputs, batch) / tokens).exp()


def in_context(batch: Batch) -> Tensor:
    """(B, T) where the context of a question stands."""
    return batch.notes["ends"] > batch.notes["starts"]


def question_of(task: Task, dials: Dials, target: Any, texts: Sequence[Text]) -> Question:
    """The question that is meant.

    Args:
        task: of the model.
        dials: of the input.
        target: a label; None for the one that the model gives the input.
        texts: of the input.

    Raises:
        OptionError: no such label, a label of a model that has none, or a task whose answers are not explained.
    """
    if isinstance(task, TokenClassification):
        return _of_tag(task, dials, target)
    if isinstance(task, QuestionAnswering):
        return _of_answer(task, dials, target, texts)
    if isinstance(task, Seq2Seq):
        return OfText(target)
    if not isinstance(task, VectorTask):
        raise OptionError(
            f"explain: answers of {task.name} are not explained yet; labels, numbers, tags, spans and texts are"
        )
    names = task.label_names
    if names is None:
        if target is not None:
            raise OptionError(f"target={target!r:.60}: {task.name} has no labels; leave target out")
        return OfVector(task, 0)
    if target is None:
        (scores,) = dials.ends(task.scores)
        return OfVector(task, int(scores[0].argmax()))
    places = [k for k, name in enumerate(names) if type(name) is type(target) and name == target]
    if not places:
        raise OptionError(f"target={target!r:.60} is not among the labels: {nearest(target, names)}")
    return OfVector(task, places[0])


def _of_tag(task: TokenClassification, dials: Dials, target: Any) -> Question:
    names = task.known.label_names
    positions = torch.nonzero(dials.batch.notes["words"][0])[:, 0].tolist()
    (scores,) = dials.ends(lambda outputs, _: logits(outputs))
    chances = torch.softmax(scores[0, positions], dim=-1)  # (W, K)
    word, tag = target if isinstance(target, tuple) and len(target) == 2 else (target, None)
    if word is None:
        free = names.index("O") if "O" in names else None
        named = chances.max(dim=-1).values if free is None else 1 - chances[:, free]
        word = int(named.argmax())
    if not isinstance(word, int) or isinstance(word, bool) or not 0 <= word < len(positions):
        raise OptionError(
            f"target={target!r:.60}: expected the number of a word, from 0 to {len(positions) - 1}, or that and a tag, "
            f"such as (0, {names[0]!r})"
        )
    if tag is not None and tag not in names:
        raise OptionError(f"target={target!r:.60}: {tag!r} is not among the tags: {nearest(tag, names)}")
    place = int(chances[word].argmax()) if tag is None else names.index(tag)
    return OfTag(names, word, positions[word], place)


def _of_answer(task: QuestionAnswering, dials: Dials, target: Any, texts: Sequence[Text]) -> Question:
    context = next(text.text for text in texts if text.role == "context")
    starts, ends = (dials.batch.notes[name][0].tolist() for name in ("starts", "ends"))
    places = torch.nonzero(in_context(dials.batch)[0])[:, 0].tolist()
    if target is None:
        (scores,) = dials.ends(lambda outputs, _: logits(outputs))
        spans = [(i, j) for i in places for j in places if 0 <= j - i < task.max_answer_length]
        first, last = max(spans, key=lambda span: float(scores[0, span[0], 0] + scores[0, span[1], 1]))
        return OfAnswer(first, last, context[starts[first] : ends[last]])
    begin = context.find(target) if isinstance(target, str) and target else -1
    covered = [i for i in places if starts[i] < begin + len(target) and ends[i] > begin] if begin >= 0 else []
    if not covered:
        raise OptionError(f"target={target!r:.60}: expected an answer that stands in the context, word for word")
    return OfAnswer(covered[0], covered[-1], context[starts[covered[0]] : ends[covered[-1]]])
