"""Groups of rows in which a model fails more often than elsewhere, with intervals, and with a correction for looking.

Letters: ``N`` rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset

_LEAST_ROWS, _MOST_VALUES, _LEVEL = 20, 30, 0.05
Mask = NDArray[np.bool_]


@final
@dataclass(frozen=True)
class Slice:
    """Rows that have something in common.

    Attributes:
        name: what: ``source=phone``.
        rows: how many.
        accuracy: of the model on them.
        low: of its 95 % interval (Wilson).
        high: of the same.
        elsewhere: accuracy on all other rows.
        p_value: of the difference, one-sided, by itself (Fisher).
        worse: whether it is worse than elsewhere, with all that was looked at taken into account (Benjamini and
            Hochberg at 5 %).
    """

    name: str
    rows: int
    accuracy: float
    low: float
    high: float
    elsewhere: float
    p_value: float
    worse: bool

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.2f} on {self.rows:,} rows with {self.name} ({self.elsewhere:.2f} elsewhere)"


def slices_of(data: TaskDataset, right: Mask, columns: Sequence[str] | None = None) -> list[Slice]:
    """The slices of at least 20 rows, the worst first.

    Args:
        data: labelled rows.
        right: (N,) whether the model's answer is right.
        columns: further columns to slice by; all that have few values when None.
    """
    parts = [(name, mask) for name, mask in _groups(data, columns) if _LEAST_ROWS <= mask.sum() < len(right)]
    tested = [_tested(right[mask], right[~mask]) for _, mask in parts]
    worse = _discoveries(np.array(tested))
    found = [
        Slice(
            name,
            int(mask.sum()),
            float(right[mask].mean()),
            *wilson(int(right[mask].sum()), int(mask.sum())),
            float(right[~mask].mean()),
            p_value,
            bool(is_worse),
        )
        for (name, mask), p_value, is_worse in zip(parts, tested, worse, strict=True)
    ]
    return sorted(found, key=lambda part: (not part.worse, part.accuracy, part.name))


def wilson(good: int, count: int, *, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a share (Wilson, 1927).

    Example:
        >>> [round(end, 3) for end in wilson(9, 10)]
        [0.596, 0.982]
    """
    share, square = good / count, z * z / count
    centre, half = share + square / 2, z * float(np.sqrt(share * (1 - share) / count + square / (4 * count)))
    return (centre - half) / (1 + square), (centre + half) / (1 + square)


def _groups(data: TaskDataset, columns: Sequence[str] | None) -> Iterator[tuple[str, Mask]]:
    for role in data.targets:
        yield from _values(data.roles[role], data.column(role))
    yield from _lengths(data)
    others = [name for name in data.columns if name not in data.roles]
    for name in others if columns is None else columns:
        yield from _values(name, data.column(name))


def _values(name: str, values: Sequence[Any]) -> Iterator[tuple[str, Mask]]:
    if any(isinstance(value, float | list | tuple | dict) for value in values[:100]):
        return
    different = set(map(str, values))
    if len(different) > max(_MOST_VALUES, len(values) // (4 * _LEAST_ROWS)):
        return
    shown = np.array(list(map(str, values)), dtype=object)
    for value in sorted(different):
        yield f"{name}={value:.60}", shown == value


def _lengths(data: TaskDataset) -> Iterator[tuple[str, Mask]]:
    for role in data.inputs:
        values = data.column(role)
        if not all(isinstance(value, str) for value in values):
            continue
        lengths = np.array([len(value.split()) for value in values])
        limits = np.unique(np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]))
        for number, (low, high) in enumerate(itertools.pairwise(limits)):
            last = number == len(limits) - 2
            yield (
                f"{low:.0f} to {high:.0f} words of {data.roles[role]}",
                (lengths >= low) & ((lengths <= high) if last else (lengths < high)),
            )


def _tested(here: Mask, there: Mask) -> float:
    from scipy.stats import hypergeom

    wrong, total = int((~here).sum()), len(here) + len(there)
    return float(hypergeom.sf(wrong - 1, total, wrong + int((~there).sum()), len(here)))


def _discoveries(p_values: NDArray[np.float64]) -> Mask:
    """Which are too small for chance, at most one in twenty of them wrongly (Benjamini and Hochberg, 1995)."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    passed = np.flatnonzero(p_values[order] <= _LEVEL * np.arange(1, count + 1) / max(count, 1))
    found = np.zeros(count, bool)
    found[order[: passed[-1] + 1 if len(passed) else 0]] = True
    return found
