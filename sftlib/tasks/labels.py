"""Checks of labels against those that a model knows, for every task that has labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftlib.errors import LabelError
from sftlib.support.checking import nearest


def check_labels(labels: Sequence[Any], known: Sequence[Any], *, column: str) -> None:
    """Refuse labels that the model does not know.

    Args:
        labels: one label a row, or one list of labels a row.
        known: the model's labels.
        column: where they come from, for the message.

    Raises:
        LabelError: every unknown label with the first rows that bear it, and the nearest known one.
    """
    names = {(type(name), name) for name in known}
    unknown: dict[Any, list[int]] = {}
    for row, value in enumerate(labels):
        for label in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            if (type(label), label) not in names:
                unknown.setdefault(label, []).append(row)
    if unknown:
        raise LabelError("\n".join(_sentence(label, rows, known, column) for label, rows in unknown.items()))


def _sentence(label: Any, rows: list[int], known: Sequence[Any], column: str) -> str:
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return (
        f"column {column!r}, row{'s' if len(rows) > 1 else ''} {shown}: the label {label!r} is not among the "
        f"{len(known)} labels of the training data: {nearest(label, known)}"
    )
