"""`TaskDataset`: labelled rows, and which column plays which role."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Any, Self, final, overload

import numpy as np

from sftlib.data import readers
from sftlib.data.kinds import Label, RoleKind
from sftlib.data.labels import check_label_names, fit_label_names, outside, union
from sftlib.data.problems import Findings, brief, raise_findings
from sftlib.data.report import DataReport
from sftlib.data.roles import OPTIONS, Assignment, resolve
from sftlib.data.splitting import Index, check_fractions, digest, keys, sides
from sftlib.data.tables import Table, from_mappings, open_rows
from sftlib.display import html_table
from sftlib.errors import DataError, OptionError, RoleError
from sftlib.options import checked, nearest

Row = dict[str, Any]


@final
@dataclass(frozen=True)
class _Store:
    """Checked columns, shared by every split and selection that comes from them.

    A column is a sequence: a list today, and as well something that reads a file when a row is asked for.
    """

    assignment: Assignment
    values: Mapping[str, Sequence[Any]]  # under role names
    others: Mapping[str, Sequence[Any]]  # columns without a role, under their own names


@final
class TaskDataset:
    """Labelled rows and the role of each column; it never changes.

    Args:
        rows: sequence of mappings, mapping of equal-length columns, pandas or polars ``DataFrame``, pyarrow ``Table``,
            ``datasets.Dataset`` (its ``ClassLabel`` names are honoured, -1 is a missing label) or a finite iterable of
            mappings. A key that a row lacks is a missing value.
        task: what to learn, such as ``"text-classification"``; inferred from the roles when left out.
        label_names: the classes in their order; inferred (sorted) when left out.
        **roles: role = name of its column. A role whose column bears the role's own name may be left out;
            ``role=None`` says that the role is not there, whatever the columns are called.

    Raises:
        OptionError: no such task, or label names that cannot be.
        RoleError: a keyword that is no role.
        LabelError: labels that are missing, floats, of mixed types or not in ``label_names``, with their rows.
        DataError: a column that does not exist, no rows, values that a role cannot use; all rows in one message.

    Example:
        >>> rows = [{"review": "Loved it.", "stars": 5}, {"review": "Dull.", "stars": 1}]
        >>> data = TaskDataset(rows, text="review", label="stars")
        >>> data
        TaskDataset(task='text-classification', rows=2, roles=(text='review', label='stars'), label_names=(1, 5))
        >>> data[-1]
        {'text': 'Dull.', 'label': 1}
    """

    _store: _Store
    _index: Index
    _label_names: tuple[Label, ...] | None

    @checked
    def __init__(
        self,
        rows: object,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        **roles: str | None,
    ) -> None:
        table = open_rows(rows)
        names = check_label_names(label_names)
        assignment = resolve(tuple(table.columns), roles, task=task, options=OPTIONS)
        self._store, self._label_names = _build(table, assignment, names)
        self._index = np.arange(table.rows, dtype=np.int64)

    @classmethod
    def _of(cls, store: _Store, index: Index, label_names: tuple[Label, ...] | None) -> Self:
        """A data set over columns that were checked before."""
        data = object.__new__(cls)
        data._store, data._index, data._label_names = store, index, label_names
        return data

    # ---- files ----------------------------------------------------------------------------------------------------

    @classmethod
    @checked
    def from_csv(
        cls,
        path: str | PathLike[str],
        *,
        delimiter: str = ",",
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        **roles: str | None,
    ) -> Self:
        """Rows of a CSV file with a header.

        Cells are text. Only columns of labels and targets are converted: to int when all cells are whole numbers
        (without leading zeros), to bool when all are true or false; ``labels`` cells hold JSON lists. Empty cells
        there are missing values; blank lines are skipped; a byte order mark is dropped.

        Args:
            path: the file.
            delimiter: the character between cells, such as ``";"`` or ``"\\t"``.
            encoding: how the file's bytes spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, bad bytes, ragged rows (with their lines), and as for `TaskDataset`.
        """
        table = readers.read_csv(path, delimiter=delimiter, encoding=encoding)
        return cls(table, task=task, label_names=label_names, **roles)

    @classmethod
    @checked
    def from_jsonl(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        **roles: str | None,
    ) -> Self:
        """Rows of a JSON Lines file: one object per line, in UTF-8; blank lines are skipped.

        Raises:
            DataError: no such file, or lines that are no JSON object (all of them counted), and as for `TaskDataset`.
        """
        return cls(readers.read_jsonl(path), task=task, label_names=label_names, **roles)

    @classmethod
    @checked
    def from_parquet(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        **roles: str | None,
    ) -> Self:
        """Rows of a Parquet file; needs pyarrow, from the extra ``data``.

        Raises:
            MissingExtraError: pyarrow is not installed.
            DataError: no such file, or no Parquet, and as for `TaskDataset`.
        """
        return cls(readers.read_parquet(path), task=task, label_names=label_names, **roles)

    @classmethod
    @checked
    def from_hub(
        cls,
        name: str,
        *,
        split: str,
        config: str | None = None,
        revision: str | None = None,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        **roles: str | None,
    ) -> Self:
        """One split of a data set on the Hugging Face hub; needs `datasets`, from the extra ``data``.

        Args:
            name: name on the hub, or a local folder that `datasets` can read.
            split: which split, such as ``"train"`` or ``"train[:10%]"``.
            config: which configuration, where the data set has several.
            revision: a commit or tag, to read the same rows again later.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            MissingExtraError: `datasets` is not installed.
            DataError: it cannot be loaded, and as for `TaskDataset`.
        """
        rows = readers.read_hub(name, split=split, config=config, revision=revision)
        return cls(rows, task=task, label_names=label_names, **roles)

    @classmethod
    @checked
    def from_folder(
        cls,
        path: str | PathLike[str],
        *,
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        **roles: str | None,
    ) -> Self:
        """One folder per class, one ``.txt`` file per row; columns ``text``, ``label`` and ``path``, in sorted order.

        Raises:
            DataError: no such folder, no class folders, files that cannot be decoded, and as for `TaskDataset`.
        """
        return cls(readers.read_folder(path, encoding=encoding), task=task, label_names=label_names, **roles)

    # ---- what it holds --------------------------------------------------------------------------------------------

    @property
    def task(self) -> str | None:
        """The task, or None for inputs alone that came without ``task=``."""
        return self._store.assignment.task

    @property
    def roles(self) -> Mapping[str, str]:
        """Role to column, read-only: inputs first, then targets."""
        return MappingProxyType(dict(self._store.assignment.columns))

    @property
    def kinds(self) -> Mapping[str, RoleKind]:
        """Role to the kind of its values."""
        return MappingProxyType(dict(self._store.assignment.kinds))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The roles that a model sees."""
        return self._store.assignment.inputs

    @property
    def targets(self) -> tuple[str, ...]:
        """The roles that supervise; empty for an unlabelled data set."""
        return self._store.assignment.targets

    @property
    def is_labelled(self) -> bool:
        """Whether every role is there that training needs."""
        return self._store.assignment.is_labelled

    @property
    def label_names(self) -> tuple[Label, ...] | None:
        """The classes, of the labels' own type: sorted, or in the order they were declared in; None without classes."""
        return self._label_names

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of every row: roles, then columns without a role."""
        return (*self._store.values, *self._others())

    def _others(self) -> dict[str, Sequence[Any]]:
        return {name: values for name, values in self._store.others.items() if name not in self._store.values}

    def column(self, role: str) -> list[Any]:
        """All values of a role (or of another column) in row order.

        Raises:
            RoleError: there is none of that name.
        """
        if role not in self.columns:
            raise RoleError(f"the data set has no role {role!r}: {nearest(role, self.columns)}")
        values = self._store.values[role] if role in self._store.values else self._store.others[role]
        if len(self._index) == len(values) and bool((self._index == np.arange(len(values))).all()):
            return list(values[:])
        return [values[row] for row in self._index.tolist()]

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, key: slice) -> Self: ...
    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> Row: ...
    def __getitem__(self, key: int | np.integer[Any] | slice) -> Row | Self:
        """Row ``key`` as a dict under role names, other columns under their own; a slice is a data set.

        A column that bears the name of a role which another column plays is not in the dict.
        """
        if isinstance(key, slice):
            return self._of(self._store, self._index[key], self._label_names)
        try:
            position = operator.index(key)
        except TypeError:
            raise OptionError(
                f"data[{brief(key)}]: expected a whole number or a slice; a whole column is data.column(...)"
            ) from None
        if not -len(self) <= position < len(self):
            raise IndexError(f"data[{position}]: there are {len(self):,} rows")
        row = int(self._index[position])
        values = {role: _own(column[row]) for role, column in self._store.values.items()}
        return values | {name: column[row] for name, column in self._others().items()}

    def __iter__(self) -> Iterator[Row]:
        return (self[position] for position in range(len(self)))

    # ---- other data sets from it ----------------------------------------------------------------------------------

    @checked
    def select(self, indices: Iterable[int] | Iterable[bool]) -> Self:
        """The rows at these positions (negative ones count from the end), or where a mask of ``len(data)`` is True.

        Raises:
            IndexError: a position outside the data.
            OptionError: not whole numbers and no mask.
            DataError: a mask of another length.
        """
        return self._of(self._store, self._index[_positions(indices, len(self))], self._label_names)

    @checked
    def filter(self, function: Callable[[Row], object]) -> Self:
        """The rows for which ``function(row)`` is true."""
        return self.select([position for position, row in enumerate(self) if function(row)])

    @checked
    def map(self, function: Callable[[Row], Mapping[str, Any]]) -> Self:
        """Every row replaced by ``function(row)``, a mapping under role names.

        The label names are kept when every label is still one of them, and fitted again otherwise.

        Raises:
            DataError: rows that a role cannot use, and as for `TaskDataset`.
        """
        if not len(self):
            return self
        table = from_mappings(function(row) for row in self)
        assignment = resolve(tuple(table.columns), {}, task=self.task)
        store, label_names = _build(table, assignment, None)
        kept = label_names is None or set(label_names) <= set(self._label_names or ())
        same_type = {type(name) for name in label_names or ()} <= {type(name) for name in self._label_names or ()}
        names = self._label_names if kept and same_type and self._label_names is not None else label_names
        return self._of(store, np.arange(table.rows, dtype=np.int64), names)

    def __add__(self, other: object) -> Self:
        """The rows of both.

        Raises:
            DataError: they differ in task or roles.
            LabelError: their labels are of different types.
        """
        if not isinstance(other, TaskDataset):
            return NotImplemented
        mine, theirs = self._store.assignment, other._store.assignment
        if mine.task != theirs.task or mine.kinds != theirs.kinds:
            raise DataError(
                f"only data sets of one task with the same roles can be added, found {self!r} and {other!r}"
            )
        names = union(self._label_names, other._label_names)
        others = list(dict.fromkeys([*self._others(), *other._others()]))
        store = _Store(
            mine,
            {role: self.column(role) + other.column(role) for role in self._store.values},
            {name: self._column_or_none(name) + other._column_or_none(name) for name in others},
        )
        return self._of(store, np.arange(len(self) + len(other), dtype=np.int64), names)

    def _column_or_none(self, name: str) -> list[Any]:
        return self.column(name) if name in self._others() else [None] * len(self)

    @checked
    def split(self, *fractions: float, seed: int = 0, stratify: bool = True) -> tuple[Self, ...]:
        """Cut the rows into sides of the given shares; rows with identical inputs stay on one side.

        The same rows, shares and seed give the same sides in every process. Each side keeps the order of the rows.

        Args:
            *fractions: positive shares that add up to 1.
            seed: decides the shuffle.
            stratify: spread every class evenly over the sides (where a row has one class).

        Returns:
            One data set per share, its size right to within one group of identical inputs.

        Raises:
            OptionError: shares that do not add up to 1.
            DataError: a side would be empty.

        Example:
            >>> data = TaskDataset({"text": list("abcdefgh"), "label": [0, 1] * 4})
            >>> [side.column("label") for side in data.split(0.5, 0.5)]
            [[0, 1, 1, 0], [0, 1, 0, 1]]
        """
        check_fractions(fractions, seed, stratify)
        inputs = keys([self.column(role) for role in self.inputs])
        parts = sides(inputs, self._strata() if stratify else [None] * len(self), fractions, seed=seed)
        empty = [str(number) for number, part in enumerate(parts, 1) if not len(part)]
        if empty:
            raise DataError(
                f"split{fractions} of {len(self):,} rows ({len(set(inputs)):,} distinct inputs) leaves side "
                f"{', '.join(empty)} empty: give more rows, or fewer or larger shares"
            )
        return tuple(self._of(self._store, self._index[part], self._label_names) for part in parts)

    def _strata(self) -> list[Any]:
        """What a split spreads evenly: the label, where a row has exactly one."""
        single = [role for role in self.targets if self.kinds[role].one_label]
        return self.column(single[0]) if single else [None] * len(self)

    # ---- what can be known about it -------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Hex SHA-256 over task, label names and every role's values in row order; other columns do not count."""
        return digest(self.task, self._label_names, {role: self.column(role) for role in self._store.values})

    @checked
    def report(self, other: TaskDataset | None = None, *, other_name: str = "valid") -> DataReport:
        """What can be known without a tokenizer: blanks, duplicates, conflicts, leakage, lengths, classes.

        Args:
            other: a data set that should be independent of this one.
            other_name: what to call it.

        Raises:
            DataError: ``other`` has other inputs.
        """
        return DataReport.of(self, other, other_name=other_name)

    def __repr__(self) -> str:
        roles = ", ".join(f"{role}={column!r}" for role, column in self.roles.items())
        names = f", label_names={_shortened(self._label_names)}" if self._label_names is not None else ""
        unlabelled = "" if self.is_labelled else ", unlabelled"
        return f"TaskDataset(task={self.task!r}, rows={len(self)}, roles=({roles}){names}{unlabelled})"

    def _repr_html_(self) -> str:
        shown = [[_shown(row[name]) for name in self.columns] for row in self[:5]]
        header = [
            f"{name} ← {self.roles[name]}" if self.roles.get(name, name) != name else name for name in self.columns
        ]
        caption = f"TaskDataset: {self.task or 'no task'}, {len(self):,} rows" + (
            "" if self.is_labelled else ", unlabelled"
        )
        counts = self.label_counts()
        table = (
            html_table(["label", "rows"], [[brief(label), count] for label, count in counts.items()]) if counts else ""
        )
        return html_table(header, shown, caption=caption) + table

    def label_counts(self) -> dict[Label, int]:
        """How many rows have each label, in the order of ``label_names``; empty without classes."""
        counts = dict.fromkeys(self._label_names or (), 0)
        for role in self.targets:
            for value in self.column(role):
                for label in self.kinds[role].labels_of(value):
                    counts[label] += 1
        return counts


def _build(
    table: Table, assignment: Assignment, names: tuple[Label, ...] | None
) -> tuple[_Store, tuple[Label, ...] | None]:
    """Check and normalise the columns that have a role, and fit the labels; every problem in one error."""
    label_role = next((role for role in assignment.targets if assignment.kinds[role].holds_labels), None)
    if names is not None and assignment.is_labelled and label_role is None:
        raise OptionError(f"label_names: the task {assignment.task!r} has no labels")
    values: dict[str, Sequence[Any]] = {}
    found: list[tuple[str, bool, Findings]] = []
    for role, column in assignment.columns.items():
        kind = assignment.kinds[role]
        raw: Sequence[Any] = list(table.columns[column][:])
        raw = kind.parse(raw) if table.textual else raw
        if kind.holds_labels and column in table.class_names:
            raw = kind.decode(raw, table.class_names[column])
            names = names or table.class_names[column]
        findings = kind.check(raw)
        if not findings:
            values[role] = kind.normalise(raw)
            if role == label_role:
                names = names or fit_label_names(kind, values[role])
                findings = outside(kind, values[role], names)
        found.append(
            (f"role {role!r}" + (f" (column {column!r})" if column != role else ""), kind.holds_labels, findings)
        )
    raise_findings(found)
    used = set(assignment.columns.values())
    others = {name: column for name, column in table.columns.items() if name not in used}
    return _Store(assignment, values, others), names


def _positions(indices: Any, count: int) -> Index:
    """Positions from whole numbers or from a mask."""
    if isinstance(indices, str | bytes | Mapping) or not isinstance(indices, Iterable):
        raise OptionError(f"select({brief(indices)}): expected whole numbers, or a mask of True and False")
    given = indices if isinstance(indices, np.ndarray) else list(indices)
    array = np.asarray(given) if len(given) else np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iub" or len({type(value) is bool for value in given}) > 1:
        raise OptionError("select() expected a flat sequence of whole numbers, or a mask of True and False")
    if array.dtype.kind == "b":
        if len(array) != count:
            raise DataError(f"select(): the mask has {len(array):,} values, the data {count:,} rows")
        return np.flatnonzero(array)
    outside = array[(array < -count) | (array >= count)]
    if len(outside):
        raise IndexError(f"select(): position {outside[0]} is outside the data, there are {count:,} rows")
    return np.where(array < 0, array + count, array).astype(np.int64)


def _own(value: Any) -> Any:
    """A copy of a stored list, so that changing a row does not change the data."""
    return value.copy() if isinstance(value, list) else value


def _shown(value: object) -> object:
    return value if isinstance(value, int | float) else brief(value, 120)


def _shortened(names: tuple[Label, ...]) -> str:
    if len(names) <= 10:
        return repr(names)
    return f"({', '.join(map(repr, names[:5]))}, ... {len(names)} in all)"
