"""What users hand in to be predicted, as rows under role names."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.data.stream import TaskStream, no_data_set
from sftlib.errors import DataError
from sftlib.tasks.base import Task


def rows_of(task: Task, inputs: object, *, use: str = "predict") -> list[dict[str, Any]]:
    """Every input as a row under role names.

    Args:
        task: whose inputs they are.
        inputs: a data set, or any iterable of what the task takes for an input.
        use: what they are wanted for, to begin messages with.

    Raises:
        DataError: the first of them that is no input, with its row; or something that holds no inputs at all.
    """
    if isinstance(inputs, TaskDataset):
        return [task.inputs_of({role: row[role] for role in inputs.inputs}) for row in inputs]
    if hasattr(inputs, "columns"):
        raise DataError(
            f"{use}: found a {type(inputs).__name__}; say which column is which: TaskDataset(frame, text=...)"
        )
    if isinstance(inputs, TaskStream):
        raise DataError(no_data_set(inputs, use))
    if isinstance(inputs, bytes | Set) or not isinstance(inputs, Iterable):
        raise DataError(
            f"{use}: found {brief(inputs)} of type {type(inputs).__name__}, expected an input, a list of inputs, "
            "or a TaskDataset"
        )
    rows = []
    for number, example in enumerate(inputs):
        try:
            rows.append(task.inputs_of(example))
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
    return rows
