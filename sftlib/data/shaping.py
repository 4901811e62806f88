"""Tables of another shape than one row a text: a word a row, and classes in columns of their own."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sftlib.data.columns import Coded
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import is_missing, kind_of
from sftlib.data.problems import SHOWN, Findings, brief
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.support.checking import nearest

#: Roles that may be given as several columns, one for each class.
SPREAD = ("label", "labels")

_BLOCK = 4096
_YES, _NO = ("1", "1.0", "true", "True", "TRUE"), ("0", "0.0", "false", "False", "FALSE")


def by_sentence(table: Table, column: object) -> Table:
    """One row for each run of rows with the same value in a column; every other column becomes one of lists.

    A row without a value belongs to the one above, as in tables that name a sentence at its first word only.

    Args:
        table: a word a row.
        column: names the sentence.

    Raises:
        DataError: no such column, a first row without a value, or a sentence that is taken up again further down.
    """
    if not isinstance(column, str) or column not in table.columns:
        raise DataError(f"sentence={brief(column)}: there is no such column: {nearest(column, table.columns)}")
    starts: list[int] = []
    seen: dict[object, int] = {}
    again: list[str] = []
    last: object = None
    for row, value in enumerate(table.columns[column]):
        if is_missing(value) or value == "":
            if not starts:
                raise DataError(f"sentence={column!r}: row 0 names no sentence, so its words belong to none")
            continue
        if not isinstance(value, Hashable):
            raise DataError(f"sentence={column!r}: row {row} has {kind_of(value)}, which cannot name a sentence")
        if starts and value == last:
            continue
        if value in seen:
            again.append(f"row {row} ({brief(value)}, begun in row {seen[value]})")
        seen[value] = row
        starts.append(row)
        last = value
    if again:
        more = f" and {len(again) - SHOWN:,} more" if len(again) > SHOWN else ""
        raise DataError(
            f"sentence={column!r}: sentences are taken up again after another: {', '.join(again[:SHOWN])}{more}; sort "
            "the rows, or give every sentence a value of its own"
        )
    bounds = [*starts, table.rows]
    columns = {name: list(_pieces(values, bounds)) for name, values in table.columns.items() if name != column}
    names = [table.columns[column][start] for start in starts]
    return replace(table, columns={**columns, column: names}, rows=len(starts))


def _pieces(values: Sequence[Any], bounds: Sequence[int]) -> Iterator[list[Any]]:
    for start, end in itertools.pairwise(bounds):
        yield list(values[start:end])


def with_spread(table: Table, roles: Mapping[str, Any], *, drop_invalid: bool = False) -> tuple[Table, dict[str, Any]]:
    """A table in which roles that are spread over several columns are one, and the roles with its name.

    Args:
        table: with columns of 0 and 1.
        roles: role -> a column, or several.
        drop_invalid: leave rows with other cells without a value, which are left out later.

    Raises:
        OptionError: several columns for another role than a label.
        LabelError: cells that are neither 0 nor 1, with their rows.
    """
    given = {role: list(names) for role, names in roles.items() if role in SPREAD and isinstance(names, list | tuple)}
    wrong = [
        f"{role}={brief(columns)}: expected the name of a column, or of several that differ"
        for role, columns in given.items()
        if not _are_names(columns)
    ]
    if wrong:
        raise OptionError("\n".join(wrong))
    found = dict(roles)
    for role, columns in given.items():
        table = _gathered(table, role, columns, drop_invalid=drop_invalid)
        found[role] = role
    return table, found


def _are_names(columns: Sequence[object]) -> bool:
    return bool(columns) and all(isinstance(name, str) for name in columns) and len({*columns}) == len(columns)


def _gathered(table: Table, role: str, columns: Sequence[Any], *, drop_invalid: bool) -> Table:
    absent = [name for name in columns if name not in table.columns]
    if absent:
        hints = (f"{role}: there is no column {brief(name)}: {nearest(name, table.columns)}" for name in absent)
        raise DataError("\n".join(hints))
    codes, findings = np.empty(table.rows, np.int32), Findings()
    known: dict[object, int] = {}
    values: list[object] = []
    for row, marks in enumerate(zip(*(table.columns[name] for name in columns), strict=True)):
        chosen = _chosen(marks, columns, role, row, findings)
        number = known.setdefault(chosen, len(values))
        if number == len(values):
            values.append(list(chosen) if chosen is not None and role == "labels" else chosen and chosen[0])
        codes[row] = number
    if findings and not drop_invalid:
        raise LabelError("\n".join(findings.lines(f"role {role!r}")))
    others = {name: column for name, column in table.columns.items() if name not in columns and name != role}
    names = {name: kept for name, kept in table.class_names.items() if name in others}
    return replace(
        table,
        columns={**others, role: Coded(codes, values)},
        class_names={**names, role: tuple(map(str, columns))},
        settled=table.settled | {role},
    )


def _chosen(
    marks: Sequence[object], columns: Sequence[str], role: str, row: int, findings: Findings
) -> tuple[str, ...] | None:
    """The classes that a row is marked with; None for one that cannot be used, which is noted."""
    read = [_mark(mark) for mark in marks]
    if None in read:
        at = read.index(None)
        missing = is_missing(marks[at]) or str(marks[at]).strip() == ""
        what = "a missing mark" if missing else "a mark that is neither 0 nor 1"
        mend = "write 1 where a class holds and 0 where it does not"
        findings.add(row, what, None if missing else marks[at], mend, note=f"column {columns[at]!r}")
        return None
    chosen = tuple(name for name, is_set in zip(columns, read, strict=True) if is_set)
    if role == "label" and len(chosen) != 1:
        mend = "exactly one column of label=[...] is 1 in each row; several are labels=[...]"
        findings.add(row, "several classes" if chosen else "no class", list(chosen) or None, mend)
        return None
    return chosen


def _mark(value: object) -> bool | None:
    """Whether a mark says yes; None where it says neither."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, str):
        text = plain.strip()
        return text in _YES if text in (*_YES, *_NO) else None
    return bool(plain) if isinstance(plain, bool | int | float) and plain in (0, 1) else None


def separator_problem(separator: object) -> str | None:
    """What is wrong with what stands between the members of a list."""
    if separator is None or (isinstance(separator, str) and separator):
        return None
    return f"separator={brief(separator)}: expected what stands between the members of a list, such as '|', or None"
