"""Shards of whatever can be iterated over, `datasets.IterableDataset` among it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, final

from sftlib.data.problems import brief
from sftlib.data.streams.base import Reading, Shard
from sftlib.errors import DataError


@final
class OfIterable(Shard):
    """One part of an iterable of mappings that begins anew whenever it is asked.

    Where it can be told by ``state_dict`` how far it is, as `datasets` can, it goes on from there; of others what lies
    before a row is read again.

    Args:
        rows: the iterable.
        index: which part.
        count: of how many; above 1 only where it has ``shard(num_shards=..., index=...)``.
    """

    def __init__(self, rows: Any, index: int, count: int) -> None:
        kind = type(rows).__name__
        self.name = kind if count == 1 else f"{kind}, shard {index} of {count}"
        self.unified = type(rows).__module__.partition(".")[0] == "datasets"
        self._rows = rows
        self._index = index
        self._count = count

    def read(self, row: int = 0, mark: Any = None) -> Reading:
        part: Any = self._rows
        if hasattr(part, "shard"):  # a new one, whose state is nobody else's
            part = part.shard(num_shards=self._count, index=self._index)
        knows = hasattr(part, "state_dict") and hasattr(part, "load_state_dict")
        if knows and mark is not None:
            part.load_state_dict(mark)
            return Reading(enumerate(part, row), lambda: _as_json(part.state_dict()))
        return Reading(_after(part, row), (lambda: _as_json(part.state_dict())) if knows else lambda: None)

    def facts(self) -> list[Any]:
        return [self.name]


def _after(rows: Iterable[object], row: int) -> Iterator[tuple[int, object]]:
    return enumerate(islice(iter(rows), row, None), row)


def _as_json(state: Any) -> Any:
    """A state as a checkpoint can hold it; None where it cannot."""
    try:
        return json.loads(json.dumps(state))
    except (TypeError, ValueError):
        return None


def shards_of(rows: Any) -> tuple[Shard, ...]:
    """The parts of an iterable, as many as it says it has.

    Raises:
        DataError: it cannot be iterated over, or only once.
    """
    if isinstance(rows, tuple) and rows and all(isinstance(part, Shard) for part in rows):
        return rows
    if isinstance(rows, str | bytes | dict) or not isinstance(rows, Iterable):
        raise DataError(
            f"found {brief(rows)}, expected an iterable of mappings, such as a datasets.IterableDataset; files are "
            "read with TaskStream.from_jsonl, from_parquet or from_tar"
        )
    if isinstance(rows, Iterator):
        raise DataError(
            f"found {type(rows).__name__}, which can be gone through once: a run that goes on, or that needs a second "
            "pass, begins anew; give an object whose __iter__ makes a new iterator each time"
        )
    count = getattr(rows, "num_shards", getattr(rows, "n_shards", 1)) if hasattr(rows, "shard") else 1
    return tuple(OfIterable(rows, index, int(count)) for index in range(int(count)))
