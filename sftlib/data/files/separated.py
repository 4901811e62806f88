"""Tables of text, a record a line: cells with a character between them, and perhaps quotes around some.

Quotes are where such files go wrong in silence. One that is a part of the text, at the beginning of a cell, opens a
quoted cell that runs on over line ends until the next quote: five rows become two. So a cell that looks as if it had
swallowed records is refused, unless the quotes were asked for by name.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple, final

from sftlib.data.files.packed import size_of
from sftlib.data.files.paths import BadLines, existing, opened, with_mark
from sftlib.data.files.spool import BLOCK, sink_for
from sftlib.data.files.tables import Table
from sftlib.data.problems import SHOWN, brief, delimiter_hint, listed
from sftlib.errors import DataError, OptionError

#: Quotes as they usually are, with an eye on those that are none.
AUTO = "auto"

_VALUES = 1000  # distinct cells of a column that are remembered, to know one again
_LONGEST = 64  # characters of such a cell
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_csv(
    path: str | os.PathLike[str],
    *,
    delimiter: str = ",",
    quoting: str | None = AUTO,
    escape: str | None = None,
    encoding: str = "utf-8",
) -> Table:
    """The cells of a file with a header, as text.

    Args:
        path: the file.
        delimiter: the character between cells.
        quoting: the character around cells that hold delimiters or line ends; None to read cells as they stand.
        escape: the character in front of one that means itself.
        encoding: of the file.

    Raises:
        OptionError: options that cannot be.
        DataError: lines that cannot be used, all of them counted; cells that swallowed other records.
    """
    quote = _check_options(delimiter, quoting, escape)
    file = existing(path)
    encoding = with_mark(encoding)
    with opened(file, "r", encoding=encoding, named=True, newline="") as stream, _long_cells_allowed():
        lines = _after_a_look(file, stream)
        return _read_cells(file, lines, delimiter, quote, escape, sure=quoting != AUTO)


def _check_options(delimiter: Any, quoting: Any, escape: Any) -> str | None:
    """The character that quotes, or None."""
    problems = []
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        problems.append(f"delimiter={delimiter!r}: expected one character, such as ',' or ';' or '\\t'")
    if quoting not in (None, AUTO) and not _one_sign(quoting, delimiter):
        problems.append(
            f"quoting={quoting!r}: expected the character around cells that hold delimiters, such as '\"', or None to "
            "read cells as they stand"
        )
    if escape is not None and not _one_sign(escape, delimiter):
        problems.append(f"escape={escape!r}: expected the character in front of one that means itself, such as '\\\\'")
    if problems:
        raise OptionError("\n".join(problems))
    return '"' if quoting == AUTO else quoting


def _one_sign(value: object, delimiter: object) -> bool:
    return isinstance(value, str) and len(value) == 1 and value not in "\r\n " and value != delimiter


def _after_a_look(file: Path, stream: IO[str]) -> Iterator[str]:
    """The lines of a file, unless the first says that it is no table."""
    first = next(stream, "")
    if first.lstrip().startswith(("{", "[")):
        try:
            found = json.loads(first)
        except ValueError:
            found = [] if first.strip() == "[" else None
        if isinstance(found, dict):
            raise DataError(f"{file} holds an object of JSON in each line: read it with TaskDataset.from_jsonl")
        if isinstance(found, list):
            raise DataError(f"{file} holds an array of JSON: read it with TaskDataset.from_json")
    return chain([first] if first else [], stream)


def _read_cells(
    file: Path, lines: Iterator[str], delimiter: str, quote: str | None, escape: str | None, *, sure: bool
) -> Table:
    bad = BadLines(file)
    first = next(lines, "")
    spaced = _has_blanks_behind(first, delimiter)
    style: dict[str, Any] = {"delimiter": delimiter, "escapechar": escape, "skipinitialspace": spaced, "strict": True}
    style |= {"quoting": csv.QUOTE_NONE} if quote is None else {"quotechar": quote}
    records = _records(csv.reader(chain([first] if first else [], lines), **style), bad, quote, escape)
    _, header = next(records, (0, None))
    if header is None:
        bad.raise_any()
        raise DataError(f"{file} is empty: expected a header line with the names of the columns")
    header = [name.strip() for name in header]
    check_header(file, header)
    swallowed = _Swallowed(header, delimiter)
    sink = sink_for(size_of(file))
    sink.add({name: [] for name in header}, 0)
    while rows := list(islice(records, BLOCK)):
        good = [cells for _, cells in rows if len(cells) == len(header)]
        if len(good) < len(rows):
            for line, cells in rows:
                if len(cells) != len(header):
                    bad.add(line, f"has {_cells(len(cells))}, the header has {len(header)}{delimiter_hint(header)}")
        if not sure:
            swallowed.look([row for row in rows if len(row[1]) == len(header)])
        if good:
            sink.add(dict(zip(header, zip(*good, strict=True), strict=True)), len(good))
    swallowed.raise_any(file)
    bad.raise_any()
    return Table(
        sink.columns(),
        sink.count,
        textual=True,
        options=("delimiter", "quoting", "escape", "separator", "encoding"),
        folder=file.parent,
    )


def _has_blanks_behind(header: str, delimiter: str) -> bool:
    """Whether a blank stands behind every delimiter of a header: then it does in each line, and belongs to no cell."""
    names = header.rstrip("\r\n").split(delimiter)
    return len(names) > 1 and all(name.startswith(" ") for name in names[1:])


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _records(reader: Any, bad: BadLines, quote: str | None, escape: str | None) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins on; records that cannot be read are noted, blank lines skipped."""
    hint = "" if quote is None else f"; {_quote_hint(escape)}"
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            said = "opens a quote that is never closed" if "end of data" in str(error) else str(error)
            bad.add(line, f"{said}{hint}")
            hint = ""  # once is enough
            continue
        if cells:
            yield line, cells


def _quote_hint(escape: str | None) -> str:
    """What to try when quotes are not what they seem."""
    slash = "" if escape is not None else ", escape='\\\\' where a backslash stands before quotes inside of a cell"
    return f"give quoting=None where quotes are a part of the text{slash}"


@contextmanager
def _long_cells_allowed() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters a cell, which is global, and put it back."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def check_header(file: Path, header: list[str]) -> None:
    """Refuse names of columns that are missing or the same.

    Raises:
        DataError: saying which.
    """
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    problems = [f"{file}: the header has {listed(twice)} more than once; rename the columns"] if twice else []
    empty = [number for number, name in enumerate(header, 1) if not name.strip()]
    if empty:
        hint = " (pandas writes its index so: use to_csv(..., index=False))" if empty == [1] else ""
        problems.append(f"{file}: the header has no name for column {', '.join(map(str, empty))}{hint}")
    if problems:
        raise DataError("\n".join(problems))


class _Doubt(NamedTuple):
    """A quoted cell that may have swallowed records.

    Attributes:
        line: on which its record begins.
        column: its number.
        lines: how many it runs over.
        shown: of it, for a message.
        inside: the cells that would be in it, each with the number of its column.
    """

    line: int
    column: int
    lines: int
    shown: str
    inside: tuple[tuple[int, str], ...]


@final
class _Swallowed:
    """Finds quoted cells that look as if they held other records.

    Such a cell has line ends, and cut at these and at delimiters it gives the rest of its own record, whole records,
    and the beginning of one. Text of several lines with commas in it can look like that too; so with other delimiters
    than a tab, which no text has, a cell inside must also be one that the column has elsewhere, such as a label.

    Args:
        header: names of the columns.
        delimiter: between cells.
    """

    def __init__(self, header: Sequence[str], delimiter: str) -> None:
        self._header = header
        self._delimiter = delimiter
        self._values: list[set[str]] = [set() for _ in header]
        self._doubtful: list[_Doubt] = []

    def look(self, rows: Sequence[tuple[int, list[str]]]) -> None:
        """Remember what cells there are, and those that may hold records.

        Args:
            rows: the line and the cells of each, as many as there are columns.
        """
        for column, cells in enumerate(zip(*(cells for _, cells in rows), strict=True)):
            values = self._values[column]
            if len(values) < _VALUES:
                values.update(cell for cell in cells[:_VALUES] if len(cell) <= _LONGEST and "\n" not in cell)
            whole = "".join(cells)
            if self._delimiter in whole and ("\n" in whole or "\r" in whole):
                self._doubt_some(column, [line for line, _ in rows], cells)

    def _doubt_some(self, column: int, lines: Sequence[int], cells: Sequence[str]) -> None:
        for line, cell in zip(lines, cells, strict=True):
            if self._delimiter in cell and ("\n" in cell or "\r" in cell) and len(self._doubtful) < _VALUES:
                doubt = self._doubt(line, column, cell)
                if doubt is not None:
                    self._doubtful.append(doubt)

    def raise_any(self, file: Path) -> None:
        """Refuse what was found.

        Raises:
            DataError: cells that hold other records, with their lines.
        """
        found = [doubt for doubt in self._doubtful if self._holds_records(doubt)]
        if not found:
            return
        shown = [
            f"  line {doubt.line}: the cell of {self._header[doubt.column]!r} runs over {doubt.lines} lines "
            f"({doubt.shown})"
            for doubt in found[:SHOWN]
        ]
        more = [f"  and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
        count = "1 cell" if len(found) == 1 else f"{len(found):,} cells"
        mend = f"{_quote_hint(None)}; quoting='\"' takes such cells for what they are"
        look = "looks" if len(found) == 1 else "look"
        raise DataError("\n".join([f"{file}: {count} {look} as if a quote had swallowed lines:", *shown, *more, mend]))

    def _doubt(self, line: int, column: int, cell: str) -> _Doubt | None:
        """What a cell would hold if it had swallowed records; None where it cannot have."""
        parts = _LINE_END.split(cell)
        shown = brief(cell, 60)
        if self._delimiter == "\t":
            return _Doubt(line, column, len(parts), shown, ()) if "\t" in cell else None
        pieces = [part.split(self._delimiter) for part in parts]
        width, middle = len(self._header), pieces[1:-1]
        if len(pieces) < 2 or len(pieces[0]) != width - column or len(pieces[-1]) != column + 1:
            return None
        if any(len(piece) != width for piece in middle):
            return None
        inside = [*enumerate(pieces[0][1:], column + 1), *enumerate(pieces[-1][:-1])]
        inside += [(place, part) for piece in middle for place, part in enumerate(piece) if place != column]
        return _Doubt(line, column, len(parts), shown, tuple(inside[:_VALUES])) if inside else None

    def _holds_records(self, doubt: _Doubt) -> bool:
        """Whether a cell inside is one that its column has again, or several are numbers as all of the column."""
        if self._delimiter == "\t":
            return True
        known = any(part.strip() and part in self._values[place] for place, part in doubt.inside)
        told = [
            pair for pair in doubt.inside if pair[1] and pair[1] == pair[1].strip()
        ]  # a text has blanks behind commas
        known = known or len(set(told)) < len(told)
        numbers = [_are_numbers({part, *self._values[at]}) for at, part in doubt.inside]
        enough = any if len(self._header) > 2 else all  # beside a text alone, commas in numbers are easily met
        return known or (len(numbers) > 1 and enough(numbers))


def _are_numbers(cells: set[str]) -> bool:
    return all(_NUMBER.fullmatch(cell) for cell in cells)
