"""Several columns as one role: the numbers of each row by the names of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import NumberRole, is_missing
from sftlib.data.problems import listed
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import nearest, raise_together

#: The role that takes several columns.
TARGETS = "targets"
#: What several columns of no and yes are learned as, when nobody says otherwise.
OF_CLASSES = "multi-label-sequence-classification"


def gathered(
    table: Table, roles: Mapping[str, Any], task: str | None
) -> tuple[Table, dict[str, str | None], str | None]:
    """The table with one column in place of several, where ``targets`` names several; and the task that follows.

    Without a task, columns of nothing but 0 and 1 (or False and True) and gaps are classes.

    Args:
        table: the columns.
        roles: role -> column, as the user wrote them.
        task: as the user named it.

    Raises:
        OptionError: the same column twice, or none.
        DataError: columns that do not exist.

    Example:
        >>> table = Table({"smiles": ["C"], "toxic": [1], "bitter": [None]}, 1)
        >>> found, roles, task = gathered(table, {"targets": ["toxic", "bitter"]}, None)
        >>> dict(found.columns), roles, task
        ({'smiles': ['C'], 'targets': [{'toxic': 1, 'bitter': None}]}, {'targets': 'targets'}, \
'multi-label-sequence-classification')
    """
    if not isinstance(roles.get(TARGETS), list | tuple):
        return table, dict(roles), task
    names = list(roles[TARGETS])
    _check_names(names, table)
    cells = [_cells(table, name) for name in names]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*cells, strict=True)]
    others = {name: column for name, column in table.columns.items() if name not in names}
    if task is None and all(value in (0, 1) for value in _present(rows)):
        task = OF_CLASSES
    columns: dict[str, Sequence[object]] = {**others, TARGETS: rows}
    return replace(table, columns=columns), {**roles, TARGETS: TARGETS}, task


def _check_names(names: list[Any], table: Table) -> None:
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice or not names:
        raise OptionError(f"targets: {listed(twice)} more than once" if twice else "targets=[]: expected columns")
    raise_together(
        (
            f"targets: there is no column {name!r}: {nearest(name, table.columns)}"
            for name in names
            if not isinstance(name, str) or name not in table.columns
        ),
        DataError,
    )
    if TARGETS in table.columns and TARGETS not in names:
        raise DataError("targets=[...]: a column is called 'targets' already, and is not among them; rename it")


def _cells(table: Table, name: str) -> Sequence[Any]:
    values = list(table.columns[name][:])
    return NumberRole().parse(values) if table.textual else values


def _present(rows: Iterable[Mapping[str, Any]]) -> Iterable[object]:
    return (value for row in rows for value in row.values() if not is_missing(value))
