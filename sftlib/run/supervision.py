"""Rows of which nothing is left to learn: refused, or left out of the plan."""

from __future__ import annotations

import numpy as np

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import listed_rows
from sftlib.encoders.encoded import Encoded
from sftlib.errors import DataError
from sftlib.tasks.base import Task


def check_supervision(task: Task, encoded: Encoded, data: TaskDataset) -> None:
    """Refuse a run in which nothing would be learned: every row lost its supervision with its end.

    Raises:
        DataError: before the first step.
    """
    lost = task.unsupervised(encoded)
    if len(lost) and task.every_row_counts:
        rows = np.unique(encoded.owners[lost])
        raise DataError(
            f"fit (train): nothing is left to learn from within the length limit in {listed_rows(rows.tolist())}: "
            f"{task.nothing_left}"
        )
    if len(lost) and len(lost) == len(encoded):
        raise DataError(
            f"fit (train): none of the {len(data):,} rows has anything left to learn from once it is cut to the length "
            "limit; raise max_length, or shorten the inputs"
        )


def with_supervision(task: Task, encoded: Encoded) -> Encoded:
    """The windows of which something is learned: the others would thin out steps, or leave one without any loss.

    All of them where nothing is learned of any, which `check_supervision` refuses.
    """
    lost = task.unsupervised(encoded)
    some = 0 < len(lost) < len(encoded)
    return encoded.take(np.setdiff1d(np.arange(len(encoded)), lost)) if some else encoded
