"""Tables: rows and columns as they stand in a file or on a hub."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Self

from sftlib.data.files import readers
from sftlib.data.files.excel import read_excel
from sftlib.data.files.json import read_json
from sftlib.data.files.separated import AUTO, read_csv
from sftlib.data.kinds.base import Label
from sftlib.data.reading.base import Readable
from sftlib.support.checking import checked


class FromTables(Readable):
    """Rows of tables: columns are given roles by name."""

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
                which are an error.
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
        return cls._of_table(table, roles, task, label_names, on_invalid, separator=separator, sentence=sentence)

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
        table = read_excel(path, sheet=sheet)
        return cls._of_table(table, roles, task, label_names, on_invalid, separator=separator, sentence=sentence)

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
        table = read_json(path)
        return cls._of_table(table, roles, task, label_names, on_invalid, separator=separator, sentence=sentence)

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
        table = readers.read_jsonl(path)
        return cls._of_table(table, roles, task, label_names, on_invalid, separator=separator, sentence=sentence)

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
        table = readers.read_parquet(path)
        return cls._of_table(table, roles, task, label_names, on_invalid, separator=separator, sentence=sentence)

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
        table = readers.read_hub(name, split=split, config=config, revision=revision)
        return cls._of_table(table, roles, task, label_names, on_invalid, separator=separator, sentence=sentence)
