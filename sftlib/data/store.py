"""Checked columns: built once from a table, then shared by every data set that comes from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from sftlib.data.columns import Column, chosen
from sftlib.data.files.filed import kept, opened
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import Label, RoleKind
from sftlib.data.kinds.label_names import fit_label_names, outside
from sftlib.data.kinds.numbers import named
from sftlib.data.problems import Findings, Found, raise_findings
from sftlib.data.roles.relations import check_relations
from sftlib.data.roles.resolve import Assignment
from sftlib.data.splitting import Index
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
    table: Table, assignment: Assignment, names: tuple[Label, ...] | None = None, *, drop_invalid: bool = False
) -> tuple[Store, tuple[Label, ...] | None]:
    """Check and normalise every column that has a role, and fit the labels.

    Args:
        table: the columns.
        assignment: which of them has which role.
        names: declared label names, if any.
        drop_invalid: leave out rows that have a problem, and say how many, unless no others are there.

    Returns:
        The store, and the label names (None where the task has none).

    Raises:
        OptionError: label names for a task without labels.
        LabelError: every bad row of every column, when all the problems are of labels.
        DataError: the same, when there are others.
    """
    known = {role: table.kinds.get(assignment.columns[role], kind) for role, kind in assignment.kinds.items()}
    kinds = {role: kind.bound(table.folder) for role, kind in known.items()}
    assignment = replace(assignment, kinds=kinds)
    label_role = _label_role(assignment)
    if names is not None and assignment.is_labelled and label_role is None:
        raise OptionError(f"label_names: the task {assignment.task!r} has no labels")
    if names is None and label_role is not None:
        names = table.class_names.get(assignment.columns[label_role])
    if label_role is not None:
        assignment = replace(assignment, kinds=kinds | {label_role: kinds[label_role].named(names)})
    taken = {role: _raw(table, column, assignment.kinds[role]) for role, column in assignment.columns.items()}
    assignment = replace(assignment, kinds={role: kind.fitted(taken[role]) for role, kind in assignment.kinds.items()})
    if names is not None and label_role is not None:
        taken[label_role] = named(assignment.kinds[label_role], taken[label_role], names)
    others = dict(table.columns)
    values, fitted, found = _checked(assignment, taken, names)
    bad = np.unique(np.concatenate([findings.rows for _, _, findings in found]))
    if drop_invalid and 0 < len(bad) < table.rows:
        rows = np.setdiff1d(np.arange(table.rows), bad)
        taken, others = ({name: chosen(column, rows) for name, column in part.items()} for part in (taken, others))
        dropped, (values, fitted, found) = found, _checked(assignment, taken, names)
        raise_findings(found, lambda row: table.named(int(rows[row])))  # such as lists that all look like vectors
        _say_dropped(dropped, len(bad), table)
    raise_findings(found, table.named)
    _say_remarks(assignment, values)
    used = {*assignment.columns.values(), *values}
    return Store(assignment, values, {name: column for name, column in others.items() if name not in used}), fitted


def _label_role(assignment: Assignment) -> str | None:
    return next((role for role in assignment.targets if assignment.kinds[role].holds_labels), None)


def _checked(
    assignment: Assignment, taken: Mapping[str, Sequence[Any]], names: tuple[Label, ...] | None
) -> tuple[dict[str, Sequence[Any]], tuple[Label, ...] | None, list[Found]]:
    """The values of every role without a problem, the label names, and the problems of the others.

    Args:
        assignment: which roles there are.
        taken: role -> its values as they came.
        names: declared label names; None to fit them.
    """
    values: dict[str, Sequence[Any]] = {}
    found: list[Found] = []
    for role, raw in taken.items():
        kind, place = assignment.kinds[role], _place(assignment, role)
        findings = kind.check(raw)
        if not findings:
            values[role] = kept(kind, raw) if isinstance(raw, Column) else kind.normalise(raw)
        found.append((place, kind.holds_labels, findings))
        if role == _label_role(assignment):
            if names is not None:
                found.append((place, True, outside(kind, _usable(kind, raw, findings, values.get(role)), names)))
            elif not findings:
                names = fit_label_names(kind, values[role])
    for role, findings in check_relations(assignment.relations, assignment.kinds, taken, values):
        found.append((_place(assignment, role), assignment.kinds[role].holds_labels, findings))
    return values, names, found


def _usable(
    kind: RoleKind, raw: Sequence[Any], findings: Findings, values: Sequence[Any] | None
) -> Iterator[tuple[int, object]]:
    """Each row without a problem and its normalised value."""
    if values is not None:
        return enumerate(values)
    bad = set(findings.rows.tolist())
    return ((row, kind.normalise([value])[0]) for row, value in enumerate(raw) if row not in bad)


def _say_dropped(found: Sequence[Found], dropped: int, table: Table) -> None:
    lines = [f"  {line}" for where, _, findings in found for line in findings.counts(where, table.named)]
    said = f"{dropped:,} of {table.rows:,} rows left out:"
    logging.getLogger("sftlib").warning("%s", "\n".join([said, *lines]))


def _say_remarks(assignment: Assignment, values: Mapping[str, Sequence[Any]]) -> None:
    for role, kind in assignment.kinds.items():
        for remark in kind.remarks(values[role]):
            logging.getLogger("sftlib").warning("%s: %s", _place(assignment, role), remark)


def _place(assignment: Assignment, role: str) -> str:
    column = assignment.columns[role]
    return f"role {role!r}" if column == role else f"role {role!r} (column {column!r})"


def _raw(table: Table, column: str, kind: RoleKind) -> Sequence[Any]:
    """The values of a column as Python objects: read from text, class numbers replaced by their names."""
    values, settled = table.columns[column], column in table.settled
    if isinstance(values, Column):  # of a file: it stays there; files have no class names
        if settled:
            return opened(kind, values, textual=False)
        return opened(kind, values, textual=table.textual, unified=table.unified, separator=table.separator)
    values = list(values[:])
    if settled:
        return values
    if table.separator is not None:
        values = kind.separated(values, table.separator)
    values = kind.parse(values) if table.textual else kind.written(values)
    if table.unified:
        values = kind.unfilled(values)
    if column in table.class_names:
        values = kind.decode(values, table.class_names[column])
    return values
