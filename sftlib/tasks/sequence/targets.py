"""Targets of rows as tables, with gaps: what tasks with several targets have in common.

Letters: ``N`` rows, ``T`` targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError
from sftlib.models.device import sent
from sftlib.support.checking import is_number, nearest, raise_together
from sftlib.support.values import Problem

#: What ``target_weights`` may be.
TargetWeights = Mapping[str, float] | None


def names_of(data: TaskDataset) -> tuple[str, ...]:
    """The targets of the rows, in the order of their columns."""
    return tuple(data.view("targets")[0])


def table_of(data: TaskDataset, names: Sequence[str]) -> NDArray[np.float64]:
    """(N, T) the targets, nan where one is missing."""
    rows = ([np.nan if row[name] is None else row[name] for name in names] for row in data.view("targets"))
    return np.array(list(rows), np.float64).reshape(len(data), len(names))


def check_names(data: TaskDataset, names: Sequence[str]) -> None:
    """Refuse rows that have other targets.

    Raises:
        DataError: naming them.
    """
    found = names_of(data)
    more = [name for name in found if name not in names]
    lines = [f"the target {name!r} is not one that the model learned: {nearest(name, names)}" for name in more]
    lacking = [name for name in names if name not in found]
    lines += [f"the target {name!r} is not there: give its column, if need be an empty one" for name in lacking]
    raise_together(lines, DataError)


def weights_problems(weights: TargetWeights) -> Iterable[Problem]:
    """What is wrong with a value of ``target_weights``, as far as that can be known without data."""
    if weights is None:
        return
    given: object = weights
    if not isinstance(given, Mapping):
        yield f"target_weights={weights!r:.60}: expected None, or a mapping such as {{'logS': 2.0, 'logP': 1.0}}"
        return
    for name, weight in weights.items():
        if not is_number(weight) or not 0 <= weight < float("inf"):
            yield f"target_weights[{name!r}]={weight!r:.60}: expected a finite number of at least 0"


def weights_of(weights: TargetWeights, names: Sequence[str]) -> tuple[float, ...] | None:
    """A weight for each target; 1 for those that are not named.

    Raises:
        OptionError: a weight of a target that is not there, or nothing but weights of 0.
    """
    if weights is None:
        return None
    raise_together(
        f"target_weights has no target {name!r}: {nearest(name, names)}" for name in weights if name not in names
    )
    found = tuple(float(weights.get(name, 1.0)) for name in names)
    raise_together([None if any(found) else "target_weights: all weights are 0, nothing would be learned"])
    return found


def with_marks(table: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 2, T) targets with 0 in gaps, and beside them 1 for each that is there and 0 for each that is not."""
    there = ~np.isnan(table)
    return np.stack([np.where(there, table, 0.0), there], axis=1).astype(np.float32)


def counted(marked: Tensor, weights: Sequence[float] | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (N, T), and how much each counts (N, T): its weight, 0 for gaps."""
    target, there = marked.to(like.dtype).unbind(dim=1)
    return target, there if weights is None else there * sent(torch.tensor(weights, dtype=like.dtype), like.device)


def by_name(names: Sequence[Any], rows: Any) -> list[dict[Any, float]]:
    """A mapping for each row of numbers (N, T)."""
    return [dict(zip(names, row, strict=True)) for row in rows]
