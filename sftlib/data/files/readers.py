"""Files and hubs as columns. Every reader says all that it found wrong in one error."""

from __future__ import annotations

import codecs
import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sftlib.data.files import spool
from sftlib.data.files.paths import BadLines, existing, opened, undecodable, with_mark, without_repeats
from sftlib.data.files.spool import BLOCK, gathered, sink_for
from sftlib.data.files.tables import Table, open_rows
from sftlib.data.problems import delimiter_hint, listed
from sftlib.errors import DataError, OptionError
from sftlib.support.extras import require


def read_csv(path: str | os.PathLike[str], *, delimiter: str = ",", encoding: str = "utf-8") -> Table:
    """The cells of a CSV file with a header, as text."""
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise OptionError(f"delimiter={delimiter!r}: expected one character, such as ',' or ';' or '\\t'")
    file = existing(path)
    encoding = with_mark(encoding)
    try:
        with opened(file, "r", encoding=encoding, newline="") as stream, _long_cells_allowed():
            return _read_cells(file, csv.reader(stream, delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(undecodable(file, encoding, error)) from None
    except UnicodeError as error:  # UTF-16 without its byte order mark
        raise DataError(f"{file}: {error}; name its encoding, such as encoding='utf-16-le'") from None


def _read_cells(file: Path, reader: Any) -> Table:
    bad = BadLines(file)
    lines = _csv_lines(reader, bad)
    _, header = next(lines, (0, None))
    if header is None:
        bad.raise_any()
        raise DataError(f"{file} is empty: expected a header line with the names of the columns")
    _check_header(file, header)
    sink = sink_for(file.stat().st_size)
    sink.add({name: [] for name in header}, 0)
    while rows := list(islice(lines, BLOCK)):
        good = [cells for _, cells in rows if len(cells) == len(header)]
        if len(good) < len(rows):
            for line, cells in rows:
                if len(cells) != len(header):
                    bad.add(line, f"has {_cells(len(cells))}, the header has {len(header)}{delimiter_hint(header)}")
        if good:
            sink.add(dict(zip(header, zip(*good, strict=True), strict=True)), len(good))
    bad.raise_any()
    return Table(sink.columns(), sink.count, textual=True, options=("delimiter", "encoding"), folder=file.parent)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _csv_lines(reader: Any, bad: BadLines) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins on; records that cannot be read are noted, blank lines skipped."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad.add(line, "opens a quote that is never closed" if "end of data" in str(error) else str(error))
            continue
        if cells:
            yield line, cells


@contextmanager
def _long_cells_allowed() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters a cell, which is global, and put it back."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _check_header(file: Path, header: list[str]) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    problems = [f"{file}: the header has {listed(twice)} more than once; rename the columns"] if twice else []
    empty = [number for number, name in enumerate(header, 1) if not name.strip()]
    if empty:
        hint = " (pandas writes its index so: use to_csv(..., index=False))" if empty == [1] else ""
        problems.append(f"{file}: the header has no name for column {', '.join(map(str, empty))}{hint}")
    if problems:
        raise DataError("\n".join(problems))


def read_jsonl(path: str | os.PathLike[str]) -> Table:
    """The objects of a JSON Lines file."""
    file = existing(path)
    bad = BadLines(file)
    with opened(file, "rb") as stream:
        table = gathered(_objects(stream, bad), file.stat().st_size)
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
        with opened(file, "rb") as stream:
            parts = parquet.ParquetFile(stream)
            groups = [parts.metadata.row_group(number) for number in range(parts.num_row_groups)]
            if sum(group.total_byte_size for group in groups) <= spool.FILE_LIMIT:
                return replace(open_rows(parts.read()), folder=file.parent)
            columns = spool.spool_arrow(parts.schema_arrow, parts.iter_batches(batch_size=spool.BLOCK))
            return Table(columns, parts.metadata.num_rows, folder=file.parent)
    except (pyarrow.ArrowException, OSError) as error:
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
