"""How results are shown: one table, and what must be said under it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from sftlib.support.display import html_table, text_table
from sftlib.support.extras import require


@final
@dataclass(frozen=True)
class Table:
    """Lines under names, and sentences below.

    Attributes:
        lines: one mapping a line; what a line lacks is left blank.
        notes: sentences.
        caption: what it is a table of.
    """

    lines: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    caption: str = ""

    @property
    def header(self) -> list[str]:
        """Every name, in order of first appearance."""
        return list(dict.fromkeys(name for line in self.lines for name in line))

    def _cells(self) -> list[list[object]]:
        return [[line.get(name) for name in self.header] for line in self.lines]

    def __str__(self) -> str:
        top = [self.caption] if self.caption else []
        return "\n".join([*top, text_table(self.header, self._cells()), *self.notes])

    def html(self) -> str:
        """For a notebook; every value is escaped."""
        from html import escape

        below = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return html_table(self.header, self._cells(), caption=self.caption) + below


def frame(lines: Sequence[Mapping[str, Any]], *, purpose: str) -> Any:
    """A pandas ``DataFrame``, one line a row.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    return require("pandas", extra="data", purpose=purpose).DataFrame([dict(line) for line in lines])


def ends(low: float, high: float) -> str:
    """An interval as people read it.

    Example:
        >>> ends(0.51, 0.6249)
        '0.510 to 0.625'
    """
    return "" if math.isnan(low) or math.isnan(high) else f"{low:.3f} to {high:.3f}"


def named(value: Any) -> str:
    """The value of an option, short enough for a table."""
    if isinstance(value, str | int | float | None):
        return f"{value:g}" if isinstance(value, float) else str(value)
    name = getattr(value, "__name__", None)
    return str(name) if name else f"{value!r:.40}"
