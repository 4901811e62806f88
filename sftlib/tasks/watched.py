"""A task with labels that is watched while it is learned: how sure the model is of each row's label, step by step.

Letters: ``B`` rows of a micro-batch, ``K`` labels, ``N`` rows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.encoders.batch import Batch
from sftlib.tasks.around import Around
from sftlib.tasks.base import LossSum
from sftlib.tasks.single_label import OneLabelTask


@final
class Seen:
    """What was seen of each row whenever it was learned from."""

    def __init__(self) -> None:
        self._of: dict[int, list[tuple[float, float]]] = defaultdict(list)

    def add(self, rows: Tensor, margins: Tensor, chances: Tensor) -> None:
        """Take what one pass showed.

        Args:
            rows: (B,) numbers.
            margins: (B,) score of the label less the largest of any other.
            chances: (B,) probability of the label.
        """
        for row, *both in zip(rows.tolist(), margins.tolist(), chances.tolist(), strict=True):
            self._of[row].append((both[0], both[1]))

    def of(self, row: int) -> NDArray[np.float64]:
        """(E, 2) margin and probability each time that a row was learned from."""
        return np.array(self._of.get(row, []), np.float64).reshape(-1, 2)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Watched(Around):
    """The same loss, of the same scores; what it is computed from is written down.

    Args:
        inner: the task.
        seen: where to write.
    """

    inner: OneLabelTask
    seen: Seen

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        scores = self.inner.scores(outputs, batch)  # (B, K)
        if scores.requires_grad:  # a pass that is learned from, and no look
            self._note(scores.detach().float(), batch)
        return self.inner.loss(outputs, batch)

    def _note(self, scores: Tensor, batch: Batch) -> None:
        target = batch.targets["target"][:, None]
        given = scores.gather(1, target)[:, 0]
        others = scores.scatter(1, target, -torch.inf).max(dim=1).values
        self.seen.add(batch.rows, given - others, (given - scores.logsumexp(dim=1)).exp())
