"""Rows that something may be decided on: labelled, enough, and not those that the model learned from."""

from __future__ import annotations

import numpy as np

from sftlib.data.dataset import TaskDataset
from sftlib.data.splitting import keys
from sftlib.errors import DataError
from sftlib.run.choose import check_data, require_labelled
from sftlib.tasks.base import Task

_SHOWN = 5


def require_held_out(task: Task, data: TaskDataset, learned: TaskDataset | None, *, use: str, at_least: int) -> None:
    """Refuse rows that nothing can be decided on.

    Args:
        task: of the model.
        data: the rows.
        learned: those that the model learned from; None where that is not known, as of a loaded one.
        use: what is to be decided, for messages.
        at_least: how many rows it takes.

    Raises:
        DataError: too few, unlabelled, another task's, or rows that the model learned from, with their numbers.
    """
    require_labelled(data, use, task.name)
    check_data(task, data, use)
    if len(data) < at_least:
        raise DataError(f"{use}: {len(data):,} rows; it takes at least {at_least:,} for this to mean anything")
    if learned is None or set(learned.inputs) != set(data.inputs):
        return
    seen = np.flatnonzero(np.isin(keys(list(data.asked().values())), keys(list(learned.asked().values()))))
    if len(seen):
        shown = ", ".join(map(str, seen[:_SHOWN].tolist())) + (", ..." if len(seen) > _SHOWN else "")
        raise DataError(
            f"{use}: {len(seen):,} of {len(data):,} rows are among those that the model learned from (rows {shown}): "
            "it is too sure of them; give rows it has not seen, such as a part that split() sets aside"
        )
