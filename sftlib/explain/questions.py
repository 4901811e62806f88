"""Which number of a model's answer is explained.

Letters: ``B`` settings of the dials, ``K`` outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor

from sftlib.encoders.batch import Batch
from sftlib.errors import OptionError
from sftlib.explain.dials import Dials
from sftlib.support.checking import nearest
from sftlib.tasks.base import Task
from sftlib.tasks.multi_label import MultiLabelTask
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


def question_of(task: Task, dials: Dials, target: Any) -> Question:
    """The question that is meant.

    Args:
        task: of the model.
        dials: of the input.
        target: a label; None for the one that the model gives the input.

    Raises:
        OptionError: no such label, a label of a model that has none, or a task whose answers are not explained.
    """
    if not isinstance(task, VectorTask):
        raise OptionError(f"explain: answers of {task.name} are not explained yet; those of labels and numbers are")
    names = task.label_names
    if names is None:
        if target is not None:
            raise OptionError(f"target={target!r:.60}: {task.name} has no labels; leave target out")
        return OfVector(task, 0)
    if target is None:
        (scores,) = dials.values(torch.ones(1, dials.pieces), task.scores)
        return OfVector(task, int(scores[0].argmax()))
    places = [k for k, name in enumerate(names) if type(name) is type(target) and name == target]
    if not places:
        raise OptionError(f"target={target!r:.60} is not among the labels: {nearest(target, names)}")
    return OfVector(task, places[0])
