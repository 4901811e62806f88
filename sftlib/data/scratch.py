"""Flat arrays that grow at their end: in memory while they are small, in a file from a size on."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray

#: Bytes that one array may take in memory; beyond, it lies in a file that is mapped into memory.
MEMORY_LIMIT = 2**28


@final
class Scratch:
    """A folder for files that only this process needs; it is made when the first file is.

    Where the system lets a mapped file be deleted, the folder is gone as soon as its files are mapped, so that nothing
    is left behind however the process ends. ``TMPDIR`` decides where it is made.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None

    def path(self, name: str) -> Path:
        """Where a file of this name goes."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="sftlib-"))
            weakref.finalize(self, _remove, str(self._folder), os.getpid())
        return self._folder / name

    def release(self) -> None:
        """Every file is mapped: delete their names, where that may be done before they are closed."""
        if self._folder is not None and os.name == "posix":
            _remove(str(self._folder), os.getpid())
            self._folder = None


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # a forked child must not take the files from its parent
        shutil.rmtree(folder, ignore_errors=True)


@final
class Growing:
    """A flat array under construction.

    Args:
        dtype: of its values.
        place: where its file goes, should it need one; asked only then.
        limit: bytes that it may take in memory; 0 to write to the file from the start.

    Example:
        >>> numbers = Growing(np.int32, lambda: Path("numbers.npy"), limit=1_000)
        >>> numbers.extend(np.array([1, 2]))
        >>> numbers.extend(np.array([3]))
        >>> len(numbers), numbers.done().tolist()
        (3, [1, 2, 3])
    """

    def __init__(self, dtype: Any, place: Callable[[], Path], limit: int | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._place = place
        self._limit = MEMORY_LIMIT if limit is None else limit
        self._buffer = bytearray()
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._count = 0
        if not self._limit:
            self._spill()

    def __len__(self) -> int:
        return self._count

    def extend(self, values: NDArray[Any] | bytes) -> None:
        """Append values; bytes to an array of bytes."""
        part = values if isinstance(values, bytes) else np.ascontiguousarray(values, self._dtype).view(np.uint8).data
        self._count += len(values)
        if self._file is None and len(self._buffer) + len(part) > self._limit:
            self._spill()
        if self._file is None:
            self._buffer += part
        else:
            self._file.write(part)

    def done(self) -> NDArray[Any]:
        """The whole array, read-only; nothing can be appended any more."""
        if self._file is None or self._path is None:
            array: NDArray[Any] = np.frombuffer(self._buffer, self._dtype)
            array.flags.writeable = False
            return array
        self._file.seek(0)
        self._write_header(self._file)  # numpy leaves room in it for the length to grow
        self._file.close()
        return mapped(self._path)

    def close(self) -> None:
        """Close the file of an array that nobody will finish."""
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        self._path = self._place()
        self._file = open(self._path, "wb", buffering=2**20)  # noqa: SIM115 - closed when the array is done
        self._write_header(self._file)
        self._file.write(self._buffer)
        self._buffer = bytearray()

    def _write_header(self, file: IO[bytes]) -> None:
        facts = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count,)}
        np.lib.format.write_array_header_1_0(file, facts)


def in_memory(array: NDArray[Any]) -> int:
    """Bytes of memory that an array holds: none for one that lies in a file, or repeats one value.

    Example:
        >>> in_memory(np.zeros(3)), in_memory(np.broadcast_to(np.int8(0), 1000))
        (24, 0)
    """
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return 0 if isinstance(owner, mmap.mmap) or array.strides == (0,) else array.nbytes


def mapped(path: Path) -> NDArray[Any]:
    """The flat array in a file, read as it is used.

    Raises:
        ValueError: the file holds no flat array.
    """
    # A plain array over the mapping: slices of `np.memmap` itself are objects that cost microseconds each.
    array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    if array.ndim != 1:
        raise ValueError(f"{path.name} holds no flat array")
    return array
