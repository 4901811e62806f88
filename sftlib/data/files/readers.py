"""Files and hubs as columns. Every reader says all that it found wrong in one error."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from sftlib.data.files import spool
from sftlib.data.files.packed import size_of
from sftlib.data.files.paths import BadLines, existing, opened, without_repeats
from sftlib.data.files.spool import gathered
from sftlib.data.files.tables import Table, open_rows
from sftlib.errors import DataError, OptionError
from sftlib.support.extras import require


def read_jsonl(path: str | os.PathLike[str]) -> Table:
    """The objects of a JSON Lines file."""
    file = existing(path)
    bad = BadLines(file)
    with opened(file, "rb") as stream:
        table = gathered(_objects(stream, bad), size_of(file))
    bad.raise_any()
    return replace(table, folder=file.parent)


def _objects(stream: IO[bytes], bad: BadLines) -> Iterator[dict[str, object]]:
    """The object of each line; lines that hold none are noted, blank ones skipped."""
    decoder = json.JSONDecoder(object_pairs_hook=without_repeats)
    for line, raw in enumerate(stream, 1):
        content = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
        if not content.strip():
            continue
        try:
            row = decoder.decode(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            bad.add(line, f"is not UTF-8 ({error.reason} at byte {error.start})")
        except RecursionError:
            bad.add(line, "is nested too deeply")
        except ValueError as error:
            whole = "; the file begins as one array, which TaskDataset.from_json reads" if raw.strip() == b"[" else ""
            if line == 1 and not raw.lstrip().startswith((b"{", b"[")):
                whole = "; a table with a header line is read by TaskDataset.from_csv"
            bad.add(line, f"is no JSON: {error}{whole}")
        else:
            if isinstance(row, dict):
                yield row
            else:
                bad.add(line, f'holds a {type(row).__name__}, expected an object such as {{"text": ...}}')


def read_parquet(path: str | os.PathLike[str]) -> Table:
    """The columns of a Parquet file, in memory or over a file if they are large."""
    pyarrow = require("pyarrow", extra="data", purpose="reading Parquet")
    parquet = require("pyarrow.parquet", extra="data", purpose="reading Parquet")
    file = existing(path)
    try:
        with opened(file, "rb", as_it_lies=True) as stream:
            parts = parquet.ParquetFile(stream)
            groups = [parts.metadata.row_group(number) for number in range(parts.num_row_groups)]
            if sum(group.total_byte_size for group in groups) <= spool.FILE_LIMIT:
                return replace(open_rows(parts.read()), folder=file.parent)
            columns = spool.spool_arrow(parts.schema_arrow, parts.iter_batches(batch_size=spool.BLOCK))
            return Table(columns, parts.metadata.num_rows, folder=file.parent, unified=True)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def read_hub(name: str, *, split: str, config: str | None = None, revision: str | None = None) -> Table:
    """The columns of one split, left in their memory-mapped file."""
    datasets = require("datasets", extra="data", purpose="reading a data set from the hub")
    if not isinstance(split, str) or not split:
        raise OptionError(f"split={split!r}: expected the name of a split, such as 'train'")
    try:
        rows = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # dozens of types from several libraries; the cause is kept
        raise DataError(f"from_hub({name!r}, split={split!r}): {type(error).__name__}: {error}") from error
    return replace(open_rows(rows), options=("split", "config", "revision"))


def read_jsonl_rows(file: Path) -> Iterator[Any]:
    """What each line of a JSON Lines file holds, be it an object or not.

    Raises:
        DataError: lines that are no JSON, all of them, after the last.
    """
    bad = BadLines(file)
    with opened(file, "rb") as stream:
        for line, raw in enumerate(stream, 1):
            content = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
            if content.strip():
                try:
                    yield json.loads(content.decode("utf-8"), object_pairs_hook=without_repeats)
                except (ValueError, RecursionError) as error:
                    bad.add(line, f"is no JSON: {error}")
    bad.raise_any()
