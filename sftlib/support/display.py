"""Tables for people: aligned text for a terminal, HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import final


@final
@dataclass(frozen=True)
class Html:
    """A cell that is markup already, such as a picture.

    Attributes:
        markup: put into tables of HTML as it is.
    """

    markup: str

    def __str__(self) -> str:
        return self.markup


def cell(value: object) -> str:
    """One value as people read it: four significant digits, grouped thousands, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3e}" if value and not 1e-3 <= abs(value) < 1e5 else f"{value:.4f}"
    return str(value)


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things, in the words that go with it.

    Args:
        number: how many.
        one: the word for one of them.
        many: for several, where that is not ``one`` with an s.

    Example:
        >>> counted(1, "row"), counted(1200, "row"), counted(2, "process", "processes")
        ('1 row', '1,200 rows', '2 processes')
    """
    return f"1 {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An aligned table: text to the left, numbers to the right.

    Example:
        >>> print(text_table(["metric", "value"], [["accuracy", 0.5], ["rows", 1200]]))
        metric     value
        accuracy  0.5000
        rows       1,200
    """
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(len(line[j]) for line in [list(header), *cells]) for j in range(len(header))]
    numeric = [bool(rows) and all(isinstance(row[j], int | float | None) for row in rows) for j in range(len(header))]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        for line in [list(header), *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def html_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> str:
    """The same as an HTML table; every value is escaped, but for `Html`."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{"right" if isinstance(value, int | float) else "left"}">{as_html(value)}</td>'
            for value in row
        )
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_html(value: object) -> str:
    """One value as a cell holds it: escaped, unless it is markup.

    Example:
        >>> as_html("a < b"), as_html(Html("<b>!</b>"))
        ('a &lt; b', '<b>!</b>')
    """
    return value.markup if isinstance(value, Html) else escape(cell(value))
