"""Layouts of instruction data, as conversations: Alpaca and ShareGPT."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

from sftlib.data.files.json import read_records, rows_of
from sftlib.data.files.paths import existing
from sftlib.data.files.spool import gathered
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import is_missing, kind_of
from sftlib.data.problems import SHOWN, listed
from sftlib.errors import DataError

Row = dict[str, Any]
_ALPACA = ("instruction", "input", "output", "system", "history")
_SHAREGPT = ("conversations", "system")


def read_alpaca(path: str | os.PathLike[str]) -> Table:
    """``instruction``, ``input``, ``output``, perhaps ``system`` and ``history``, as ``messages``.

    The user says the instruction, then after an empty line the input, if there is any. A row without output ends with
    the user. Other columns are kept.

    Raises:
        DataError: no such columns, or values that are no texts; with their rows.
    """
    return _converted(path, _ALPACA, "instruction", _from_alpaca)


def read_sharegpt(path: str | os.PathLike[str]) -> Table:
    """``conversations`` (of ``from`` and ``value``) and perhaps ``system``, as ``messages``; other columns are kept.

    Raises:
        DataError: no such column, or system prompts that are no texts; with their rows.
    """
    return _converted(path, _SHAREGPT, "conversations", _from_sharegpt)


def _converted(
    path: str | os.PathLike[str], known: tuple[str, ...], needed: str, convert: Callable[[Row], Any]
) -> Table:
    file = existing(path)
    table = read_records(path)
    if needed not in table.columns:
        raise DataError(f"{file}: no row has {needed!r}, which this layout needs (columns: {listed(table.columns)})")
    problems = _Problems()
    result = gathered(problems.sorted_out(rows_of(table), known, convert), file.stat().st_size)
    problems.raise_any(file)
    return result


@final
class _Problems:
    """The rows that cannot be converted: all counted, the first few kept."""

    def __init__(self) -> None:
        self._count = 0
        self._shown: list[str] = []

    def sorted_out(self, rows: Iterable[Row], known: tuple[str, ...], convert: Callable[[Row], Any]) -> Iterator[Row]:
        """The rows that can be converted; columns that ``known`` does not name are kept."""
        for number, row in enumerate(rows):
            try:
                messages = convert(row)
            except DataError as error:
                self._count += 1
                if self._count <= SHOWN:
                    self._shown.append(f"  row {number}: {error}")
                continue
            others = {name: value for name, value in row.items() if name not in (*known, "messages")}
            yield {"messages": messages} | others

    def raise_any(self, file: Path) -> None:
        if self._count:
            more = [f"  and {self._count - SHOWN:,} more"] if self._count > SHOWN else []
            count = "1 row" if self._count == 1 else f"{self._count:,} rows"
            raise DataError("\n".join([f"{file}: {count} cannot be used:", *self._shown, *more]))


def _from_alpaca(row: Row) -> list[Row]:
    turns = [*_system(row), *_history(row.get("history"))]
    said = [_text(row, "instruction"), _text(row, "input")]
    if not any(map(str.strip, said)):
        raise DataError("neither 'instruction' nor 'input' says anything")
    turns.append({"role": "user", "content": "\n\n".join(part for part in said if part.strip())})
    output = _text(row, "output")
    return [*turns, {"role": "assistant", "content": output}] if output.strip() else turns


def _history(history: object) -> list[Row]:
    """Earlier turns: pairs of what was said and answered."""
    if is_missing(history):
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise DataError("'history' is no list of pairs [instruction, output]")
    return [
        {"role": role, "content": said}
        for pair in history
        for role, said in zip(("user", "assistant"), pair, strict=True)
    ]


def _from_sharegpt(row: Row) -> object:
    turns, system = row["conversations"], _system(row)
    return [*system, *turns] if system and isinstance(turns, list) else turns


def _system(row: Mapping[str, Any]) -> list[Row]:
    text = _text(row, "system")
    return [{"role": "system", "content": text}] if text.strip() else []


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise DataError(f"{key!r} is {kind_of(value)}, expected a string")
    return value
