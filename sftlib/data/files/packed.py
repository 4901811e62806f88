"""What a file is by its first bytes: one to be unpacked as it is read, or one that another reader is for."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from sftlib.data.problems import listed
from sftlib.errors import DataError

_ZIP: Final = b"PK\x03\x04"
_TABLE = "TaskDataset.from_csv, from_json and from_jsonl read text"

#: How a file begins, what it is, and what reads it.
_OTHERS: Final = (
    (b"PAR1", "a Parquet file", "read it with TaskDataset.from_parquet"),
    (b"SQLite format 3\0", "an SQLite database", "read a table of it with pandas.read_sql, and give TaskDataset that"),
    (b"ARROW1", "an Arrow file", "read it with pyarrow.feather or datasets, and give TaskDataset the table"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save it as .xlsx, for TaskDataset.from_excel, or as CSV"),
    (b"%PDF", "a PDF", f"take the rows out of it: {_TABLE}"),
    (b"\x93NUMPY", "an array of numpy", "read it with numpy.load, and give TaskDataset columns"),
    (b"\x89HDF", "an HDF5 file", "read it with pandas.read_hdf, and give TaskDataset the frame"),
    (b"(\xb5/\xfd", "a file packed with zstd", "unpack it; gz, bz2, xz and zip are read as they are"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it; gz, bz2, xz and zip are read as they are"),
    (b"Rar!", "a RAR archive", "unpack it; gz, bz2, xz and zip are read as they are"),
    (b"\x80\x04\x95", "a pickle", "it may run anything and is not read: save the rows as JSON Lines or Parquet"),
    (b"\x80\x05\x95", "a pickle", "it may run anything and is not read: save the rows as JSON Lines or Parquet"),
    (b"\x89PNG", "a picture", "pictures are read by TaskDataset.from_folder"),
    (b"\xff\xd8\xff", "a picture", "pictures are read by TaskDataset.from_folder"),
)

#: How a packed file begins -> what unpacks it.
_PACKED: Final[tuple[tuple[bytes, Callable[..., Any]], ...]] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
)

#: What the standard library raises for a packed file that is not whole, or packed in a way that it does not know.
BROKEN: Final = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def start_of(file: Path) -> bytes:
    """The first bytes of a file as they lie there; none where it cannot be read, which opening it will tell."""
    try:
        with open(file, "rb") as stream:
            return stream.read(16)
    except OSError:
        return b""


@contextmanager
def unpacked(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where it is packed: gz, bz2, xz, or a zip with one file inside.

    Raises:
        DataError: a zip with none or several files inside.
        OSError: it cannot be read.
    """
    start = start_of(file)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(file) as archive, archive.open(_only(file, archive)) as member:
            yield member
        return
    make: Callable[..., Any] = next((make for mark, make in _PACKED if start.startswith(mark)), _plain)
    with make(file) as stream:
        yield stream


def is_packed(file: Path) -> bool:
    """Whether a file is unpacked as it is read."""
    return start_of(file).startswith((_ZIP, *(mark for mark, _ in _PACKED)))


def _plain(file: Path) -> IO[bytes]:
    return open(file, "rb")


def _only(file: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one file in a zip; folders, and what systems put beside files, do not count."""
    members = [info for info in archive.infolist() if not info.is_dir() and not _is_beside(info.filename)]
    names = [info.filename for info in members]
    office = [name for name in names if name.startswith(("xl/", "word/", "ppt/"))]
    if "[Content_Types].xml" in names and office:
        if office[0].startswith("xl/"):
            raise DataError(f"{file} is an Excel workbook: read it with TaskDataset.from_excel, or save it as CSV")
        raise DataError(f"{file} is a document of an office program: save its rows as CSV")
    if len(members) != 1:
        found = f"{len(names):,} files: {listed(names, 5)}" if names else "no files"
        raise DataError(f"{file} is a zip that holds {found}; expected one: unpack it, and read the one that is meant")
    if members[0].flag_bits & 1:
        raise DataError(f"{file} is a zip with a password: unpack it first")
    return members[0]


def _is_beside(name: str) -> bool:
    return name.startswith("__MACOSX/") or Path(name).name.startswith(".")


def refuse_others(file: Path) -> None:
    """Refuse a file that is of a kind that no reader of texts reads.

    Raises:
        DataError: saying what it is, and what reads it.
    """
    start = start_of(file)
    for mark, what, mend in _OTHERS:
        if start.startswith(mark):
            raise DataError(f"{file} is {what}, not text: {mend}")


def size_of(file: Path) -> int:
    """Bytes of a file once it is unpacked, as far as it tells; one that is not whole is told when it is read."""
    start, size = start_of(file), file.stat().st_size
    if start.startswith(_ZIP):
        try:
            with zipfile.ZipFile(file) as archive:
                return _only(file, archive).file_size
        except BROKEN:
            return size
    if start.startswith(b"\x1f\x8b") and size > 4:
        with open(file, "rb") as stream:  # what gzip writes at its end: the size, up to 4 GiB
            stream.seek(-4, os.SEEK_END)
            return max(size, int.from_bytes(stream.read(4), "little"))
    return size if not any(start.startswith(mark) for mark, _ in _PACKED) else 8 * size
