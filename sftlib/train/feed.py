"""From an effective batch to the micro-batches that are computed one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.tasks.base import Task
from sftlib.train.comm import Comm
from sftlib.train.plan import Budget


@final
class MicroBatches:
    """Cuts rows by length within a budget; the budget can be halved when memory runs out.

    Args:
        task: lays rows out.
        encoded: the training data.
        encoder: knows what fills up a row.
        device: where the batches go.
        budget: of one pass.
        comm: the processes that share the rows of a batch.
    """

    def __init__(
        self, task: Task, encoded: Encoded, encoder: TextEncoder, *, device: torch.device, budget: Budget, comm: Comm
    ) -> None:
        self._task = task
        self._encoded = encoded
        self._encoder = encoder
        self._device = device
        self.budget = budget
        self._comm = comm

    def __call__(self, rows: NDArray[np.int64]) -> Iterator[Batch]:
        for part in self._cut(rows):
            yield self._task.collate(self._encoded, part, self._encoder).to(self._device)

    def halve(self, rows: NDArray[np.int64]) -> bool:
        """Halve the budget for good; False when the largest micro-batch of these rows is a single row already.

        Tasks whose loss couples the rows of a batch are never cut.
        """
        largest = max(self._cut(rows), key=len)
        if len(largest) == 1 or self._task.couples_rows:
            return False
        self.budget = replace(self.budget, rows=(len(largest) + 1) // 2)
        return True

    def _cut(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return self.budget.cut(self._comm.share(rows, self._encoded.lengths), self._encoded)
