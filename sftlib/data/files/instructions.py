"""Layouts of instruction data, as conversations: Alpaca and ShareGPT."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from sftlib.data.files.json import read_records, rows_of
from sftlib.data.files.packed import size_of
from sftlib.data.files.paths import existing
from sftlib.data.files.spool import gathered
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import is_missing, kind_of
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import nearest
from sftlib.support.display import counted

Row = dict[str, Any]

#: What the parts of Alpaca's layout are called, in the files of others too; the first that a file has is taken.
_ALPACA: Mapping[str, tuple[str, ...]] = {
    "instruction": ("instruction",),
    "input": ("input", "context"),
    "output": ("output", "response", "completion", "answer"),
    "system": ("system",),
    "history": ("history",),
}
_SHAREGPT: Mapping[str, tuple[str, ...]] = {"conversations": ("conversations",), "system": ("system",)}


def read_alpaca(
    path: str | os.PathLike[str],
    *,
    instruction: str | None = None,
    context: str | None = None,
    output: str | None = None,
    drop_invalid: bool = False,
) -> Table:
    """``instruction``, ``input``, ``output``, perhaps ``system`` and ``history``, as ``messages``.

    The user says the instruction, then after an empty line the input, if there is any. A row without output ends with
    the user. Other columns are kept.

    Args:
        path: the file.
        instruction: what the column of that part is called; found when None.
        context: the same of ``input``.
        output: the same.
        drop_invalid: leave out rows that cannot be converted, and say how many.

    Raises:
        OptionError: a column that no row has.
        DataError: no such columns, or values that are no texts; with their rows.
    """
    given = {"instruction": instruction, "input": context, "output": output}
    return _Conversion(_ALPACA, "instruction", _from_alpaca, drop_invalid=drop_invalid).of(path, given)


def read_sharegpt(
    path: str | os.PathLike[str], *, conversations: str | None = None, drop_invalid: bool = False
) -> Table:
    """``conversations`` (of ``from`` and ``value``) and perhaps ``system``, as ``messages``; other columns are kept.

    Args:
        path: the file.
        conversations: what the column of that part is called; found when None.
        drop_invalid: leave out rows that cannot be converted, and say how many.

    Raises:
        OptionError: a column that no row has.
        DataError: no such column, or system prompts that are no texts; with their rows.
    """
    conversion = _Conversion(_SHAREGPT, "conversations", _from_sharegpt, drop_invalid=drop_invalid)
    return conversion.of(path, {"conversations": conversations})


@final
class _Conversion:
    """Rows of a layout as conversations.

    Args:
        parts: of the layout -> what they are called, the usual name first.
        needed: the part that every file has.
        convert: a row under the usual names to turns.
        drop_invalid: whether rows that cannot be converted are left out.
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[str, ...]],
        needed: str,
        convert: Callable[[Row], Any],
        *,
        drop_invalid: bool,
    ) -> None:
        self._parts = parts
        self._needed = needed
        self._convert = convert
        self._drop_invalid = drop_invalid
        self._count = 0
        self._shown: list[str] = []

    def of(self, path: str | os.PathLike[str], given: Mapping[str, str | None]) -> Table:
        """The table of a file.

        Args:
            path: the file.
            given: part -> its column, where the user said which.
        """
        file = existing(path)
        table = read_records(path)
        names = self._names(file, tuple(table.columns), given)
        if self._needed not in names.values():
            raise DataError(
                f"{file}: no row has {self._needed!r}, which this layout needs (columns: {listed(table.columns)}); "
                f"say which column it is with {self._needed}=..."
            )
        self._tell_lost(file, [name for name in table.columns if name not in names], names.values())
        result = gathered(self._converted(rows_of(table), names), size_of(file))
        self._tell(file, result.rows)
        return result

    def _names(self, file: Path, columns: tuple[str, ...], given: Mapping[str, str | None]) -> dict[str, str]:
        """Column -> which part it is."""
        wrong = [
            f"{part}={brief(name)}: {file} has no such column: {nearest(name, columns)}"
            for part, name in given.items()
            if name is not None and name not in columns
        ]
        if wrong:
            raise OptionError("\n".join(wrong))
        found: dict[str, str] = {}
        for part, usual in self._parts.items():
            name = given.get(part) or next((name for name in usual if name in columns), None)
            if name is not None:
                found[name] = part
        return found

    def _tell_lost(self, file: Path, others: Sequence[str], found: Iterable[str]) -> None:
        """Say which parts no row has, where other columns may hold them."""
        missing = [part for part in ("input", "output") if part in self._parts and part not in found]
        if "output" in missing and others:
            logging.getLogger("sftlib").warning(
                "%s: no row has %s, so nothing can be learned; say which column it is with output=... (others: %s)",
                file,
                " or ".join(map(repr, missing)),
                listed(others),
            )

    def _converted(self, rows: Iterable[Row], names: Mapping[str, str]) -> Iterator[Row]:
        """The rows that can be converted; columns that are no part of the layout are kept."""
        for number, row in enumerate(rows):
            try:
                messages = self._convert({part: row[name] for name, part in names.items()})
            except DataError as error:
                self._count += 1
                if self._count <= SHOWN:
                    self._shown.append(f"  row {number}: {error}")
                continue
            others = {name: value for name, value in row.items() if name not in names and name != "messages"}
            yield {"messages": messages} | others

    def _tell(self, file: Path, rows: int) -> None:
        if not self._count:
            return
        more = [f"  and {self._count - SHOWN:,} more"] if self._count > SHOWN else []
        if self._drop_invalid and rows:
            said = f"{file}: {self._count:,} of {self._count + rows:,} rows left out:"
            logging.getLogger("sftlib").warning("%s", "\n".join([said, *self._shown, *more]))
        else:
            raise DataError("\n".join([f"{file}: {counted(self._count, 'row')} cannot be used:", *self._shown, *more]))


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
