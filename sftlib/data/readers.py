"""Files and hubs as columns. Every reader says all that it found wrong in one error."""

from __future__ import annotations

import codecs
import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sftlib.data import spool
from sftlib.data.problems import SHOWN, brief, delimiter_hint, listed
from sftlib.data.spool import BLOCK, sink_for
from sftlib.data.tables import Table, from_mappings, open_rows
from sftlib.errors import DataError, OptionError
from sftlib.extras import require
from sftlib.options import nearest


def read_csv(path: str | os.PathLike[str], *, delimiter: str = ",", encoding: str = "utf-8") -> Table:
    """The cells of a CSV file with a header, as text."""
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise OptionError(f"delimiter={delimiter!r}: expected one character, such as ',' or ';' or '\\t'")
    file = _existing(path)
    encoding = _with_mark(encoding)
    try:
        with _opened(file, "r", encoding=encoding, newline="") as stream, _long_cells_allowed():
            return _read_cells(file, csv.reader(stream, delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(file, encoding, error)) from None
    except UnicodeError as error:  # UTF-16 without its byte order mark
        raise DataError(f"{file}: {error}; name its encoding, such as encoding='utf-16-le'") from None


def _read_cells(file: Path, reader: Any) -> Table:
    bad = _BadLines(file)
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
    return Table(sink.columns(), sink.count, textual=True, options=("delimiter", "encoding"))


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _csv_lines(reader: Any, bad: _BadLines) -> Iterator[tuple[int, list[str]]]:
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
    file = _existing(path)
    bad = _BadLines(file)
    sink = sink_for(file.stat().st_size)
    with _opened(file, "rb") as stream:
        objects = _objects(stream, bad)
        while rows := list(islice(objects, BLOCK)):
            block = from_mappings(rows)
            sink.add(block.columns, block.rows)
    bad.raise_any()
    return Table(sink.columns(), sink.count)


def _objects(stream: IO[bytes], bad: _BadLines) -> Iterator[dict[str, object]]:
    """The object of each line; lines that hold none are noted, blank ones skipped."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats)
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
            bad.add(line, f"is no JSON: {error}")
        else:
            if isinstance(row, dict):
                yield row
            else:
                bad.add(line, f'holds a {type(row).__name__}, expected an object such as {{"text": ...}}')


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"the key {listed(twice)} stands there more than once")
    return row


def read_parquet(path: str | os.PathLike[str]) -> Any:
    """The columns of a Parquet file: a pyarrow ``Table``, or a `Table` over a file if they are large."""
    pyarrow = require("pyarrow", extra="data", purpose="reading Parquet")
    parquet = require("pyarrow.parquet", extra="data", purpose="reading Parquet")
    file = _existing(path)
    try:
        with _opened(file, "rb") as stream:
            opened = parquet.ParquetFile(stream)
            groups = [opened.metadata.row_group(number) for number in range(opened.num_row_groups)]
            if sum(group.total_byte_size for group in groups) <= spool.FILE_LIMIT:
                return opened.read()
            columns = spool.spool_arrow(opened.schema_arrow, opened.iter_batches(batch_size=spool.BLOCK))
            return Table(columns, opened.metadata.num_rows)
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


def read_folder(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> Table:
    """Columns ``text``, ``label`` (the name of the folder) and ``path``, in sorted order."""
    root = _existing(path, folder=True)
    encoding = _with_mark(encoding)
    classes = [entry for entry in _entries(root) if entry.is_dir() and not entry.name.startswith(".")]
    if not classes:
        raise DataError(f"{root} holds no folders: expected one folder per class, with .txt files inside")
    problems: list[str] = []
    columns: dict[str, list[object]] = {"text": [], "label": [], "path": []}
    for folder in classes:
        files = [entry for entry in _entries(folder) if entry.suffix == ".txt" and entry.is_file()]
        if not files:
            problems.append(f"{folder} holds no .txt files; remove it or fill it")
        for file in files:
            try:
                columns["text"].append(file.read_text(encoding=encoding))
            except UnicodeError as error:
                problems.append(f"{file} is not {encoding.removesuffix('-sig')}: {error}")
            except OSError as error:
                problems.append(f"{file} cannot be read: {error.strerror}")
            columns["label"].append(folder.name)
            columns["path"].append(f"{folder.name}/{file.name}")
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([*problems[:SHOWN], *more]))
    return Table(columns, len(columns["text"]), options=("encoding",))


class _BadLines:
    """The lines of a file that cannot be used: all counted, the first few kept."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0
        self._shown: list[str] = []

    def add(self, line: int, problem: str) -> None:
        self._count += 1
        if self._count <= SHOWN:
            self._shown.append(f"  line {line} {problem}")

    def raise_any(self) -> None:
        if self._count:
            count = "1 line" if self._count == 1 else f"{self._count:,} lines"
            more = [f"  and {self._count - SHOWN:,} more"] if self._count > SHOWN else []
            raise DataError("\n".join([f"{self._file}: {count} cannot be used:", *self._shown, *more]))


def _existing(path: str | os.PathLike[str], *, folder: bool = False) -> Path:
    """The path, if it is there and of the right sort."""
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"path={brief(path)}: expected a path, as a string or a pathlib.Path")
    found = Path(path)
    if found.is_dir() if folder else found.is_file():
        return found
    if found.exists():
        found_kind, reader = ("a folder", "from_folder") if found.is_dir() else ("a file", "from_csv or from_jsonl")
        raise DataError(f"{found} is {found_kind}: use TaskDataset.{reader}")
    parent = found.parent
    if not parent.is_dir():
        raise DataError(f"{found}: there is no such folder as {parent}")
    names = [entry.name for entry in _entries(parent) if entry.is_dir() == folder]
    hint = nearest(found.name, names) if names else f"{parent} holds none"
    raise DataError(f"{found}: there is no such {'folder' if folder else 'file'}: {hint}")


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, the same on every file system."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


@contextmanager
def _opened(file: Path, mode: str, **options: Any) -> Iterator[IO[Any]]:
    try:
        stream = open(file, mode, **options)  # noqa: SIM115 - closed below; only opening may fail here
    except OSError as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}") from error
    try:
        with stream:
            yield stream
    except OSError as error:  # of the file, or of the scratch that a large one is copied to
        raise DataError(
            f"{file} cannot be read to its end: {error}; a large file needs its own size free in "
            f"{tempfile.gettempdir()} (the environment variable TMPDIR names another folder)"
        ) from error


def _with_mark(encoding: str) -> str:
    """The encoding, checked; UTF-8 with or without a byte order mark."""
    try:
        name = codecs.lookup(encoding).name
        "".encode(encoding)  # refuses the codecs that do not make text, such as base64
    except (LookupError, TypeError, ValueError):
        raise OptionError(f"encoding={encoding!r}: Python knows no such encoding; try 'utf-8' or 'cp1252'") from None
    return "utf-8-sig" if name == "utf-8" else encoding


def _undecodable(file: Path, encoding: str, error: UnicodeDecodeError) -> str:
    """Where a file is not in its encoding: the reader decodes in blocks, so the line is looked for again."""
    name = encoding.removesuffix("-sig")
    where = ""
    with open(file, "rb") as stream:
        start = stream.read(2)
        stream.seek(0)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return f"{file} is not {name}, it begins with the mark of UTF-16: give encoding='utf-16'"
        for line, raw in enumerate(stream, 1):
            try:
                raw.decode(name)
            except UnicodeDecodeError as exact:
                where, error = f" in line {line}", exact
                break
    byte = error.object[error.start]
    return f"{file} is not {name}: byte 0x{byte:02x}{where}; give its encoding, often encoding='cp1252' or 'latin-1'"
