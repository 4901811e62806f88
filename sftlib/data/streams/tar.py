"""Tar archives in the manner of WebDataset: the files of a row lie together, and have one name up to a dot."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, final

from sftlib.data.files.packed import is_packed
from sftlib.data.files.paths import opened, without_repeats
from sftlib.data.streams.base import Reading, Shard, Unreadable
from sftlib.errors import DataError

_MOST = 2**26  # bytes of one file that are read
_END = -1  # a mark: nothing follows
_TEXTS = ("txt", "text")
_READ = (*_TEXTS, "cls", "json")


@final
class Tar(Shard):
    """The rows of an archive, each a few files that stand side by side: ``7.txt`` and ``7.cls`` are one.

    Nothing is written to disk, and nothing but regular files is looked at. A column is the part of a name behind its
    first dot: ``txt`` and ``text`` are texts, ``cls`` a whole number or a name, ``json`` an object whose keys become
    columns ``json.key``. Other files are passed over. ``__key__`` is the name that the files of a row have in common.

    Args:
        file: that is there; packed or not.
    """

    def __init__(self, file: Path) -> None:
        self.name = file.name
        self._file = file

    def read(self, row: int = 0, mark: Any = None) -> Reading:
        at: list[int | None] = [None]  # where the files of the next row begin
        rows = self._rows(row, None if mark is None else int(mark), at)
        return Reading(rows, mark=lambda: None if is_packed(self._file) else at[0])

    def _rows(self, row: int, mark: int | None, at: list[int | None]) -> Iterator[tuple[int, object]]:
        at[0] = mark
        if mark == _END:
            return
        try:
            with opened(self._file, "rb") as stream:
                if mark is not None:
                    stream.seek(mark)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    yield from _samples(archive, row, 0 if mark is None else row, at)
        except tarfile.TarError as error:
            raise DataError(f"{self.name} cannot be read as a tar archive: {error}") from error

    def facts(self) -> list[Any]:
        return [self.name, self._file.stat().st_size]


def _samples(archive: tarfile.TarFile, wanted: int, number: int, at: list[int | None]) -> Iterator[tuple[int, object]]:
    """The rows from ``wanted`` on, of an archive that stands before row ``number``."""
    row: _Row | None = None
    for member in archive:
        key = _key(member.name)
        if not member.isfile() or key is None:
            continue
        if row is not None and key != row.key:
            at[0] = member.offset
            if number >= wanted:
                yield number, row.value
            number, row = number + 1, None
        row = row or _Row(key)
        if number >= wanted:
            row.add(archive, member)  # at once: a packed archive is gone through forwards alone
    at[0] = _END
    if row is not None and number >= wanted:
        yield number, row.value


def _key(name: str) -> str | None:
    """A name up to the first dot of its last part; None of names that begin with one, or have none."""
    path = PurePosixPath(name)
    stem, dot, _ = path.name.partition(".")
    return str(path.with_name(stem)) if stem and dot else None


class _Row:
    """The files of one row, as far as they were seen.

    Args:
        key: what their names have in common.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._columns: dict[str, object] = {"__key__": key}
        self._problem: Unreadable | None = None

    @property
    def value(self) -> object:
        """The row, or what is wrong with it."""
        return self._problem or self._columns

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Read one of the files."""
        column = PurePosixPath(member.name).name.partition(".")[2]
        if column not in _READ:
            return
        name = member.name[-60:]
        if column in self._columns:
            self._problem = Unreadable("two files of one name", note=name)
        elif member.size > _MOST:
            self._problem = Unreadable("a file of more than 64 MiB", note=name)
        else:
            stream = archive.extractfile(member)
            assert stream is not None  # of a regular file
            try:
                self._columns |= _columns(column, stream.read().decode("utf-8"))
            except (ValueError, RecursionError) as error:
                self._problem = Unreadable(f"a .{column} that cannot be read", note=f"{name}: {error!s:.80}")


def _columns(column: str, content: str) -> dict[str, object]:
    """What a file of a row says."""
    if column in _TEXTS:
        return {column: content}
    if column == "cls":
        said = content.strip()
        return {column: int(said) if said.lstrip("-").isdecimal() else said}
    found = json.loads(content, object_pairs_hook=without_repeats)
    return {f"json.{name}": value for name, value in found.items()} if isinstance(found, dict) else {column: found}
