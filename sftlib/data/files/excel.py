"""Workbooks of Excel: a sheet with a header, read as the text of its cells."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time
from itertools import islice
from typing import Any

from sftlib.data.files.packed import start_of
from sftlib.data.files.paths import existing, opened
from sftlib.data.files.separated import check_header
from sftlib.data.files.spool import BLOCK, sink_for
from sftlib.data.files.tables import Table
from sftlib.data.problems import SHOWN, listed
from sftlib.errors import DataError, OptionError, SftlibError
from sftlib.support.checking import nearest
from sftlib.support.extras import require


def read_excel(path: str | os.PathLike[str], *, sheet: str | int | None = None) -> Table:
    """The cells of a sheet, as text: numbers as they would be typed, the results of formulas, dates in ISO's form.

    Args:
        path: an ``.xlsx`` file.
        sheet: its name or number, from 0; None where only one holds anything.

    Raises:
        MissingExtraError: openpyxl is not installed.
        OptionError: there is no such sheet, or several to choose from.
        DataError: no workbook, or rows with more cells than the header.
    """
    openpyxl = require("openpyxl", extra="excel", purpose="reading Excel")
    file = existing(path)
    if not start_of(file).startswith(b"PK"):
        raise DataError(f"{file} is no .xlsx workbook: save it as one, or read a table of text with from_csv")
    broken = (zipfile.BadZipFile, KeyError, ValueError, SyntaxError, openpyxl.utils.exceptions.InvalidFileException)
    with opened(file, "rb", as_it_lies=True) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and the like, which are not read
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            return _table(file, _sheet(book, sheet, str(file)))  # which reads on
        except SftlibError:
            raise
        except broken as error:
            raise DataError(f"{file} cannot be read as a workbook: {error}") from error


def _sheet(book: Any, wanted: object, file: str) -> Any:
    names = list(book.sheetnames)
    if not names:
        raise DataError(f"{file} cannot be read as a workbook: it has no sheets")
    if isinstance(wanted, int) and not isinstance(wanted, bool) and -len(names) <= wanted < len(names):
        return book[names[wanted]]
    if wanted in names:
        return book[wanted]
    if wanted is not None:
        raise OptionError(f"sheet={wanted!r}: {file} has no such sheet: {nearest(wanted, names)}")
    filled = [name for name in names if next(book[name].iter_rows(values_only=True), None)]
    if len(filled) > 1:
        raise OptionError(f"{file} has several sheets: say which is meant with sheet={filled[0]!r} ({listed(filled)})")
    return book[(filled or names)[0]]


def _table(file: Any, sheet: Any) -> Table:
    rows = (tuple(map(_text, row)) for row in sheet.iter_rows(values_only=True))
    header = _without_empty_end(next(rows, ()))
    if not header:
        raise DataError(f"{file} is empty: expected a first row with the names of the columns")
    names = [name.strip() for name in header]
    check_header(file, names)
    sink, wrong = sink_for(size_of_cells(file)), []
    sink.add({name: [] for name in names}, 0)
    numbered = enumerate(rows, 2)
    while block := list(islice(numbered, BLOCK)):
        wrong += [number for number, row in block if any(row[len(names) :])]
        filled = [_filled(row, len(names)) for _, row in block if any(row)]
        if filled:
            sink.add(dict(zip(names, zip(*filled, strict=True), strict=True)), len(filled))
    if wrong:
        more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        shown = ", ".join(map(str, wrong[:SHOWN]))
        raise DataError(f"{file}: row {shown}{more} of the sheet reaches beyond the header ({len(names)} columns)")
    return Table(
        sink.columns(), sink.count, textual=True, options=("sheet", "separator", "sentence"), folder=file.parent
    )


def size_of_cells(file: Any) -> int:
    """Bytes of a workbook, unpacked as far as it tells: what its sheets may take."""
    with zipfile.ZipFile(file) as archive:
        return sum(info.file_size for info in archive.infolist())


def _without_empty_end(row: Sequence[str]) -> list[str]:
    cells = list(row)
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _filled(row: Sequence[str], width: int) -> Sequence[str]:
    return (*row[:width], *[""] * (width - len(row)))


def _text(value: object) -> str:
    """A cell as it would be typed."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
