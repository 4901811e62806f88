"""What is wrong with the rows of a column: counted in full, the first few shown, raised all at once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError, LabelError

SHOWN = 5

#: What a message calls a row of this number.
Naming: TypeAlias = "Callable[[int], str]"


def by_number(row: int) -> str:
    """What a row of a data set is called.

    Example:
        >>> by_number(3)
        'row 3'
    """
    return f"row {row}"


def brief(value: object, limit: int = 40) -> str:
    """``repr(value)``, cut to ``limit`` characters, printable on any terminal.

    Example:
        >>> brief("a" * 100, limit=10)
        "'aaaaaa..."
    """
    # What is long is cut before repr, so that showing one row of a megabyte costs nothing.
    if isinstance(value, str | bytes) and len(value) > limit:
        value = value[:limit] + ("..." if isinstance(value, str) else b"...")  # type: ignore[operator]
    shown = repr(value)
    shown = shown.encode("utf-8", "backslashreplace").decode("utf-8")
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def listed(names: Iterable[object], limit: int = 20) -> str:
    """Names for a message: quoted, separated by commas, the rest counted.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(brief(name) for name in names[:limit]) + more


def listed_rows(rows: Sequence[int]) -> str:
    """Rows for a message, the first few by their numbers.

    Example:
        >>> listed_rows([3]), listed_rows(range(7))
        ('row 3', 'row 0, row 1, row 2, row 3, row 4 and 2 more')
    """
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return ", ".join(f"row {row}" for row in rows[:SHOWN]) + more


def delimiter_hint(columns: Sequence[str]) -> str:
    """What to try when a file with one column looks as if it had several.

    Example:
        >>> delimiter_hint(["text;label"])
        ", only one: are its cells separated by delimiter=';'?"
    """
    mark = next((mark for mark in ";\t|," if mark in columns[0]), None) if len(columns) == 1 else None
    return f", only one: are its cells separated by delimiter={mark!r}?" if mark else ""


@dataclass
class _Kind:
    """One kind of problem: how many rows have it, and the first few of them."""

    mend: str
    count: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)  # with what is said of each


class Findings:
    """The problems of one column, grouped by kind; of a bad row no more is held than its number.

    Args:
        shown: how many rows of a kind are told one by one; the others are counted.

    Example:
        >>> findings = Findings()
        >>> for row in range(7):
        ...     findings.add(row, "a missing value", None, "drop these rows")
        >>> print(*findings.lines("text"))
        text: 7 rows with a missing value: row 0, row 1, row 2, row 3, row 4 and 2 more; drop these rows
    """

    def __init__(self, *, shown: int = SHOWN) -> None:
        self._shown = shown
        self._kinds: dict[str, _Kind] = {}
        self._rows = array("q")

    def add(self, row: int, what: str, value: object, mend: str, *, note: str = "") -> None:
        """Count a bad row.

        Args:
            row: its position, as in ``data[row]``.
            what: the kind of problem, read after "rows with"; equal for all rows that have it.
            value: what the row holds; shown unless it is None.
            mend: how to mend it.
            note: said of this row alone, beside its value or instead of it.
        """
        kind = self._kinds.setdefault(what, _Kind(mend))
        kind.count += 1
        self._rows.append(row)
        if kind.count <= self._shown:
            kind.rows.append((row, ", ".join(part for part in ("" if value is None else brief(value), note) if part)))

    def __bool__(self) -> bool:
        return bool(self._kinds)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Every bad row, once, in rising order."""
        return np.unique(np.array(self._rows, np.int64))

    def lines(self, where: str, named: Naming = by_number) -> Iterator[str]:
        """One line for each kind of problem, beginning with ``where``, and how to mend it."""
        mends = (kind.mend for kind in self._kinds.values())
        yield from (f"{line}; {mend}" for line, mend in zip(self.counts(where, named), mends, strict=True))

    def counts(self, where: str, named: Naming = by_number) -> Iterator[str]:
        """One line for each kind of problem, beginning with ``where``."""
        for what, kind in self._kinds.items():
            rows = "1 row" if kind.count == 1 else f"{kind.count:,} rows"
            more = f" and {kind.count - self._shown:,} more" if kind.count > self._shown else ""
            told = ", ".join(f"{named(row)} ({said})" if said else named(row) for row, said in kind.rows)
            yield f"{where}: {rows} with {what}: {told}{more}"


Found: TypeAlias = "tuple[str, bool, Findings]"


def raise_findings(found: Iterable[Found], named: Naming = by_number) -> None:
    """Raise everything that was found in one error, or nothing when there is nothing.

    Args:
        found: for each column where it is, whether it holds labels, and what was found.
        named: what rows are called.

    Raises:
        LabelError: there are problems, all of them of labels.
        DataError: there are problems.
    """
    bad = [(where, labels, findings) for where, labels, findings in found if findings]
    if not bad:
        return
    lines = [line for where, _, findings in bad for line in findings.lines(where, named)]
    error = LabelError if all(labels for _, labels, _ in bad) else DataError
    raise error("\n".join(lines))
