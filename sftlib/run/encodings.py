"""What was written of rows once is used again: by the next fit, fold, trial or evaluation, and by other processes.

Columns are a function of the roles that a task reads, of those of its options that matter to them, of what writes them,
and of the encoder with its limits; the key is a digest of all these. Labels that stand beside the inputs are no part of
it, so relabelled rows find their columns too; targets that are read as inputs are, such as texts to write, are kept
with the others.

Data sets that were cut from one (`split`, `select`, folds) share its columns. As soon as one of them holds half of the
rows, the columns of all rows are made, and every other part takes its rows from there without a copy. A smaller part is
written by itself, unless the columns of all rows are at hand already. So is one beside which there are rows that cannot
be encoded: no data set answers for rows that it does not hold.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sftlib._version import __version__
from sftlib.data.dataset import TaskDataset
from sftlib.data.scratch import MEMORY_LIMIT, in_memory
from sftlib.encoders.base import Encoder
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.writer import Writer, read_columns, write_columns
from sftlib.errors import ArtifactError, DataError, OptionError
from sftlib.support.checking import user_path
from sftlib.tasks.base import Task

_KEPT = 4  # data sets


@final
@dataclass(frozen=True)
class _Making:
    """How the columns of rows are made, and what they are kept under.

    Args:
        task: writes them.
        encoder: reads the inputs.
        roles: that the task reads.
        facts: all that they depend on but the rows, as JSON values.
    """

    task: Task
    encoder: Encoder
    roles: tuple[str, ...]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, task: Task, data: TaskDataset, encoder: Encoder) -> _Making | None:
        """None where nothing tells what columns depend on, or nothing is won by keeping them."""
        roles = tuple(role for role in task.reads if role in data.roles)
        key = encoder.key()
        if key is None or not roles:
            return None
        writes = type(task).write
        facts = {
            "encoder": key,
            "options": task.write_options(encoder),
            "writes": [writes.__module__, writes.__qualname__, __version__],
        }
        return cls(task, encoder, roles, facts)

    def key(self, rows: TaskDataset) -> str:
        """Hex SHA-256 of everything that decides the columns of these rows."""
        facts = {"rows": rows.digest(self.roles), **self.facts}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def of_rows(self, rows: TaskDataset) -> Callable[[Writer], None]:
        """Fills a writer with the columns of these rows."""
        return lambda writer: self.task.write(rows, self.encoder, writer)


@final
class Encodings:
    """The columns of the last few data sets, and a folder of all of them if there is one.

    Args:
        folder: where columns are kept for other processes; None to keep none. They are the user's texts, so only the
            user can read them. An entry that is damaged is made anew.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._kept: OrderedDict[str, Encoded] = OrderedDict()

    def kept_in(self, folder: str | os.PathLike[str] | None) -> Encodings:
        """These, or empty ones if the folder is another."""
        wanted = None if folder is None else user_path(folder)
        return self if wanted == self._folder else Encodings(wanted)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder,)  # a copy, also in another process, starts empty

    def encode(self, task: Task, data: TaskDataset, encoder: Encoder) -> Encoded:
        """What ``task.encode`` makes of these rows, its columns taken from earlier work where there is some.

        Raises:
            OptionError: the folder cannot be written.
        """
        making = _Making.of(task, data, encoder)
        if making is None:
            return task.encode(data, encoder)
        columns = self._of_whole(making, data, data.whole())
        if columns is None:
            return task.encode(data, encoder, self._columns(making, data))
        return task.encode(data, encoder, columns if data.is_whole else columns.of_rows(data.positions))

    def _of_whole(self, making: _Making, data: TaskDataset, whole: TaskDataset) -> Encoded | None:
        """The columns of all rows; None where they are neither at hand nor worth making, or cannot be made."""
        if 2 * len(data) < len(whole):
            return self._find(making.key(whole)) if whole.has_digest(making.roles) else None
        try:
            return self._columns(making, whole)
        except (DataError, ArtifactError):
            if data.is_whole:
                raise
            return None  # the row may not be one of these: they alone say whether it is, and which

    def _columns(self, making: _Making, rows: TaskDataset) -> Encoded:
        key = making.key(rows)
        return self._find(key) or self._make(key, making.of_rows(rows))

    def _find(self, key: str) -> Encoded | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        elif self._folder is not None:
            found = read_columns(self._entry(key))
            if found is not None:
                self._keep(key, found)
        return found

    def _make(self, key: str, fill: Callable[[Writer], None]) -> Encoded:
        if self._folder is None:
            with Writer() as writer:
                fill(writer)
                made = writer.done()
        else:
            made = self._write(key, fill)
        self._keep(key, made)
        return made

    def _write(self, key: str, fill: Callable[[Writer], None]) -> Encoded:
        problem: object = "what was written is not what is there"
        try:
            write_columns(self._entry(key), fill)
        except OSError as error:  # or another process was faster: then its columns are there now
            problem = error
        made = read_columns(self._entry(key))
        if made is None:
            raise OptionError(f"cache_dir={str(self._folder)!r} cannot be written: {problem}")
        return made

    def _entry(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"columns-{key[:32]}"

    def _keep(self, key: str, columns: Encoded) -> None:
        """Keep the newest, and of the others as many as memory is meant for."""
        self._kept[key] = columns
        while len(self._kept) > _KEPT or (len(self._kept) > 1 and self._bytes() > MEMORY_LIMIT):
            self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(in_memory(array) for columns in self._kept.values() for array in columns.arrays())
