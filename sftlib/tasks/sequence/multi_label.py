"""Multi-label sequence classification: any of ``K`` labels per sequence, or no and yes with gaps for several targets.

Letters: ``N`` rows, ``B`` rows of a batch, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import DataError, LabelError
from sftlib.metrics import Metrics, TargetClasses
from sftlib.metrics import MultiLabel as MultiLabelMetrics
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, true_or_false
from sftlib.support.values import Problem
from sftlib.tasks.base import LossSum
from sftlib.tasks.labels import (
    AnswerWeights,
    ClassWeights,
    Labels,
    answer_weights,
    answers_problem,
    check_labels,
    weighted_answers,
)
from sftlib.tasks.labels import weights_problems as label_weights_problems
from sftlib.tasks.multi_label import MultiLabel, answers_of, labels_of
from sftlib.tasks.pairs import Form
from sftlib.tasks.sequence.letters import LetterTask
from sftlib.tasks.sequence.targets import (
    TargetWeights,
    by_name,
    check_names,
    counted,
    names_of,
    table_of,
    weights_of,
    weights_problems,
    with_marks,
)


@dataclass(frozen=True, kw_only=True)
class Learned(Labels, Form):
    """What training data decided.

    Attributes:
        weights: of each label in the loss, or None.
        class_weights: of each label how much a no and how much a yes counts, or None.
        gaps: whether rows have a mapping of targets, some of which may be missing, and not a list of labels.
    """

    weights: tuple[float, ...] | None = None
    class_weights: AnswerWeights = None
    gaps: bool = False

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield true_or_false("gaps", self.gaps)
        weights, names = self.weights, self.label_names
        if weights is not None and not (
            isinstance(weights, tuple) and len(weights) == len(names) and min(weights) >= 0
        ):
            yield "weights: expected a number of at least 0 for each label, or null"
        yield answers_problem(self.class_weights, len(names))


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class MultiLabelSequenceClassification(LetterTask):
    """Any of ``K`` labels per sequence, by binary cross-entropy averaged over rows and labels.

    Rows have a list of ``labels``, or ``targets=[...]``: a column for each, of 0 and 1 and gaps, which count nowhere.

    Args:
        target_weights: target -> how much it counts; 1 where it is not named.
        class_weights: ``"balanced"``, or label -> weight: how much a yes for a label counts beside a no.
        learned: the labels and their weights; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> rows = {"sequence": ["CCO", "C=O"], "toxic": [0, 1], "bitter": [None, 1]}
        >>> data = TaskDataset(rows, targets=["toxic", "bitter"])
        >>> data.task, MultiLabelSequenceClassification().learned_from(data).label_names
        ('multi-label-sequence-classification', ('toxic', 'bitter'))
    """

    name = "multi-label-sequence-classification"
    usual_metrics = ("roc_auc", "average_precision", "f1_macro", "hamming")
    shares_body = False  # targets with gaps: how many count is known of each row alone

    target_weights: TargetWeights = None
    class_weights: ClassWeights = None
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        return [*weights_problems(self.target_weights), *label_weights_problems(self.class_weights)]

    def learned_from(self, data: TaskDataset) -> Self:
        gaps = "targets" in data.roles
        names = names_of(data) if gaps else labels_of(data)
        found = _with_gaps(data) if gaps else answers_of(data, names)
        weights = weights_of(self.target_weights, [str(name) for name in names])
        balance = answer_weights(self.class_weights, names, *found)
        form = {"gaps": gaps, "pair": self.has_pairs(data.roles)}
        return replace(self, learned=Learned(label_names=names, weights=weights, class_weights=balance, **form))

    @property
    def head(self) -> Head:
        names = tuple(str(name) for name in self.known.label_names)
        return Head(
            auto_class=self.auto_class,
            outputs=len(names),
            problem_type="multi_label_classification",
            labels=names,
        )

    def check_targets(self, data: TaskDataset) -> None:
        gaps = "targets" in data.roles
        if gaps != self.known.gaps:
            had, has = ("targets=[...]", "labels=...") if self.known.gaps else ("labels=...", "targets=[...]")
            raise DataError(f"the data set has {has}, the model learned {had}")
        if gaps:
            check_names(data, self.known.label_names)
        else:
            check_labels(data.column("labels"), self.known.label_names, column=data.roles["labels"])

    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, 2, K) 1 where a row has the label, and 1 where it is known whether it has."""
        if self.known.gaps:
            return with_marks(table_of(data, self.known.label_names))
        number = {name: k for k, name in enumerate(self.known.label_names)}
        hot = np.zeros((len(data), len(number)), dtype=np.float64)
        for row, labels in zip(hot, data.column("labels"), strict=True):
            row[[number[label] for label in labels]] = 1.0
        return with_marks(hot)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed binary cross-entropy; the count is the number of targets that are there, or of their weights."""
        scores = self.scores(outputs, batch)  # (B, K)
        target, counts = counted(batch.targets["target"], self.known.weights, scores)
        errors, weights = weighted_answers(scores, target, self.known.class_weights)  # (B, K) both
        return LossSum((errors * counts).sum(), (weights * counts).sum())

    def decode(self, outputs: Any, batch: Batch) -> list[MultiLabel]:
        rows = by_name(self.known.label_names, torch.sigmoid(self.scores(outputs, batch)).tolist())
        return [MultiLabel(tuple(name for name, value in row.items() if value >= 0.5), row) for row in rows]

    def references(self, data: TaskDataset) -> Sequence[Any]:
        references: Sequence[Any] = data.column("targets" if self.known.gaps else "labels")
        return references

    def metrics(self, names: Sequence[Any] | None = None) -> Metrics:
        chosen = self.usual_metrics if names is None else names
        names = ["loss", *(name for name in chosen if name != "loss")]
        if self.known.gaps:
            return Metrics(names, family=TargetClasses.of(self.known.label_names))
        return Metrics(names, label_names=self.label_names, family=MultiLabelMetrics)


def _with_gaps(data: TaskDataset) -> tuple[list[int], list[int]]:
    """Of each target the rows that have it, and those of which it is known.

    Raises:
        LabelError: nothing can be learned, since each is the same wherever it is known.
    """
    names = names_of(data)
    table = table_of(data, names)
    if all(len(np.unique(column[~np.isnan(column)])) < 2 for column in table.T):
        raise LabelError(
            f"targets {', '.join(map(repr, names))}: all rows that have one have the same; nothing to learn"
        )
    known = (~np.isnan(table)).sum(axis=0)
    return np.nansum(table, axis=0).astype(int).tolist(), known.tolist()
