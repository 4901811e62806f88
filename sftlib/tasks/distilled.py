"""Learning what another model says of rows, and their labels where they have some: a task around a task.

Letters: ``N`` rows, ``B`` rows of a micro-batch, ``K`` outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.splitting import keys
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.tasks.around import Around
from sftlib.tasks.base import LossSum
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.regression import RegressionTask
from sftlib.tasks.single_label import OneLabelTask

Scores = NDArray[np.float32]


@final
class TeacherScores:
    """What a teacher says of rows, found again by what the rows say.

    Args:
        data: the rows.
        scores: (N, K) before any softmax.
    """

    def __init__(self, data: TaskDataset, scores: Scores) -> None:
        self._found = dict(zip(_named(data), scores, strict=True))

    def of(self, data: TaskDataset) -> Scores | None:
        """(N, K) of these rows; None where the teacher was not asked about all of them."""
        found = [self._found.get(name) for name in _named(data)]
        known = [one for one in found if one is not None]
        return np.stack(known) if known and len(known) == len(found) else None


def _named(data: TaskDataset) -> list[bytes]:
    named: list[bytes] = keys(list(data.asked().values())).tolist()
    return named


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Distilled(Around):
    """The loss of Hinton et al. (2015, 1503.02531): ``alpha`` times what the teacher says, the rest times the labels.

    What the teacher says is softened by a temperature T: T^2 times the divergence of the student's probabilities from
    the teacher's, both of scores divided by T; of labels that are each for itself averaged over labels; of numbers the
    squared difference. The count is the number of rows, so `inner` must not weight its labels. Rows that the teacher
    was not asked about, such as validation rows, are judged as the inner task judges them.

    Args:
        inner: what rows are, and how they are read.
        teacher: what the teacher says.
        temperature: T.
        alpha: share of the teacher, where rows have labels; without labels the teacher is all there is.
    """

    inner: OneLabelTask | MultiLabelTask | RegressionTask
    teacher: TeacherScores
    temperature: float = 2.0
    alpha: float = 0.9

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found, scores = self.inner.encode(data, encoder, columns), self.teacher.of(data)
        if scores is None:
            return found
        return found.with_targets({**found.targets, "teacher": scores[found.owners]})

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        teacher = batch.targets.get("teacher")
        if teacher is None:
            return self.inner.loss(outputs, batch)
        scores = self.inner.scores(outputs, batch)  # (B, K)
        soft, count = self._apart(scores, teacher.to(scores.dtype)), scores.new_tensor(len(scores))
        if "target" not in batch.targets:
            return LossSum(soft, count)
        hard = self.inner.loss(outputs, batch)
        return LossSum(self.alpha * soft + (1 - self.alpha) * hard.total * (count / hard.count), count)

    def _apart(self, student: Tensor, teacher: Tensor) -> Tensor:
        """() how far scores are from the teacher's, summed over rows; (B, K) both."""
        t = self.temperature
        if isinstance(self.inner, RegressionTask):
            return functional.mse_loss(student, teacher, reduction="sum")
        if isinstance(self.inner, OneLabelTask):
            ours, theirs = (functional.log_softmax(part / t, dim=-1) for part in (student, teacher))
            return t * t * functional.kl_div(ours, theirs, reduction="sum", log_target=True)
        wanted = (teacher / t).sigmoid()
        crossed, least = (
            functional.binary_cross_entropy_with_logits(part / t, wanted, reduction="sum")
            for part in (student, teacher)
        )
        return t * t * (crossed - least) / student.shape[1]
