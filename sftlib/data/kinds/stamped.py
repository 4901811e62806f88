"""What all kinds of media have in common: files that are read once, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sftlib.data.kinds.base import is_missing
from sftlib.data.kinds.values import Fault

_BLOCK = 512  # values given to the threads at once


class StampedFile(NamedTuple):
    """What tells that a file is still the one that was read."""

    path: str
    size: int
    changed: int


def stamp_of(path: str) -> StampedFile | None:
    """What tells that a file is still the same; None where the system says nothing of it."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # which opening it will say better
        return None
    return StampedFile(path, found.st_size, found.st_mtime_ns)


def unwrapped(value: object) -> object:
    """What is inside of the mapping of bytes and path that `datasets` keeps media as."""
    if isinstance(value, Mapping) and value.keys() <= {"bytes", "path"}:
        return value.get("path") if is_missing(value.get("bytes")) else value["bytes"]
    return value


def in_threads(function: Callable[[object], Fault | None], values: Sequence[object]) -> Iterator[Fault | None]:
    """What a function says of each value, in order; decoders work without holding the interpreter."""
    if len(values) < 2:
        yield from map(function, values)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(values), _BLOCK):
            yield from pool.map(function, values[start : start + _BLOCK])
