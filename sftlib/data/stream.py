"""`TaskStream`: rows that are learned from as they come, where they are more than a disk holds or have no end."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, final

from sftlib.data.dataset import TaskDataset
from sftlib.data.files.tables import class_names_of, from_mappings
from sftlib.data.kinds.base import Label
from sftlib.data.kinds.label_names import check_label_names, union
from sftlib.data.problems import Findings, brief
from sftlib.data.roles.schemas import roles_of
from sftlib.data.shaping import separator_problem
from sftlib.data.streams.base import Shard, Unreadable
from sftlib.data.streams.iterables import shards_of
from sftlib.data.streams.jsonl import JsonLines
from sftlib.data.streams.order import Reader, Taken
from sftlib.data.streams.parquet import Parquet
from sftlib.data.streams.tar import Tar
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import checked, choice, nearest, raise_together, user_path, whole_number
from sftlib.support.display import counted

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: Rows that are read, checked and encoded at a time, where nothing else is said.
BLOCK = 2**13

#: A column of every block: where its row comes from.
PLACE = "row of the stream"


class Block(NamedTuple):
    """Some rows of a stream that follow one another.

    Attributes:
        data: those that can be used.
        left_out: how many could not, and were dropped.
    """

    data: TaskDataset
    left_out: int


@final
@dataclass(frozen=True)
class _Roles:
    """What each block is made a data set with, and what the first one settled for all others.

    Args:
        task: what to learn, or None.
        label_names: the classes, or None.
        on_invalid: ``"error"`` or ``"drop"``.
        separator: between the members of a list in one text, or None.
        roles: role -> column.
    """

    task: str | None
    label_names: tuple[Label, ...] | None
    on_invalid: str
    separator: str | None
    roles: Mapping[str, Any]

    def settled_by(self, first: TaskDataset) -> _Roles:
        """The same for the blocks that follow: they have the roles of the first one and no others."""
        others = dict.fromkeys(roles_of(first.task) - first.roles.keys()) if first.task else {}
        roles = {**others, **first.roles, **self.roles}
        return replace(self, task=first.task, label_names=first.label_names, roles=roles)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = None if self.label_names is None else list(self.label_names)
        return {
            "task": self.task,
            "label_names": names,
            "on_invalid": self.on_invalid,
            "separator": self.separator,
            "roles": {name: json.loads(json.dumps(column)) for name, column in sorted(self.roles.items())},
        }


@final
class TaskStream:
    """Labelled rows that `FineTuner.fit` reads as it needs them: a block at a time is in memory, and nothing on disk.

    A run takes them in an order that is a function of its seed alone: in each pass over the stream the shards come in
    an order of their own, and the rows of each block in another. A run with an ``output_dir`` goes on from a checkpoint
    to the bit, without reading again what lies before, where the form of the shards allows that. Rows are checked block
    by block: all that is wrong with a block is one error, with shards and rows.

    Args:
        rows: an iterable of mappings that begins anew whenever it is asked, such as a ``datasets.IterableDataset``
            (whose shards, features and ``state_dict`` are made use of). Files are read by the other constructors.
        task: as for `TaskDataset`.
        label_names: the classes in their order. A stream does not know its rows, so tasks with labels need them; see
            `with_label_names`.
        on_invalid: as for `TaskDataset`; rows that cannot be read at all are counted among the others.
        separator: as for `TaskDataset`.
        buffer: rows that are read, checked and shuffled together.
        rows_per_epoch: after how many rows a run looks at its validation rows and saves, as after an epoch; at its end
            alone when None.
        **roles: as for `TaskDataset`.

    Raises:
        OptionError: values that options cannot have.
        DataError: rows that can be gone through once, or none at all.

    Example:
        >>> rows = [{"review": "Loved it.", "stars": 5}, {"review": "Dull.", "stars": 1}]
        >>> stream = TaskStream(rows, text="review", label="stars", label_names=[1, 5])
        >>> stream
        TaskStream(1 shard, text='review', label='stars', label_names=(1, 5))
        >>> stream.take(1)[0]["text"]
        'Loved it.'
    """

    @checked
    def __init__(
        self,
        rows: object,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        buffer: int = BLOCK,
        rows_per_epoch: int | None = None,
        **roles: str | Sequence[str] | None,
    ) -> None:
        raise_together(
            [
                choice("on_invalid", on_invalid, ("error", "drop")),
                separator_problem(separator),
                whole_number("buffer", buffer, at_least=1),
                rows_per_epoch is not None and whole_number("rows_per_epoch", rows_per_epoch, at_least=1),
            ]
        )
        self.shards = shards_of(rows)
        self.buffer = int(buffer)
        self.rows_per_epoch = rows_per_epoch
        self._features: Mapping[str, Any] = getattr(rows, "features", None) or {}
        self._roles = _Roles(task, check_label_names(label_names), on_invalid, separator, dict(roles))

    @classmethod
    @checked
    def from_jsonl(
        cls,
        paths: Paths,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        buffer: int = BLOCK,
        rows_per_epoch: int | None = None,
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Shards of JSON Lines, packed (gz, bz2, xz) or not; any line of one that is not packed is found at once.

        Args:
            paths: a pattern such as ``"part-*.jsonl"``, a path, or a list of paths.
            task: as for `TaskDataset`.
            label_names: the classes in their order.
            on_invalid: as for `TaskDataset`.
            separator: as for `TaskDataset`.
            buffer: rows that are read, checked and shuffled together.
            rows_per_epoch: as for `TaskStream`.
            **roles: as for `TaskDataset`.

        Raises:
            OptionError: values that options cannot have.
            DataError: no such files.
        """
        given: dict[str, Any] = {"task": task, "label_names": label_names, "on_invalid": on_invalid, **roles}
        return cls._of(JsonLines, paths, separator=separator, buffer=buffer, rows_per_epoch=rows_per_epoch, **given)

    @classmethod
    @checked
    def from_parquet(
        cls,
        paths: Paths,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        buffer: int = BLOCK,
        rows_per_epoch: int | None = None,
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Shards of Parquet, whose groups of rows are found at once; needs pyarrow, from the extra ``data``.

        Args:
            paths: a pattern such as ``"part-*.parquet"``, a path, or a list of paths.
            task: as for `TaskDataset`.
            label_names: the classes in their order.
            on_invalid: as for `TaskDataset`.
            separator: as for `TaskDataset`.
            buffer: rows that are read, checked and shuffled together.
            rows_per_epoch: as for `TaskStream`.
            **roles: as for `TaskDataset`.

        Raises:
            MissingExtraError: pyarrow is not installed.
            OptionError: values that options cannot have.
            DataError: no such files.
        """
        given: dict[str, Any] = {"task": task, "label_names": label_names, "on_invalid": on_invalid, **roles}
        return cls._of(Parquet, paths, separator=separator, buffer=buffer, rows_per_epoch=rows_per_epoch, **given)

    @classmethod
    @checked
    def from_tar(
        cls,
        paths: Paths,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        buffer: int = BLOCK,
        rows_per_epoch: int | None = None,
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Shards as tar archives in the manner of WebDataset: ``7.txt`` and ``7.cls`` are a row, ``text="txt"``.

        ``.txt`` and ``.text`` are texts, ``.cls`` is a whole number or a name, the keys of an object in ``.json`` are
        columns ``json.key``; other files are passed over. Nothing is written to disk.

        Args:
            paths: a pattern such as ``"part-*.tar"``, a path, or a list of paths.
            task: as for `TaskDataset`.
            label_names: the classes in their order.
            on_invalid: as for `TaskDataset`.
            separator: as for `TaskDataset`.
            buffer: rows that are read, checked and shuffled together.
            rows_per_epoch: as for `TaskStream`.
            **roles: as for `TaskDataset`.

        Raises:
            OptionError: values that options cannot have.
            DataError: no such files.
        """
        given: dict[str, Any] = {"task": task, "label_names": label_names, "on_invalid": on_invalid, **roles}
        return cls._of(Tar, paths, separator=separator, buffer=buffer, rows_per_epoch=rows_per_epoch, **given)

    @classmethod
    def _of(cls, kind: Callable[[Path], Shard], paths: Paths, **given: Any) -> Self:
        return cls(tuple(kind(file) for file in _files(paths)), **given)

    def take(self, rows: int) -> TaskDataset:
        """The first rows as a data set, in the order in which the shards were given: to look at, or to evaluate on.

        Raises:
            OptionError: a number that cannot be.
            DataError: rows that cannot be used.
        """
        raise_together([whole_number("rows", rows, at_least=1)])
        reader = Reader(self.shards, seed=None)
        try:
            return self.block(reader.block(rows), self._roles).data
        finally:
            reader.close()

    def with_label_names(self) -> TaskStream:
        """The same with the labels that one pass over all shards finds, sorted; without end where the stream has none.

        Raises:
            DataError: rows that cannot be used, of the first block that has some.
            LabelError: labels of several types.
            OptionError: the rows have no labels.
        """
        reader, names = Reader(self.shards, seed=None), None
        while True:
            taken = reader.block(self.buffer)
            if reader.cursor.done:  # the second pass has begun
                break
            found = self.block(taken, self._roles).data
            if found.label_names is None:
                raise OptionError(f"with_label_names: {found.task or 'this'} has no labels")
            names = found.label_names if names is None else union(names, found.label_names)
        reader.close()
        twin = self._copy()
        twin._roles = replace(self._roles, label_names=names)
        return twin

    def _copy(self) -> TaskStream:
        twin = TaskStream(self.shards, buffer=self.buffer, rows_per_epoch=self.rows_per_epoch)
        twin._features, twin._roles = self._features, self._roles
        return twin

    # For whoever reads it in a run.

    def settled(self, first: TaskDataset) -> TaskStream:
        """The same, all of whose blocks have the task, the roles and the labels of the first.

        Raises:
            OptionError: its labels were never declared.
        """
        declared = self._roles.label_names is not None or self._declared(first)
        if first.label_names is not None and not declared:
            raise OptionError(
                f"label_names: a stream does not know its rows, and its first {len(first):,} have the labels "
                f"{brief(list(first.label_names), 80)}: name all there may be with label_names=[...], or have all "
                "shards read once: stream.with_label_names()"
            )
        twin = self._copy()
        twin._roles = self._roles.settled_by(first)
        return twin

    def _declared(self, first: TaskDataset) -> bool:
        names = class_names_of(self._features)
        return any(first.roles[role] in names for role in first.targets)

    def block(self, rows: Sequence[Taken], roles: _Roles | None = None) -> Block:
        """Rows as they were read as a data set, with a column `PLACE`.

        Raises:
            LabelError: labels that cannot be used, and nothing else.
            DataError: rows that cannot; all problems in one, with shard and row.
        """
        roles = roles or self._roles
        good = [row for row in rows if isinstance(row.value, Mapping)]
        problems = _unreadable(rows)
        if not good or (problems and roles.on_invalid == "error"):
            raise DataError("\n".join([*problems.lines("rows", lambda n: rows[n].place), *self._wrong(good, roles)]))
        data = self._data(good, roles)
        return Block(data, len(rows) - len(data))

    def _wrong(self, rows: Sequence[Taken], roles: _Roles) -> list[str]:
        """What is wrong with rows that can be read."""
        try:
            if rows:
                self._data(rows, roles)
        except DataError as error:
            return str(error).splitlines()
        return []

    def _data(self, rows: Sequence[Taken], roles: _Roles) -> TaskDataset:
        table = from_mappings({**row.value, PLACE: row.place} for row in rows)  # type: ignore[dict-item]
        known = replace(
            table,
            class_names=class_names_of(self._features),
            unified=any(shard.unified for shard in self.shards),
            named=lambda row: rows[row].place,
        )
        return TaskDataset(
            known,
            task=roles.task,
            label_names=roles.label_names,
            on_invalid=roles.on_invalid,
            separator=roles.separator,
            **roles.roles,
        )

    def facts(self) -> dict[str, Any]:
        """What a run that goes on compares, as JSON values: the shards by name and size, and how rows are read."""
        shards = hashlib.sha256(json.dumps([shard.facts() for shard in self.shards]).encode()).hexdigest()
        return {"shards": len(self.shards), "names and sizes": shards, "buffer": self.buffer, **self._roles.to_dict()}

    def __repr__(self) -> str:
        shown = {"task": self._roles.task, **self._roles.roles, "label_names": self._roles.label_names}
        parts = [f"{name}={value!r}" for name, value in shown.items() if value is not None]
        return f"TaskStream({', '.join([counted(len(self.shards), 'shard'), *parts])})"


def no_data_set(data: object, use: str) -> str:
    """What to say where something else than a data set was given.

    Args:
        data: what it is.
        use: what for, to begin the message with.
    """
    if isinstance(data, TaskStream):
        return f"{use}: a stream is for learning from alone; give some of its rows: stream.take(1000)"
    return (
        f"{use}: expected a TaskDataset, found {type(data).__name__}; "
        "wrap the rows: TaskDataset(rows, text=..., label=...)"
    )


def _unreadable(rows: Sequence[Taken]) -> Findings:
    findings = Findings()
    for number, row in enumerate(rows):
        if isinstance(row.value, Unreadable):
            mend = "mend these, or leave them out with on_invalid='drop'"
            findings.add(number, row.value.what, row.value.value, mend, note=row.value.note)
        elif not isinstance(row.value, Mapping):
            what = f"{type(row.value).__name__} instead of a mapping"
            findings.add(number, what, row.value, "give each row as {column: value}")
    return findings


def _files(paths: Paths) -> list[Path]:
    """The files of a pattern, a path, or a list of paths; those of a pattern sorted.

    Raises:
        OptionError: none of these.
        DataError: files that are not there.
    """
    if isinstance(paths, str | os.PathLike):
        given = user_path(paths)
        if given.is_dir():
            raise DataError(f"{given} is a folder: name its files, with a pattern such as {os.fspath(given / '*')!r}")
        found = [given] if given.is_file() else [Path(name) for name in sorted(glob.glob(os.fspath(given)))]
        if not found:
            raise DataError(f"{given}: no such files{_near(given)}")
    elif isinstance(paths, Sequence) and paths and all(isinstance(path, str | os.PathLike) for path in paths):
        found = [user_path(path) for path in paths]
    else:
        raise OptionError(
            f"paths={brief(paths)}: expected a pattern such as 'part-*.jsonl', a path, or a list of paths"
        )
    missing = [str(file) for file in found if not file.is_file()]
    twice = sorted({str(file) for file in found if found.count(file) > 1})
    raise_together([f"{name}: no such file" for name in missing], DataError)
    raise_together([f"paths: {name} stands there more than once" for name in twice])
    return found


def _near(given: Path) -> str:
    if not given.parent.is_dir():
        return f": there is no such folder as {given.parent}"
    names = sorted(entry.name for entry in given.parent.iterdir() if entry.is_file())
    return f": {nearest(given.name, names)}" if names else f": {given.parent} holds none"
