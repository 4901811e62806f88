"""What a reader fills block by block: lists for a file that fits into memory, columns on disk for one that may not."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.columns import Column, Written
from sftlib.data.files.tables import Table, from_mappings
from sftlib.data.scratch import Growing, Scratch

#: Bytes of a file (of a Parquet file: uncompressed) up to which its rows are read into memory.
FILE_LIMIT = 2**26
BLOCK = 4096  # rows that a reader holds before it hands them on

_TEXT = ord("s")


class Sink(Protocol):
    """Takes the columns of some rows at a time; a column may be missing in some blocks."""

    count: int

    def add(self, block: Mapping[str, Sequence[object]], rows: int) -> None:
        """Append rows."""

    def columns(self) -> dict[str, Sequence[object]]:
        """Every column that was ever added, all of one length; None stands where a block lacked it."""


def sink_for(size: int) -> Sink:
    """Where the rows of a file of this many bytes go."""
    return Lists() if size <= FILE_LIMIT else Spool()


def gathered(rows: Iterable[Mapping[str, object]], size: int) -> Table:
    """Rows of a file of this many bytes as columns, a block of them held at a time."""
    sink, rest = sink_for(size), iter(rows)
    while block := list(islice(rest, BLOCK)):
        table = from_mappings(block)
        sink.add(table.columns, table.rows)
    return Table(sink.columns(), sink.count)


@final
class Lists:
    """Columns in memory.

    Example:
        >>> lists = Lists()
        >>> lists.add({"a": [1]}, 1)
        >>> lists.add({"b": [2]}, 1)
        >>> lists.columns()
        {'a': [1, None], 'b': [None, 2]}
    """

    def __init__(self) -> None:
        self.count = 0
        self._columns: dict[str, list[object]] = {}

    def add(self, block: Mapping[str, Sequence[object]], rows: int) -> None:
        for name, values in block.items():
            column = self._columns.setdefault(name, [])
            column.extend([None] * (self.count - len(column)))
            column.extend(values)
        self.count += rows

    def columns(self) -> dict[str, Sequence[object]]:
        for column in self._columns.values():
            column.extend([None] * (self.count - len(column)))
        return dict(self._columns)


@final
class Spool:
    """Columns in a scratch folder, for values that JSON knows: memory does not grow with the rows.

    Example:
        >>> spool = Spool()
        >>> spool.add({"a": ["x", None, 3]}, 3)
        >>> list(spool.columns()["a"])
        ['x', None, 3]
    """

    def __init__(self) -> None:
        self.count = 0
        self._scratch = Scratch()
        self._columns: dict[str, _OnDisk] = {}

    def add(self, block: Mapping[str, Sequence[object]], rows: int) -> None:
        for name, values in block.items():
            if name not in self._columns:
                self._columns[name] = _OnDisk(self._scratch, str(len(self._columns)))
            self._columns[name].add_missing(self.count)
            self._columns[name].add(values)
        self.count += rows

    def columns(self) -> dict[str, Sequence[object]]:
        for column in self._columns.values():
            column.add_missing(self.count)
        found: dict[str, Sequence[object]] = {name: column.done() for name, column in self._columns.items()}
        self._scratch.release()
        return found

    def __del__(self) -> None:
        for column in self._columns.values():  # of a file that turned out to be bad
            column.close()


class _OnDisk:
    """One column: the bytes of all values, and where each ends."""

    def __init__(self, scratch: Scratch, name: str) -> None:
        self._content = Growing(np.uint8, lambda: scratch.path(f"{name}.npy"), limit=0)
        self._ends = Growing(np.int64, lambda: scratch.path(f"{name}-ends.npy"), limit=0)

    def add(self, values: Iterable[object]) -> None:
        written = [_written(value) for value in values]
        ends = np.cumsum(np.fromiter(map(len, written), np.int64, len(written))) + len(self._content)
        self._content.extend(b"".join(written))
        self._ends.extend(ends)

    def add_missing(self, until: int) -> None:
        """Fill up with missing values to this many rows."""
        if until > len(self._ends):
            self._ends.extend(np.full(until - len(self._ends), len(self._content)))

    def done(self) -> Written:
        return Written(self._content.done(), self._ends.done(), _value)

    def close(self) -> None:
        self._content.close()
        self._ends.close()


def _written(value: object) -> bytes:
    """Text behind a mark that no JSON begins with, anything else as JSON, nothing for None."""
    if isinstance(value, str):
        return b"s" + value.encode("utf-8", "surrogatepass")
    if type(value) is int:
        return b"%d" % value
    return b"" if value is None else json.dumps(value).encode()


def _value(content: bytes) -> object:
    if not content:
        return None
    if content[0] == _TEXT:
        return str(content[1:], "utf-8", "surrogatepass")
    return int(content) if content.isdigit() else json.loads(content)


@final
class Arrow(Column):
    """A column of a pyarrow table that lies in a file."""

    def __init__(self, column: Any) -> None:
        self._chunks = column.chunks
        self._starts = np.cumsum([0, *map(len, self._chunks)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: NDArray[np.int64]) -> list[Any]:
        found: list[Any] = []
        first = 0
        while first < len(rows):
            number = bisect_right(self._starts, int(rows[first])) - 1
            chunk, start, end = self._chunks[number], self._starts[number], self._starts[number + 1]
            inside = (rows[first:] >= start) & (rows[first:] < end)
            count = len(inside) if inside.all() else int(inside.argmin())  # rows that follow in the same chunk
            found += chunk.take(_indices(rows[first : first + count] - start)).to_pylist()
            first += count
        return found


def _indices(rows: NDArray[np.int64]) -> Any:
    import pyarrow

    return pyarrow.array(rows)


def spool_arrow(schema: Any, batches: Iterable[Any]) -> dict[str, Arrow]:
    """Columns of record batches, written to a scratch file and mapped into memory."""
    import pyarrow

    scratch = Scratch()
    path = str(scratch.path("rows.arrow"))
    with pyarrow.OSFile(path, "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    table = pyarrow.ipc.open_stream(pyarrow.memory_map(path)).read_all()
    scratch.release()
    return {name: Arrow(table.column(name)) for name in table.column_names}
