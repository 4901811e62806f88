"""The readers of `TaskDataset`: a file, a folder or a name on a hub in, a data set out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import reduce
from os import PathLike
from types import MappingProxyType
from typing import Any, Self, overload

from sftlib.data.files import biology, folders, readers
from sftlib.data.files.conll import read_conll
from sftlib.data.files.entities import read_entities
from sftlib.data.files.excel import read_excel
from sftlib.data.files.instructions import read_alpaca, read_sharegpt
from sftlib.data.files.json import read_json
from sftlib.data.files.manifests import read_manifest
from sftlib.data.files.separated import AUTO, read_csv
from sftlib.data.files.squad import read_squad
from sftlib.data.kinds.base import Label
from sftlib.data.kinds.label_names import union
from sftlib.data.roles.schemas import SCHEMAS, roles_of
from sftlib.data.rows import Rows
from sftlib.support.checking import checked, choice, raise_together


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
        separator: str | None = None,
        sentence: str | None = None,
        **roles: str | Sequence[str] | None,
    ) -> None:
        """As for `TaskDataset`."""

    @classmethod
    def _of_table(cls, table: object, roles: Mapping[str, Any], **options: Any) -> Self:
        return cls(table, **options, **roles)

    @classmethod
    @checked
    def from_csv(
        cls,
        path: str | PathLike[str],
        *,
        delimiter: str = ",",
        quoting: str | None = AUTO,
        escape: str | None = None,
        encoding: str = "utf-8",
        separator: str | None = None,
        sentence: str | None = None,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        r"""Rows of a CSV file with a header.

        Cells are text. Only columns of labels and targets are converted: to int when all cells are whole numbers
        (without leading zeros), to bool when all are true or false. Cells of lists, such as ``labels``, hold them in
        JSON, as Python or numpy write them, or with ``separator`` between their members. Empty cells there are missing
        values; blank lines are skipped; a byte order mark is dropped, and so are blanks around the names of columns,
        around labels, and behind every delimiter where the header has them there. A gz, bz2 or xz file, or a zip with
        one file in it, is read as it is.

        Args:
            path: the file.
            delimiter: the character between cells, such as ``";"`` or ``"\t"``.
            quoting: the character around cells that hold delimiters or line ends; ``None`` to read cells as they stand,
                quotes and all. ``"auto"`` is ``'"'``, but for cells that look as if they had swallowed other rows,
                which are
                an error.
            escape: the character before one that means itself, such as ``"\\"``, for files that write quotes inside of
                cells so; None where they are doubled.
            encoding: how the file's bytes spell text.
            separator: as for `TaskDataset`.
            sentence: as for `TaskDataset`.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, bad bytes, ragged rows (with their lines), and as for `TaskDataset`.
        """
        table = read_csv(path, delimiter=delimiter, quoting=quoting, escape=escape, encoding=encoding)
        return cls(
            table,
            task=task,
            label_names=label_names,
            on_invalid=on_invalid,
            separator=separator,
            sentence=sentence,
            **roles,
        )

    @classmethod
    @checked
    def from_excel(
        cls,
        path: str | PathLike[str],
        *,
        sheet: str | int | None = None,
        separator: str | None = None,
        sentence: str | None = None,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a sheet of an Excel workbook (``.xlsx``) with a header; needs openpyxl, from the extra ``excel``.

        Cells are read as the text that would be typed, and then as in `from_csv`; of formulas their last results.

        Args:
            path: the file.
            sheet: its name, or its number from 0; None where only one sheet holds anything.
            separator: as for `TaskDataset`.
            sentence: as for `TaskDataset`.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            MissingExtraError: openpyxl is not installed.
            OptionError: no such sheet, or several to choose from.
            DataError: no such file, no workbook, and as for `TaskDataset`.
        """
        return cls(
            read_excel(path, sheet=sheet),
            task=task,
            label_names=label_names,
            on_invalid=on_invalid,
            separator=separator,
            sentence=sentence,
            **roles,
        )

    @classmethod
    @checked
    def from_entities(
        cls,
        source: Any,
        *,
        text: str = "text",
        entities: str | None = None,
        scheme: str = "BIO",
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
    ) -> Self:
        """Texts in which entities are marked by their characters, as words with tags (task ``token-classification``).

        The layouts of doccano, Label Studio (JSON and JSON-MIN), Prodigy and spaCy are known: a span is ``[start, end,
        label]`` or a mapping of these, characters counted from 0, the end not included. Texts are cut into words as
        `FineTuner.predict` cuts them, and once more where an entity begins or ends inside of a word. Rows that Prodigy
        marks as rejected are passed over, white space at the ends of a span is left out, and the logger ``sftlib`` says
        how often.

        Args:
            source: a JSON Lines file, a file with a JSON array, or rows in any form that `TaskDataset` takes.
            text: the key of the text.
            entities: the key of its entities; None for whichever a row has of ``entities``, ``spans``, ``label`` and
                ``labels``.
            scheme: of the tags, ``"BIO"`` or ``"BIOES"``.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: no such scheme.
            DataError: no such file, another layout, spans that overlap or reach beyond their text, with their rows.

        Example:
            >>> from sftlib import TaskDataset
            >>> data = TaskDataset.from_entities(
            ...     [{"text": "Ada saw Rome.", "label": [[0, 3, "PER"], [8, 12, "LOC"]]}]
            ... )
            >>> data[0]["tokens"], data[0]["tags"]
            (['Ada', 'saw', 'Rome', '.'], ['B-PER', 'O', 'B-LOC', 'O'])
        """
        raise_together([choice("on_invalid", on_invalid, ("error", "drop"))])
        table = read_entities(source, text=text, entities=entities, scheme=scheme, drop_invalid=on_invalid == "drop")
        return cls(table, task="token-classification", label_names=label_names, on_invalid=on_invalid)

    @classmethod
    @checked
    def from_jsonl(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        sentence: str | None = None,
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a JSON Lines file: one object per line, in UTF-8; blank lines are skipped.

        Raises:
            DataError: no such file, or lines that are no JSON object (all of them counted), and as for `TaskDataset`.
        """
        return cls._of_table(
            readers.read_jsonl(path),
            roles,
            task=task,
            label_names=label_names,
            on_invalid=on_invalid,
            separator=separator,
            sentence=sentence,
        )

    @classmethod
    @checked
    def from_parquet(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        sentence: str | None = None,
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a Parquet file; needs pyarrow, from the extra ``data``.

        Raises:
            MissingExtraError: pyarrow is not installed.
            DataError: no such file, or no Parquet, and as for `TaskDataset`.
        """
        return cls._of_table(
            readers.read_parquet(path),
            roles,
            task=task,
            label_names=label_names,
            on_invalid=on_invalid,
            separator=separator,
            sentence=sentence,
        )

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
        separator: str | None = None,
        sentence: str | None = None,
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
            separator: as for `TaskDataset`.
            sentence: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            MissingExtraError: `datasets` is not installed.
            DataError: it cannot be loaded, and as for `TaskDataset`.
        """
        rows = readers.read_hub(name, split=split, config=config, revision=revision)
        return cls._of_table(
            rows,
            roles,
            task=task,
            label_names=label_names,
            on_invalid=on_invalid,
            separator=separator,
            sentence=sentence,
        )

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
        parts = [
            cls._of_table(table, roles, task=task, label_names=label_names, on_invalid=on_invalid) for table in tables
        ]
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
        return cls._of_table(table, roles, task=task, label_names=label_names, on_invalid=on_invalid)

    @classmethod
    @checked
    def from_json(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        sentence: str | None = None,
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Rows of a JSON file that holds an array of objects, in UTF-8.

        Raises:
            DataError: no such file, no JSON (with the line) or no array of objects, and as for `TaskDataset`.
        """
        return cls._of_table(
            read_json(path),
            roles,
            task=task,
            label_names=label_names,
            on_invalid=on_invalid,
            separator=separator,
            sentence=sentence,
        )

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
        In a file of CoNLL-U (``columns={"tokens": 1, "tags": 3}``) so are the lines of ranges (``1-2``) and of empty
        nodes (``2.1``), which stand beside the words; the logger ``sftlib`` says how many.

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
        return cls._of_table(table, roles, task=task, label_names=label_names, on_invalid=on_invalid)

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
        return cls._of_table(read_squad(path), roles, task=task, label_names=label_names, on_invalid=on_invalid)

    @classmethod
    @checked
    def from_alpaca(
        cls,
        path: str | PathLike[str],
        *,
        instruction: str | None = None,
        input: str | None = None,
        output: str | None = None,
        on_invalid: str = "error",
    ) -> Self:
        """Instructions in Alpaca's layout, as conversations: a JSON array or JSON Lines.

        The user says ``instruction`` and, after an empty line, ``input`` where it is not blank; the assistant says
        ``output``. ``system`` and ``history`` (pairs of what was said and answered before) go in front, if they are
        there. A row without output can be predicted on but not trained on. Other columns are kept. Dolly's names,
        ``context`` and ``response``, are known too.

        Args:
            path: the file.
            instruction: what the file calls that part; None for its usual names.
            input: the same.
            output: the same.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: a name that no row has.
            DataError: no such file, no JSON, another layout, with lines or rows.
        """
        raise_together([choice("on_invalid", on_invalid, ("error", "drop"))])
        names = {"instruction": instruction, "context": input, "output": output}
        table = read_alpaca(path, **names, drop_invalid=on_invalid == "drop")
        return cls(table, task="causal-lm", messages="messages", on_invalid=on_invalid)

    @classmethod
    @checked
    def from_sharegpt(
        cls, path: str | PathLike[str], *, conversations: str | None = None, on_invalid: str = "error"
    ) -> Self:
        """Conversations in ShareGPT's layout: a JSON array or JSON Lines with a column ``conversations``.

        Its turns are ``{"from": ..., "value": ...}`` of human, gpt, system, observation and function_call; ``system``
        goes in front where the row has it, and ``tools`` are handed to the chat template. Other columns are kept.

        Args:
            path: the file.
            conversations: what the file calls that column; None for its usual name.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: a name that no row has.
            DataError: no such file, no JSON, another layout, with lines or rows.
        """
        raise_together([choice("on_invalid", on_invalid, ("error", "drop"))])
        table = read_sharegpt(path, conversations=conversations, drop_invalid=on_invalid == "drop")
        return cls(table, task="causal-lm", messages="messages", on_invalid=on_invalid)

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
        return cls._of_table(table, roles, task=task, label_names=label_names, on_invalid=on_invalid)

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
        return cls._of_table(table, roles, task=task, label_names=label_names, on_invalid=on_invalid)
