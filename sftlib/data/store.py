"""Checked columns: built once from a table, then shared by every data set that comes from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np

from sftlib.data.columns import Column
from sftlib.data.filed import kept, opened
from sftlib.data.kinds import Label, RoleKind
from sftlib.data.labels import fit_label_names, outside
from sftlib.data.problems import Findings, raise_findings
from sftlib.data.relations import check_relations
from sftlib.data.roles import Assignment
from sftlib.data.splitting import Index
from sftlib.data.tables import Table
from sftlib.errors import OptionError


@final
@dataclass(frozen=True)
class Store:
    """Columns that passed their checks.

    A column is a sequence: a list today, and as well something that reads a file when a row is asked for.

    Args:
        assignment: which roles there are.
        values: the columns with a role, under its name, normalised.
        others: the columns without, under their own names; none bears the name of a role in ``values``.
    """

    assignment: Assignment
    values: Mapping[str, Sequence[Any]]
    others: Mapping[str, Sequence[Any]]
    digests: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False, compare=False)  # worked out so far

    @cached_property
    def without_target(self) -> Index:
        """Numbers of the rows whose inputs should supervise themselves but do not."""
        kinds = [(role, kind) for role, kind in self.assignment.kinds.items() if kind.may_lack_target]
        lacking = [row for role, kind in kinds for row, v in enumerate(self.values[role]) if not kind.has_target(v)]
        return np.unique(np.array(lacking, np.int64))

    @property
    def rows(self) -> int:
        """How many rows every column has."""
        return len(next(iter(self.values.values())))


def build(
    table: Table, assignment: Assignment, names: tuple[Label, ...] | None = None
) -> tuple[Store, tuple[Label, ...] | None]:
    """Check and normalise every column that has a role, and fit the labels.

    Args:
        table: the columns.
        assignment: which of them has which role.
        names: declared label names, if any.

    Returns:
        The store, and the label names (None where the task has none).

    Raises:
        OptionError: label names for a task without labels.
        LabelError: every bad row of every column, when all the problems are of labels.
        DataError: the same, when there are others.
    """
    label_role = next((role for role in assignment.targets if assignment.kinds[role].holds_labels), None)
    if names is not None and assignment.is_labelled and label_role is None:
        raise OptionError(f"label_names: the task {assignment.task!r} has no labels")
    if names is None and label_role is not None:
        names = table.class_names.get(assignment.columns[label_role])
    values: dict[str, Sequence[Any]] = {}
    taken: dict[str, Sequence[Any]] = {}
    found: list[tuple[str, bool, Findings]] = []
    for role, column in assignment.columns.items():
        kind = assignment.kinds[role]
        raw = taken[role] = _raw(table, column, kind)
        findings = kind.check(raw)
        if not findings:
            values[role] = kept(kind, raw) if isinstance(raw, Column) else kind.normalise(raw)
            if role == label_role:
                names = fit_label_names(kind, values[role]) if names is None else names
                findings = outside(kind, values[role], names)
        found.append((_place(assignment, role), kind.holds_labels, findings))
    for role, findings in check_relations(assignment.relations, assignment.kinds, taken, values):
        found.append((_place(assignment, role), assignment.kinds[role].holds_labels, findings))
    raise_findings(found)
    used = {*assignment.columns.values(), *values}
    others = {name: column for name, column in table.columns.items() if name not in used}
    return Store(assignment, values, others), names


def _place(assignment: Assignment, role: str) -> str:
    column = assignment.columns[role]
    return f"role {role!r}" if column == role else f"role {role!r} (column {column!r})"


def _raw(table: Table, column: str, kind: RoleKind) -> Sequence[Any]:
    """The values of a column as Python objects: read from text, class numbers replaced by their names."""
    values = table.columns[column]
    if isinstance(values, Column):  # of a file: it stays there; files have no class names
        return opened(kind, values, textual=table.textual)
    values = list(values[:])
    if table.textual:
        values = kind.parse(values)
    if column in table.class_names:
        values = kind.decode(values, table.class_names[column])
    return values
