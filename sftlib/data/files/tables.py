"""From whatever holds rows to columns: the one place that knows the forms data comes in.

pandas, polars, pyarrow and `datasets` objects are told by the module of their class, so none of them is imported.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from sftlib.data.kinds.base import RoleKind
from sftlib.data.problems import Findings, Naming, brief, by_number, listed
from sftlib.errors import DataError

FORMS = (
    "a sequence of mappings (one per row), a mapping of columns, a pandas or polars DataFrame, "
    "a datasets.Dataset or an iterable of mappings"
)


@final
@dataclass(frozen=True)
class Table:
    """Columns of one length.

    Args:
        columns: name to values; a sequence may also be backed by a file.
        rows: how many rows there are.
        class_names: for columns of class numbers that declare their names (`datasets` ``ClassLabel``), the names.
        kinds: of columns whose values a reader knows more about than their role does.
        textual: every value is the text of a cell, to be read by the kind of its role.
        options: the options of the reader it comes from, for the message about a misspelt one.
        folder: where the file lies that it comes from, which names of files in it start from.
        unified: mappings in it have the keys of all rows, None where a row lacks one, as Arrow has it.
        separator: what stands between the members of a list in a cell, or None.
        settled: columns whose values are what they are meant to be, and are read no further.
        named: what messages call a row.
    """

    columns: Mapping[str, Sequence[object]]
    rows: int
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    textual: bool = False
    options: tuple[str, ...] = ()
    folder: Path | None = None
    kinds: Mapping[str, RoleKind] = field(default_factory=dict)
    unified: bool = False
    separator: str | None = None
    settled: frozenset[str] = frozenset()
    named: Naming = by_number


def open_rows(rows: object) -> Table:
    """Columns of anything that `TaskDataset` accepts.

    Raises:
        DataError: it is none of these forms, holds no rows, has columns of unequal length or with one name.

    Example:
        >>> open_rows([{"a": 1}, {"b": 2}]).columns
        {'a': [1, None], 'b': [None, 2]}
    """
    table = _open(rows)
    wrong = [name for name in table.columns if not isinstance(name, str)]
    if wrong:
        raise DataError(
            f"column names must be strings, found {listed(wrong)}: rename the columns, "
            "for example with frame.columns = frame.columns.astype(str)"
        )
    if table.rows == 0:
        raise DataError("the data holds no rows")
    return table


def _open(rows: Any) -> Table:
    library = type(rows).__module__.partition(".")[0]
    if isinstance(rows, Table):
        return rows
    if library == "pandas" and hasattr(rows, "iloc") and hasattr(rows, "columns"):
        return _from_pandas(rows)
    if library == "polars" and hasattr(rows, "collect"):
        raise DataError("found a polars LazyFrame, which holds no rows yet: call .collect() first")
    if library == "polars" and hasattr(rows, "columns"):
        return Table({name: rows[name].to_list() for name in rows.columns}, rows.height, unified=True)
    if library == "pyarrow" and hasattr(rows, "column_names"):
        return _from_arrow(rows)
    if library == "datasets":
        return _from_datasets(rows)
    if isinstance(rows, Mapping):
        return _from_columns(rows)
    if isinstance(rows, str | bytes | os.PathLike):
        raise DataError(
            f"found {brief(rows)}, expected {FORMS}; to read a file use TaskDataset.from_csv, from_jsonl, from_parquet "
            "or from_folder"
        )
    if not isinstance(rows, Iterable) or library in ("pandas", "polars", "numpy"):
        raise DataError(f"found {type(rows).__name__}, expected {FORMS}")
    return from_mappings(rows)


def from_mappings(rows: Iterable[object]) -> Table:
    """Columns of rows; a key that a row lacks is None there.

    Raises:
        DataError: some of the rows are not mappings.
    """
    columns: dict[str, list[object]] = {}
    findings = Findings()
    count = 0
    for row, record in enumerate(rows):
        count += 1
        if not isinstance(record, Mapping):
            findings.add(
                row, f"{type(record).__name__} instead of a mapping", record, "give each row as {column: value}"
            )
            continue
        for name, value in record.items():
            values = columns.setdefault(name, [])
            if len(values) < row:  # rows before this one lacked the key
                values.extend([None] * (row - len(values)))
            values.append(value)
    if findings:
        raise DataError("\n".join(findings.lines("rows")))
    for values in columns.values():
        values.extend([None] * (count - len(values)))
    return Table(columns, count)


def _from_columns(columns: Mapping[Any, Any]) -> Table:
    values = {name: _column(name, column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{brief(name)} has {length:,}" for name, length in lengths.items())
        raise DataError(f"columns must be of equal length: {shown}")
    return Table(values, next(iter(lengths.values()), 0))


def _column(name: object, column: Any) -> list[object]:
    """A copy of a column as a list of Python objects."""
    if isinstance(column, np.ndarray) and column.ndim > 2:  # of pictures: each stays an array
        return list(column)
    for convert in ("tolist", "to_list", "to_pylist"):  # numpy and pandas, polars, pyarrow
        if hasattr(column, convert) and hasattr(column, "__len__"):
            values = getattr(column, convert)()
            return list(values)
    if isinstance(column, str | bytes | Mapping | set | frozenset) or not isinstance(column, Iterable):
        raise DataError(
            f"column {brief(name)} is {brief(column)}, expected one value for each row, in order; "
            "a single row is given as a list with one mapping"
        )
    return list(column)


def _unique(names: Iterable[object]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"column names must differ, found more than once: {listed(twice)}; rename or drop them")


def _from_pandas(frame: Any) -> Table:
    _unique(frame.columns)
    # Lists that came as arrays were read from Parquet or Arrow.
    unified = any(isinstance(frame[name].iloc[0], np.ndarray) for name in frame.columns) if len(frame) else False
    arrow = any(type(kind).__name__ == "ArrowDtype" for kind in frame.dtypes)
    columns = {name: frame[name].tolist() for name in frame.columns}
    return Table(columns, len(frame), unified=bool(unified or arrow))


def _from_arrow(table: Any) -> Table:
    _unique(table.column_names)
    return Table({name: table.column(name).to_pylist() for name in table.column_names}, table.num_rows, unified=True)


def _from_datasets(rows: Any) -> Table:
    if isinstance(rows, Mapping):
        raise DataError(
            f"found several splits ({listed(rows)}): choose one, for example rows[{next(iter(rows), '')!r}]"
        )
    features = getattr(rows, "features", None) or {}
    class_names = class_names_of(features)
    for name, feature in features.items():
        if type(feature).__name__ == "Image":  # as the bytes of its file: decoded ones would fill the memory
            rows = rows.cast_column(name, type(feature)(decode=False))
    if not hasattr(rows, "column_names") or not hasattr(rows, "__len__"):  # a stream
        table = from_mappings(rows)
        return Table(table.columns, table.rows, class_names, unified=True)
    plain = rows.with_format(None)  # no tensors, whatever format was set
    # The columns stay in their memory-mapped file until a role needs one.
    return Table({name: plain[name] for name in plain.column_names}, len(plain), class_names, unified=True)


def class_names_of(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The declared names of each column of class numbers, or of lists of them."""
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    return {name: tuple(feature.names) for name, feature in inner.items() if type(feature).__name__ == "ClassLabel"}
