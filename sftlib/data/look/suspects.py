"""What a data set asks of an audit of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from sftlib.data.kinds.base import Label


@runtime_checkable
class Suspects(Protocol):
    """Knows which labels are doubted."""

    def suspects(self, data: Any, use: str, *, at_least: float) -> Mapping[int, Label]:
        """Row -> suggested label, of those that are doubted so much.

        Raises:
            DataError: other rows, or rows that must not be changed.
        """
