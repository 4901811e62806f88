"""A shard: some of the rows of a stream, in an order of their own, read from any of them on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final


class Unreadable(NamedTuple):
    """Stands where a row should be.

    Attributes:
        what: it is instead, as in "1 row with ...".
        value: what was found, cut short; None to show nothing.
        note: what is said of this row alone.
    """

    what: str
    value: object = None
    note: str = ""


@final
class Reading:
    """The rows of a shard, from one of them on: pairs of a number, which rises, and a value.

    Args:
        rows: the pairs.
        mark: where the row after the last one begins, as a JSON value; None where only its number tells.

    Example:
        >>> reading = Reading(iter([(0, {"text": "a"})]))
        >>> next(reading), reading.mark()
        ((0, {'text': 'a'}), None)
    """

    def __init__(self, rows: Iterator[tuple[int, object]], mark: Callable[[], Any] = lambda: None) -> None:
        self._rows = rows
        self.mark = mark

    def __iter__(self) -> Iterator[tuple[int, object]]:
        return self

    def __next__(self) -> tuple[int, object]:
        return next(self._rows)

    def close(self) -> None:
        """Let go of what is open."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()


class Shard(ABC):
    """Some of the rows of a stream.

    Attributes:
        name: for messages.
        unified: mappings in a row have the keys of all rows, None where a row lacks one, as Arrow has it.
    """

    name: str
    unified: bool = False

    @abstractmethod
    def read(self, row: int = 0, mark: Any = None) -> Reading:
        """The rows from number ``row`` on.

        Args:
            row: number of the first one that is wanted.
            mark: what `Reading.mark` said before that row, in this process or another; then nothing before it is read,
                where the form of the shard allows that.

        Raises:
            DataError: the shard cannot be read.
        """

    def place(self, row: int) -> str:
        """What a message calls one of its rows."""
        return f"{self.name}, row {row}"

    @abstractmethod
    def facts(self) -> list[Any]:
        """What tells it from another one without reading it, as JSON values; where it lies does not count."""
