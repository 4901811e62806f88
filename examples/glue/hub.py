"""The same data from the Hugging Face hub (``nyu-mll/glue``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sftlib.data import TaskDataset

from .board import GlueTask, Split, find
from .files import GlueData, dataset

REPOSITORY = "nyu-mll/glue"


def load_hub(task: str, *, opener: Callable[..., TaskDataset] = TaskDataset.from_hub) -> GlueData:
    """One task from the hub (extra ``data``), with the labels that the official files have.

    Args:
        task: as for `load`.
        opener: what reads a split; `TaskDataset.from_hub`, or what stands in for it.

    Raises:
        OptionError: there is no such task.
        DataError: the hub cannot be reached.
        MissingExtraError: ``datasets`` is not installed.
    """
    found = find(task)
    return GlueData(
        found,
        train=_labelled(found, found.train, opener) if found.train else None,
        valid={split.board: _labelled(found, split, opener) for split in found.valid},
        test={split.board: _unlabelled(found, split, opener) for split in found.test},
    )


def _labelled(task: GlueTask, split: Split, opener: Callable[..., TaskDataset]) -> TaskDataset:
    """A split under our labels: the hub's are names of its own, in the order of ours."""
    data = opener(REPOSITORY, split=split.hub, config=task.name, **_roles(task), **{task.target: "label"})
    rows = _inputs(task, data)
    targets = [row[task.target] for row in data]
    if task.labels:
        hub_names = HUB_LABELS.get(task.name, task.labels)
        ours = dict(zip(hub_names, task.labels, strict=True)) | dict(enumerate(task.labels))
        targets = [ours.get(target, target) for target in targets]
    return dataset(task, rows | {task.target: targets}, labelled=True)


def _unlabelled(task: GlueTask, split: Split, opener: Callable[..., TaskDataset]) -> TaskDataset:
    kind = "text-classification" if task.labels else "text-regression"
    data = opener(REPOSITORY, split=split.hub, config=task.name, task=kind, **_roles(task), **{task.target: None})
    numbers = [str(row.get("idx", place)) for place, row in enumerate(data)]
    return dataset(task, _inputs(task, data) | {"index": numbers}, labelled=False)


def _roles(task: GlueTask) -> dict[str, str]:
    return dict(zip(("text", "text_pair"), task.hub_columns, strict=False))


def _inputs(task: GlueTask, data: TaskDataset) -> dict[str, list[Any]]:
    return {role: [row[role] for row in data] for role in _roles(task)}


HUB_LABELS: dict[str, tuple[str, ...]] = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qqp": ("not_duplicate", "duplicate"),
    "wnli": ("not_entailment", "entailment"),
}
"""The hub's own names of labels that the files write as 0 and 1."""
