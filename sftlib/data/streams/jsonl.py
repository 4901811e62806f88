"""Shards of JSON Lines, packed or not."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, final

from sftlib.data.files.packed import is_packed
from sftlib.data.files.paths import opened, without_repeats
from sftlib.data.streams.base import Reading, Shard, Unreadable


@final
class JsonLines(Shard):
    """The objects of a file, one a line; a row's number is that of its line, from 0. Blank lines are passed over.

    Of a file that is not packed any line is found at once; of a packed one what lies before it is unpacked again.

    Args:
        file: that is there.
    """

    def __init__(self, file: Path) -> None:
        self.name = file.name
        self._file = file

    def read(self, row: int = 0, mark: Any = None) -> Reading:
        at = [0]  # where the next line begins
        rows = self._rows(row, 0 if mark is None else int(mark), at)
        return Reading(rows, mark=lambda: None if is_packed(self._file) else at[0])

    def _rows(self, row: int, start: int, at: list[int]) -> Iterator[tuple[int, object]]:
        decoder = json.JSONDecoder(object_pairs_hook=without_repeats)
        with opened(self._file, "rb") as stream:
            if start:
                stream.seek(start)
                at[0] = start
            else:
                at[0] = sum(map(len, islice(stream, row)))
            for number, raw in enumerate(stream, row):
                at[0] += len(raw)
                content = raw.removeprefix(codecs.BOM_UTF8) if number == 0 else raw
                if content.strip():
                    yield number, _value(decoder, content)

    def place(self, row: int) -> str:
        return f"{self.name}, line {row + 1}"

    def facts(self) -> list[Any]:
        return [self.name, self._file.stat().st_size]


def _value(decoder: json.JSONDecoder, content: bytes) -> object:
    try:
        return decoder.decode(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Unreadable("bytes that are not UTF-8", note=f"{error.reason} at byte {error.start}")
    except RecursionError:
        return Unreadable("JSON that is nested too deeply")
    except ValueError as error:
        return Unreadable("no JSON", note=str(error))
