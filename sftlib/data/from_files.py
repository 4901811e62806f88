"""The readers of `TaskDataset`: a file, a folder or a name on a hub in, a data set out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import reduce
from os import PathLike
from types import MappingProxyType
from typing import Self, overload

from sftlib.data.files import biology, folders, readers
from sftlib.data.files.conll import read_conll
from sftlib.data.files.instructions import read_alpaca, read_sharegpt
from sftlib.data.files.json import read_json
from sftlib.data.files.manifests import read_manifest
from sftlib.data.files.squad import read_squad
from sftlib.data.kinds.base import Label
from sftlib.data.kinds.label_names import union
from sftlib.data.roles.schemas import SCHEMAS, roles_of
from sftlib.data.rows import Rows
from sftlib.support.checking import checked


class FromFiles(Rows):
    """Rows that can be read from files, all with the same keywords."""

    @abstractmethod
    def __init__(
        self,
        rows: object,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> None:
        """As for `TaskDataset`."""

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
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        r"""Rows of a CSV file with a header.

        Cells are text. Only columns of labels and targets are converted: to int when all cells are whole numbers
        (without leading zeros), to bool when all are true or false; ``labels`` cells hold JSON lists. Empty cells
        there are missing values; blank lines are skipped; a byte order mark is dropped.

        Args:
            path: the file.
            delimiter: the character between cells, such as ``";"`` or ``"\t"``.
            encoding: how the file's bytes spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, bad bytes, ragged rows (with their lines), and as for `TaskDataset`.
        """
        table = readers.read_csv(path, delimiter=delimiter, encoding=encoding)
        return cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_jsonl(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a JSON Lines file: one object per line, in UTF-8; blank lines are skipped.

        Raises:
            DataError: no such file, or lines that are no JSON object (all of them counted), and as for `TaskDataset`.
        """
        return cls(readers.read_jsonl(path), task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_parquet(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a Parquet file; needs pyarrow, from the extra ``data``.

        Raises:
            MissingExtraError: pyarrow is not installed.
            DataError: no such file, or no Parquet, and as for `TaskDataset`.
        """
        return cls(readers.read_parquet(path), task=task, label_names=label_names, on_invalid=on_invalid, **roles)

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
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """One split of a data set on the Hugging Face hub; needs `datasets`, from the extra ``data``.

        Args:
            name: name on the hub, or a local folder that `datasets` can read.
            split: which split, such as ``"train"`` or ``"train[:10%]"``.
            config: which configuration, where the data set has several.
            revision: a commit or tag, to read the same rows again later.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            MissingExtraError: `datasets` is not installed.
            DataError: it cannot be loaded, and as for `TaskDataset`.
        """
        rows = readers.read_hub(name, split=split, config=config, revision=revision)
        return cls(rows, task=task, label_names=label_names, on_invalid=on_invalid, **roles)

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
        picture by its suffix or, failing that, by its first bytes; other files are passed over, and the logger
        ``sftlib`` says how many and which.

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
        parts = [cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **roles) for table in tables]
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
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | None,
    ) -> Self:
        """Sounds of a list, one a row: a table, JSON Lines, a folder of Kaldi's, or one of LJSpeech's layout.

        Paths in a list start from its folder. Of JSON Lines in NeMo's layout ``audio_filepath`` is the column
        ``audio``. A Kaldi folder has the columns ``audio``, ``id`` and, where its files are there, ``text``,
        ``speaker`` and ``language``; what ``segments`` cuts out is held in memory, and commands in ``wav.scp`` are
        never run. An LJSpeech folder has ``audio``, ``text``, ``normalized_text`` and ``id``.

        Args:
            path: a ``.csv``, ``.tsv`` or ``.jsonl`` file, or a folder.
            encoding: how the bytes of a table spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, lines that cannot be used, sounds that cannot be read, and as for `TaskDataset`.
        """
        table = read_manifest(path, encoding=encoding)
        return cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_json(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a JSON file that holds an array of objects, in UTF-8.

        Raises:
            DataError: no such file, no JSON (with the line) or no array of objects, and as for `TaskDataset`.
        """
        return cls(read_json(path), task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_conll(
        cls,
        path: str | PathLike[str],
        *,
        columns: Mapping[str, int] = MappingProxyType({"tokens": 0, "tags": -1}),
        delimiter: str | None = None,
        comment: str | None = None,
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        r"""Sentences of a file with a word and its tags in each line and an empty line after each sentence.

        So are the files of the CoNLL shared tasks, of WNUT and of many others. ``-DOCSTART-`` lines are passed over.

        Args:
            path: the file.
            columns: name -> which column of the file, from 0; negative numbers count from the last. Each becomes a
                column of lists of strings; ``{"tokens": 0}`` reads words without tags.
            delimiter: what stands between columns; None for a tab where the first line has one, else spaces and tabs.
            comment: lines that begin with this are passed over, such as ``"# "``.
            encoding: how the file's bytes spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            OptionError: columns that the file does not have.
            DataError: no such file, bad bytes, ragged lines (with their numbers), and as for `TaskDataset`.
        """
        table = read_conll(path, columns=columns, delimiter=delimiter, comment=comment, encoding=encoding)
        return cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_squad(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Questions of a file in the layout of SQuAD 1.1 or 2.0, one a row, with columns ``id`` and ``title``.

        Questions that are marked impossible have no answers.

        Raises:
            DataError: no such file, no JSON (with the line), another layout (and where), and as for `TaskDataset`.
        """
        return cls(read_squad(path), task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_alpaca(cls, path: str | PathLike[str]) -> Self:
        """Instructions in Alpaca's layout, as conversations: a JSON array or JSON Lines.

        The user says ``instruction`` and, after an empty line, ``input`` where it is not blank; the assistant says
        ``output``. ``system`` and ``history`` (pairs of what was said and answered before) go in front, if they are
        there. A row without output can be predicted on but not trained on. Other columns are kept.

        Raises:
            DataError: no such file, no JSON, another layout, with lines or rows.
        """
        return cls(read_alpaca(path), task="causal-lm", messages="messages")

    @classmethod
    @checked
    def from_sharegpt(cls, path: str | PathLike[str]) -> Self:
        """Conversations in ShareGPT's layout: a JSON array or JSON Lines with a column ``conversations``.

        Its turns are ``{"from": ..., "value": ...}`` of human, gpt, system, observation and function_call; ``system``
        goes in front where the row has it. Other columns are kept.

        Raises:
            DataError: no such file, no JSON, another layout, with lines or rows.
        """
        return cls(read_sharegpt(path), task="causal-lm", messages="messages")

    @classmethod
    @checked
    def from_fasta(
        cls,
        path: str | PathLike[str],
        *,
        labels: str | PathLike[str] | None = None,
        mask: str | PathLike[str] | None = None,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Sequences of a FASTA file, plain or gzipped, one a row.

        The columns are ``id`` (what stands before the first space of a header), ``description`` (what stands after
        it), ``sequence``, and whatever a header says as ``name=value``, under the name in small letters:
        ``>P1 SET=train`` has ``set``.

        Args:
            path: the file.
            labels: a second file with what is to be learned of each sequence, by ``id``: FASTA with a label for each
                letter becomes the column ``residue_labels``; CSV has columns of its own, by its column ``id`` or its
                first.
            mask: a file that says of each letter whether it counts, as 1 or 0: the column ``residue_mask``.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, lines that are no FASTA (with their numbers), names that stand in one file alone,
                and as for `TaskDataset`.
        """
        table = biology.read_fasta(path, labels=labels, mask=mask)
        return cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **roles)

    @classmethod
    @checked
    def from_sdf(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Molecules of an SDF file, plain or gzipped, one a row; needs rdkit, from the extra ``chem``.

        The columns are ``sequence`` (canonical SMILES), ``id`` (the first line of a record) and its properties.

        Raises:
            MissingExtraError: rdkit is not installed.
            DataError: no such file, records that are no molecule (with their numbers), and as for `TaskDataset`.
        """
        table = biology.read_sdf(path, drop=on_invalid == "drop")
        return cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **roles)
