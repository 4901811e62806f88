"""Shards of Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from sftlib.data.files.paths import opened
from sftlib.data.streams.base import Reading, Shard
from sftlib.errors import DataError
from sftlib.support.extras import require

_ROWS = 1024  # that are made Python values at once


@final
class Parquet(Shard):
    """The rows of a file; its groups of rows are counted at its end, so that those before a row are not read.

    Args:
        file: that is there.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    unified = True

    def __init__(self, file: Path) -> None:
        require("pyarrow.parquet", extra="data", purpose="reading Parquet")
        self.name = file.name
        self._file = file

    def read(self, row: int = 0, mark: Any = None) -> Reading:
        return Reading(self._rows(row))

    def _rows(self, row: int) -> Iterator[tuple[int, object]]:
        import pyarrow
        import pyarrow.parquet

        try:
            with opened(self._file, "rb", as_it_lies=True) as stream:
                parts = pyarrow.parquet.ParquetFile(stream)
                first = 0
                for group in range(parts.num_row_groups):
                    count = parts.metadata.row_group(group).num_rows
                    if row < first + count:
                        yield from _of_group(parts, group, first, max(row, first))
                    first += count
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{self.name} cannot be read as Parquet: {error}") from error

    def facts(self) -> list[Any]:
        return [self.name, self._file.stat().st_size]


def _of_group(parts: Any, group: int, first: int, row: int) -> Iterator[tuple[int, object]]:
    """The rows of one group from a row on, which begins with row ``first``."""
    number = first
    for batch in parts.iter_batches(batch_size=_ROWS, row_groups=[group]):
        if row < number + batch.num_rows:
            start = max(0, row - number)
            yield from enumerate(batch.slice(start).to_pylist(), number + start)
        number += batch.num_rows
