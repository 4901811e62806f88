"""What every reader of files makes its data set with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from sftlib.data.kinds.base import Label
from sftlib.data.rows import Rows


class Readable(Rows):
    """Rows that are made of a table, with the same keywords whatever file it was read from."""

    @abstractmethod
    def __init__(
        self,
        rows: object,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        sentence: str | None = None,
        **roles: str | Sequence[str] | None,
    ) -> None:
        """As for `TaskDataset`."""

    @classmethod
    def _of_table(
        cls,
        table: object,
        roles: Mapping[str, Any],
        task: str | None,
        label_names: Sequence[Label] | None,
        on_invalid: str,
        **shape: str | None,
    ) -> Self:
        """What the user said of any file, and how cells or words are cut where the reader knows that."""
        return cls(table, task=task, label_names=label_names, on_invalid=on_invalid, **shape, **roles)
