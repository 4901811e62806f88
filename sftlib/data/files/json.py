"""JSON files: an array of objects, or an object a line where a layout comes in both."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sftlib.data.files.packed import size_of
from sftlib.data.files.paths import existing, opened, without_repeats
from sftlib.data.files.readers import read_jsonl
from sftlib.data.files.spool import gathered
from sftlib.data.files.tables import Table
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.errors import DataError


def read_json(path: str | os.PathLike[str]) -> Table:
    """The objects of a JSON array.

    Raises:
        DataError: the file is no JSON, or no array of objects.
    """
    file = existing(path)
    content = parsed(file)
    if not isinstance(content, list):
        lists = [key for key, value in content.items() if isinstance(value, list)] if isinstance(content, dict) else []
        hint = (
            f" (there are lists under {listed(lists, 5)}: read the file with json, and give one of them)"
            if lists
            else ""
        )
        raise DataError(f"{file} holds {brief(content)}, expected an array of objects{hint}")
    return table_of(content, file)


def read_records(path: str | os.PathLike[str]) -> Table:
    """The objects of a JSON array or of a JSON Lines file, whichever it is."""
    file = existing(path)
    return read_json(file) if starts_as_array(file) else read_jsonl(file)


def starts_as_array(file: Path) -> bool:
    """Whether a file begins as a JSON array does, and not as an object a line."""
    with opened(file, "rb") as stream:
        start = stream.read(2**12).removeprefix(codecs.BOM_UTF8).lstrip()
    first = start.split(b"\n", 1)[0].strip()
    return start.startswith(b"[") and not (first.endswith(b"]") and start.lstrip().count(b"\n[") > 0)


def parsed(file: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: it is none; with the line.
    """
    with opened(file, "rb") as stream:
        content = stream.read()
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=without_repeats)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file} is not UTF-8: byte 0x{content[error.start]:02x} in line {line}") from None
    except json.JSONDecodeError as error:
        hint = ""
        if error.msg == "Extra data":
            hint = "; a file with one object a line is read by TaskDataset.from_jsonl"
        raise DataError(f"{file}: line {error.lineno} is no JSON: {error}{hint}") from None
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is no JSON: {error}"
        raise DataError(f"{file} {what}") from None


def table_of(rows: list[Any], file: Path) -> Table:
    """The columns of objects that were read from a file.

    Raises:
        DataError: some are no objects.
    """
    wrong = [f"row {row} ({brief(value)})" for row, value in enumerate(rows) if not isinstance(value, dict)]
    if wrong:
        raise DataError(f"{file}: {len(wrong):,} of {len(rows):,} rows are no objects: {'; '.join(wrong[:SHOWN])}")
    return replace(gathered(rows, size_of(file)), folder=file.parent)


def rows_of(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, one after the other."""
    names = list(table.columns)
    return (dict(zip(names, values, strict=True)) for values in zip(*table.columns.values(), strict=True))
