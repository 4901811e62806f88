"""Files one a row: folders of classes, and lists of sounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from os import PathLike
from typing import Self, overload

from sftlib.data.files import folders
from sftlib.data.files.manifests import read_manifest
from sftlib.data.files.separated import AUTO
from sftlib.data.kinds.base import Label
from sftlib.data.kinds.label_names import union
from sftlib.data.reading.base import Readable
from sftlib.data.roles.schemas import SCHEMAS, roles_of
from sftlib.support.checking import checked


class FromMedia(Readable):
    """Rows that are pictures, sounds or texts, each a file of its own."""

    @overload
    @classmethod
    def from_folder(
        cls,
        path: str | PathLike[str],
        *,
        splits: None = None,
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self: ...
    @overload
    @classmethod
    def from_folder(
        cls,
        path: str | PathLike[str],
        *,
        splits: Sequence[str],
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> tuple[Self, ...]: ...
    @classmethod
    @checked
    def from_folder(
        cls,
        path: str | PathLike[str],
        *,
        splits: Sequence[str] | None = None,
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self | tuple[Self, ...]:
        """One folder per class, of pictures, of sounds or of ``.txt`` files: one file a row, in sorted order.

        The columns are ``image`` or ``audio`` (a path) or ``text``, ``label`` (the name of the folder) and ``path``
        (from the given folder on). Folders inside of a class belong to it. A file is a sound by its suffix, and a
        picture by its suffix or, failing that, by its first bytes; other files are passed over, hidden folders and
        links to folders are not looked into, and the logger ``sftlib`` says how many and which.

        Args:
            path: the folder.
            splits: names of folders in it, each with the folders of the classes, such as ``("train", "val")``; a data
                set for each of them comes back, and all have the same label names.
            encoding: how the bytes of ``.txt`` files spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`; ``image="image"``, ``audio="audio"`` or ``text="text"`` says which files are
                meant where there are several kinds.

        Raises:
            DataError: no such folder, no class folders, a class without files, texts that cannot be decoded,
                pictures or sounds that cannot be read, and as for `TaskDataset`.
        """
        role = next((role for role in folders.FILES if roles.get(role) == role), None)
        if role is None and task in SCHEMAS.tasks:
            role = next((role for role in folders.FILES if role in roles_of(task)), None)
        if splits is None:
            tables = [folders.read_folder(path, encoding=encoding, role=role)]
        else:
            tables = folders.read_splits(path, splits, encoding=encoding, role=role)
        parts = [cls._of_table(table, roles, task, label_names, on_invalid) for table in tables]
        if splits is None:
            return parts[0]
        names = reduce(union, (part.label_names for part in parts))
        return tuple(part._of(part._store, part._index, names) for part in parts)

    @classmethod
    @checked
    def from_manifest(
        cls,
        path: str | PathLike[str],
        *,
        quoting: str | None = AUTO,
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Sounds of a list, one a row: a table, JSON Lines, a folder of Kaldi's, or one of LJSpeech's layout.

        Paths in a list start from its folder. Of JSON Lines in NeMo's layout ``audio_filepath`` is the column
        ``audio``. A Kaldi folder has the columns ``audio``, ``id`` and, where its files are there, ``text``,
        ``speaker`` and ``language``; what ``segments`` cuts out is held in memory, and commands in ``wav.scp`` are
        never run. An LJSpeech folder has ``audio``, ``text``, ``normalized_text`` and ``id``.

        Args:
            path: a ``.csv``, ``.tsv`` or ``.jsonl`` file, or a folder.
            quoting: in tables, as for `from_csv`.
            encoding: how the bytes of a table spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, lines that cannot be used, sounds that cannot be read, and as for `TaskDataset`.
        """
        table = read_manifest(path, encoding=encoding, quoting=quoting)
        return cls._of_table(table, roles, task, label_names, on_invalid)
