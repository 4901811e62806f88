"""Files that people name: found or not, opened, decoded, and the lines of them that cannot be used."""

from __future__ import annotations

import codecs
import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, final

from sftlib.data.files.packed import BROKEN, refuse_others, unpacked
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import nearest, user_path


@final
class BadLines:
    """The lines of a file that cannot be used: all counted, the first few kept."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0
        self._shown: list[str] = []

    def add(self, line: int, problem: str) -> None:
        """Note a line, with what is wrong with it."""
        self._count += 1
        if self._count <= SHOWN:
            self._shown.append(f"  line {line} {problem}")

    def raise_any(self) -> None:
        """Raise everything that was noted, or nothing.

        Raises:
            DataError: some lines cannot be used.
        """
        if self._count:
            count = "1 line" if self._count == 1 else f"{self._count:,} lines"
            more = [f"  and {self._count - SHOWN:,} more"] if self._count > SHOWN else []
            raise DataError("\n".join([f"{self._file}: {count} cannot be used:", *self._shown, *more]))


def existing(path: str | os.PathLike[str], *, folder: bool = False) -> Path:
    """The path, if it is there and of the right sort; ``~`` is the home folder."""
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"path={brief(path)}: expected a path, as a string or a pathlib.Path")
    found = user_path(path)
    if found.is_dir() if folder else found.is_file():
        return found
    if found.exists():
        found_kind, reader = ("a folder", "from_folder") if found.is_dir() else ("a file", "from_csv or from_jsonl")
        raise DataError(f"{found} is {found_kind}: use TaskDataset.{reader}")
    parent = found.parent
    if not parent.is_dir():
        raise DataError(f"{found}: there is no such folder as {parent}")
    names = [entry.name for entry in entries(parent) if entry.is_dir() == folder]
    hint = nearest(found.name, names) if names else f"{parent} holds none"
    raise DataError(f"{found}: there is no such {'folder' if folder else 'file'}: {hint}")


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, the same on every file system."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


@contextmanager
def opened(
    file: Path, mode: str, *, as_it_lies: bool = False, encoding: str = "utf-8-sig", named: bool = False, **options: Any
) -> Iterator[IO[Any]]:
    """The file, unpacked and open for reading, as bytes (``"rb"``) or text (``"r"``); or as it lies on disk.

    Args:
        file: that is there.
        mode: of the two.
        as_it_lies: whether to leave it packed.
        encoding: of text.
        named: whether who calls the reader can name another.
        **options: of `io.TextIOWrapper`.

    Raises:
        DataError: what the system says of it, a file of a kind that is not read here, or bytes that are no text.
    """
    if not as_it_lies:
        refuse_others(file)
    try:
        with open(file, "rb") if as_it_lies else unpacked(file) as stream:
            yield stream if mode == "rb" else io.TextIOWrapper(stream, encoding=encoding, **options)
    except UnicodeError as error:
        if mode == "rb":
            raise  # of whoever reads the bytes
        raise DataError(_undecodable(file, encoding, error, named)) from None
    except BROKEN as error:
        raise DataError(f"{file} cannot be unpacked: {error}; copy it again from where it came") from error
    except FileNotFoundError as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}") from error
    except PermissionError as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}") from error
    except OSError as error:  # of the file, or of the scratch that a large one is copied to
        raise DataError(
            f"{file} cannot be read to its end: {error}; a large file needs its own size free in "
            f"{tempfile.gettempdir()} (the environment variable TMPDIR names another folder)"
        ) from error


def with_mark(encoding: str) -> str:
    """The encoding, checked; UTF-8 with or without a byte order mark."""
    try:
        name = codecs.lookup(encoding).name
        "".encode(encoding)  # refuses the codecs that do not make text, such as base64
    except (LookupError, TypeError, ValueError):
        raise OptionError(f"encoding={encoding!r}: Python knows no such encoding; try 'utf-8' or 'cp1252'") from None
    return "utf-8-sig" if name == "utf-8" else encoding


def _undecodable(file: Path, encoding: str, error: UnicodeError, named: bool) -> str:
    """Where a file is not in its encoding: the reader decodes in blocks, so the line is looked for again."""
    if not isinstance(error, UnicodeDecodeError):  # UTF-16 without its byte order mark
        return f"{file}: {error}; name its encoding, such as encoding='utf-16-le'"
    name = encoding.removesuffix("-sig")
    where = ""
    with opened(file, "rb") as stream:
        start = stream.read(2)
    with opened(file, "rb") as stream:
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            mend = "give encoding='utf-16'" if named else "save it as UTF-8"
            return f"{file} is not {name}, it begins with the mark of UTF-16: {mend}"
        for line, raw in enumerate(stream, 1):
            try:
                raw.decode(name)
            except UnicodeDecodeError as exact:
                where, error = f" in line {line}", exact
                break
    byte = error.object[error.start]
    mend = "give its encoding, often encoding='cp1252' or 'latin-1'" if named else "save it as UTF-8"
    return f"{file} is not {name}: byte 0x{byte:02x}{where}; {mend}"


def without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object of these keys and values, for `json`'s ``object_pairs_hook``.

    Raises:
        ValueError: a key that stands there twice.
    """
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"the key {listed(twice)} stands there more than once")
    return row
