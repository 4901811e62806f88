"""`Rows`: reading a data set, by row, by column and as a whole."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any, Self, TypeAlias, overload

import numpy as np

from sftlib.data.columns import View
from sftlib.data.kinds.base import Label, RoleKind, TextRole
from sftlib.data.plain import copied
from sftlib.data.problems import brief
from sftlib.data.splitting import Index, digest
from sftlib.data.store import Store
from sftlib.errors import OptionError, RoleError
from sftlib.support.checking import nearest
from sftlib.support.display import Html, html_table

Row: TypeAlias = dict[str, Any]


class Rows(ABC):
    """Shared columns, and which of their rows these are in which order; nothing here changes either.

    Args:
        store: the checked columns.
        index: row numbers of the store.
        label_names: the classes, or None.
    """

    @abstractmethod
    def __init__(self, store: Store, index: Index, label_names: tuple[Label, ...] | None) -> None:
        self._store = store
        self._index = index
        self._label_names = label_names

    @classmethod
    def _of(cls, store: Store, index: Index, label_names: tuple[Label, ...] | None) -> Self:
        """A data set over columns that were checked before: the constructor of the class is for unchecked ones."""
        rows = object.__new__(cls)
        Rows.__init__(rows, store, index, label_names)
        return rows

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
        """Role to the kind of its values, read-only."""
        return MappingProxyType(dict(self._store.assignment.kinds))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The roles that a model sees."""
        return self._store.assignment.inputs

    @property
    def main_inputs(self) -> tuple[str, ...]:
        """The inputs without those that only stand beside another."""
        return tuple(role for role in self.inputs if not self.kinds[role].beside)

    @property
    def targets(self) -> tuple[str, ...]:
        """The roles that supervise; empty for an unlabelled data set."""
        return self._store.assignment.targets

    @property
    def is_labelled(self) -> bool:
        """Whether every role is there that training needs, and every row says what is to be learnt."""
        return self._store.assignment.is_labelled and not len(self.without_target)

    @property
    def without_target(self) -> Index:
        """Numbers of the rows whose inputs should supervise themselves but do not: nobody answers in the messages."""
        return np.flatnonzero(np.isin(self._index, self._store.without_target))

    @property
    def label_names(self) -> tuple[Label, ...] | None:
        """The classes, of the labels' own type: sorted, or in the order they were declared in; None without classes."""
        return self._label_names

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of every row: roles, then columns without a role."""
        return (*self._store.values, *self._store.others)

    def asked(self) -> dict[str, Iterator[Any]]:
        """Input role -> what tells apart what a model is given of it when it predicts, in row order.

        What stands beside an input, such as the tools of a conversation, is told with it.
        """
        kinds = {role: self.kinds[role] for role in self.main_inputs}
        found: dict[str, Iterator[Any]] = {
            role: map(kind.likeness, map(kind.input_of, self.view(role))) for role, kind in kinds.items()
        }
        beside = [self.view(role) for role in self.inputs if role not in kinds]
        if beside:
            first = next(iter(found))
            found[first] = map(_told_with, found[first], zip(*beside, strict=True))
        return found

    def read_beside(self) -> list[Iterator[Any]]:
        """Targets that are texts to be read and not to be written, such as the pairs of embeddings, in row order."""
        return [iter(self.view(role)) for role in self.targets if isinstance(self.kinds[role], TextRole)]

    def _identities(self, roles: Iterable[str]) -> dict[str, Iterator[Any]]:
        """Role (or other column) -> what identifies its values, in row order."""
        kinds = self._store.assignment.kinds
        return {
            role: map(kinds[role].identity, self.view(role)) if role in kinds else iter(self.view(role))
            for role in roles
        }

    def column(self, role: str) -> list[Any]:
        """All values of a role (or of another column) in row order.

        Raises:
            RoleError: there is none of that name.
        """
        values = self._column(role)
        if self.is_whole:
            return list(values[:])
        return list(View(values, self._index))

    def view(self, role: str) -> View:
        """The same values as `column`, read when they are asked for: nothing is held that iteration has passed.

        Raises:
            RoleError: there is none of that name.
        """
        return View(self._column(role), self._index)

    def _column(self, role: str) -> Sequence[Any]:
        if role not in self.columns:
            raise RoleError(f"the data set has no role {role!r}: {nearest(role, self.columns)}")
        return self._store.values[role] if role in self._store.values else self._store.others[role]

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, key: slice) -> Self: ...
    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> Row: ...
    def __getitem__(self, key: int | np.integer[Any] | slice) -> Row | Self:
        """Row ``key`` as a dict under role names, other columns under their own; a slice is a data set.

        A column that bears the name of a role which another column plays is not in the dict.

        Raises:
            IndexError: there is no such row.
            OptionError: the key is neither a whole number nor a slice.
        """
        if isinstance(key, slice):
            return self._of(self._store, self._index[key], self._label_names)
        try:
            position = operator.index(key)
        except TypeError:
            raise OptionError(
                f"data[{brief(key)}]: expected a whole number or a slice; a whole column is data.column(...), "
                "a choice of rows is data.select(...)"
            ) from None
        if not -len(self) <= position < len(self):
            raise IndexError(f"data[{position}]: there are {len(self):,} rows")
        row = int(self._index[position])
        # Lists and dicts are copied, so that changing a row that was handed out does not change the data.
        values = {role: copied(column[row]) for role, column in self._store.values.items()}
        return values | {name: column[row] for name, column in self._store.others.items()}

    def __iter__(self) -> Iterator[Row]:
        return (self[position] for position in range(len(self)))

    def label_counts(self) -> dict[Label, int]:
        """How many rows (of tags: words) have each label, in the order of ``label_names``; empty without classes."""
        counts = dict.fromkeys(self._label_names or (), 0)
        for role in self.targets:
            for value in self.view(role):
                for label in self.kinds[role].labels_of(value):
                    counts[label] += 1
        return counts

    @property
    def unit(self) -> str:
        """What has a label: ``"rows"``, or ``"words"`` where every word has a tag."""
        return next((self.kinds[role].unit for role in self.targets if self.kinds[role].holds_labels), "rows")

    def fingerprint(self) -> str:
        """Hex SHA-256 over task, label names and every role's values in row order; other columns do not count.

        Of media the content counts, not the path.
        """
        return digest(self.task, self._label_names, self._identities(self._store.values))

    def digest(self, roles: Sequence[str]) -> str:
        """Hex SHA-256 over the values of some roles alone, in row order; of all rows of the columns worked out once.

        Raises:
            RoleError: there is none of that name.
        """
        if not self.is_whole:
            return digest(None, None, self._identities(roles))
        known = self._store.digests
        if tuple(roles) not in known:
            known[tuple(roles)] = digest(None, None, self._identities(roles))
        return known[tuple(roles)]

    def has_digest(self, roles: Sequence[str]) -> bool:
        """Whether the digest over all rows of the columns was worked out already."""
        return self.is_whole and tuple(roles) in self._store.digests

    @property
    def positions(self) -> Index:
        """The number of each row among all rows of the columns."""
        return self._index

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows of the columns, in their order."""
        return len(self) == self._store.rows and bool((self._index == np.arange(self._store.rows)).all())

    def whole(self) -> Self:
        """All rows of the columns that these rows were selected from."""
        return self._of(self._store, np.arange(self._store.rows, dtype=np.int64), self._label_names)

    def __repr__(self) -> str:
        roles = ", ".join(f"{role}={column!r}" for role, column in self.roles.items())
        names = "" if self._label_names is None else f", label_names={_shortened(self._label_names)}"
        unlabelled = "" if self.is_labelled else ", unlabelled"
        return f"{type(self).__name__}(task={self.task!r}, rows={len(self)}, roles=({roles}){names}{unlabelled})"

    def _repr_html_(self) -> str:
        roles = self.roles
        header = [f"{name} ← {roles[name]}" if roles.get(name, name) != name else name for name in self.columns]
        shown = [[self._drawn(name, row[name]) for name in self.columns] for row in self[:5]]
        state = "" if self.is_labelled else ", unlabelled"
        caption = f"{type(self).__name__}: {self.task or 'no task'}, {len(self):,} rows{state}"
        counts = [[brief(label), count] for label, count in self.label_counts().items()]
        return html_table(header, shown, caption=caption) + (html_table(["label", self.unit], counts) if counts else "")

    def _drawn(self, name: str, value: object) -> object:
        drawing = self.kinds[name].drawn(value) if name in self.kinds else None
        text = _shown(value)
        return text if drawing is None else Html(f"{drawing}<br>{escape(str(text))}")


def _told_with(value: object, beside: tuple[object, ...]) -> object:
    return value if all(other is None for other in beside) else [value, *beside]


def _shown(value: object) -> object:
    return value if isinstance(value, int | float) else brief(value, 120)


def _shortened(names: tuple[Label, ...]) -> str:
    if len(names) <= 10:
        return repr(names)
    return f"({', '.join(map(repr, names[:5]))}, ... {len(names)} in all)"
