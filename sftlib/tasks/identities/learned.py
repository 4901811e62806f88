"""What data decides: the objective, the identities, and from where on two things are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from sftlib.data.dataset import TaskDataset
from sftlib.errors import LabelError
from sftlib.support.checking import choice, real_number
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Label

#: What can be learned.
OBJECTIVES = ("arcface", "cosface", "triplet", "contrastive", "pairs")
#: Those that compare the rows of a step.
COUPLED = ("triplet", "contrastive")


@final
@dataclass(frozen=True, kw_only=True)
class Learned(Checked):
    """What data decided.

    Attributes:
        objective: one of `OBJECTIVES`.
        label_names: the identities that were trained on; None of pairs.
        threshold: similarity from which on two things are the same; None before validation rows chose one.
    """

    objective: str
    label_names: tuple[Label, ...] | None = None
    threshold: float | None = None

    def problems(self) -> Iterable[Problem]:
        yield choice("objective", self.objective, OBJECTIVES)
        names = self.label_names
        if names is not None and not all(isinstance(name, str | int) for name in names):
            yield "label_names: expected a list of strings, whole numbers or booleans"
        if self.threshold is not None:
            yield real_number("threshold", self.threshold, -2, 2, expected="a cosine")


def learned_of_pairs(data: TaskDataset) -> Learned:
    """From rows that are pairs with a verdict.

    Raises:
        LabelError: all verdicts are the same.
    """
    if len(set(data.view("same"))) < 2:
        raise LabelError(
            f"column {data.roles['same']!r}: every pair is {'the same' if data.column('same')[0] else 'different'}; "
            "learning from pairs needs both kinds"
        )
    return Learned(objective="pairs")


def learned_of_identities(data: TaskDataset, objective: str) -> Learned:
    """The identities that there are rows of: those that are only declared, or on another side of a split, are not.

    Raises:
        LabelError: there is only one, or none has two rows where rows are compared.
    """
    column, names = data.column("label"), data.label_names or ()
    there = {(type(label), label) for label in column}
    found = tuple(name for name in names if (type(name), name) in there)
    where = f"column {data.roles['label']!r}"
    if len(found) < 2:
        raise LabelError(
            f"{where}: all {len(column):,} rows are of {found[0]!r}; telling identities apart needs at least two"
        )
    if objective in COUPLED and len(found) == len(column):
        raise LabelError(
            f"{where}: every identity has one row alone, and objective={objective!r} compares rows of one identity; "
            "give more rows of each"
        )
    return Learned(objective=objective, label_names=found)
