"""Precision of contacts, held to plain loops over pairs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from sftlib.errors import DataError, OptionError
from sftlib.metrics import Contacts, Metrics

NAMES = list(Contacts.names)


def by_hand(found: np.ndarray, true: np.ndarray, name: str) -> float | None:
    """Of one row; None where there is no pair."""
    rest = name.removeprefix("precision_at_l")
    part, _, apart = rest.partition("_")
    letters = len(true)
    places = [(i, j) for i in range(letters) for j in range(letters) if j - i >= int(apart or 6)]
    pairs = [(-float(found[i, j]), i, j) for i, j in places if true[i, j] != -1]
    taken = sorted(pairs)[: max(1, math.floor(letters / int(part or 1)))]
    return sum(true[i, j] == 1 for _, i, j in taken) / len(taken) if taken else None


def drawn(seed: int, rows: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of 3 to 60 letters with unknown pairs; some have so few values that many are equal."""
    generator, made = np.random.default_rng(seed), []
    for row in range(rows):
        letters = int(generator.integers(3, 60))
        found = generator.random((letters, letters)).astype(np.float32)
        found = np.round(found, 1) if row % 3 == 0 else found
        true = generator.choice([-1, 0, 1], (letters, letters), p=[0.1, 0.8, 0.1]).astype(np.int8)
        made.append((found, true))
    return made


def test_the_names() -> None:
    expected = [f"precision_at_l{part}{apart}" for apart in ("", "_12", "_24") for part in ("", "2", "5")]
    assert expected == NAMES


@pytest.mark.parametrize("seed", range(6))
def test_against_plain_loops(seed: int) -> None:
    rows = drawn(seed)
    metrics = Metrics(NAMES)
    for found, true in rows:
        metrics.update([SimpleNamespace(probabilities=found)], [true])
    for name in NAMES:
        values = [value for row in rows if (value := by_hand(*row, name)) is not None]
        assert metrics[name] == pytest.approx(np.mean(values), rel=1e-12), name


def test_batches_and_parts_give_the_same() -> None:
    rows = drawn(7)
    whole = Metrics(NAMES).update([found for found, _ in rows], [true for _, true in rows])
    left, right = (
        Metrics(NAMES).update([found for found, _ in part], [true for _, true in part]) for part in (rows[:5], rows[5:])
    )
    assert dict(left + right) == pytest.approx(dict(whole), rel=1e-12)
    low, high = whole.interval("precision_at_l5", resamples=50)
    assert 0 <= low <= whole["precision_at_l5"] <= high <= 1


def test_edges() -> None:
    sure, never = np.zeros((8, 8)), np.zeros((8, 8), int)
    sure[0, 7] = 0.9
    there = never.copy()
    there[0, 7] = 1
    metrics = Metrics(["precision_at_l5", "precision_at_l", "precision_at_l_12"])
    metrics.update([sure, sure], [there, never])
    assert metrics["precision_at_l5"] == 0.5  # one of one, none of one
    assert metrics["precision_at_l"] == pytest.approx((1 / 3 + 0) / 2)  # of the three pairs that there are
    assert math.isnan(metrics["precision_at_l_12"])
    unknown = np.full((8, 8), -1)
    assert metrics.update([sure], [unknown])["precision_at_l5"] == 0.5  # left out


def test_what_cannot_be_scored_is_refused() -> None:
    metrics = Metrics(["precision_at_l5"])
    with pytest.raises(DataError, match="references, row 1"):
        metrics.update([np.zeros((2, 2))] * 2, [np.zeros((2, 2), int), np.zeros((2, 3), int)])
    with pytest.raises(DataError, match=r"predictions, row 0: expected probabilities \(2, 2\)"):
        metrics.update([np.zeros((3, 3))], [np.zeros((2, 2), int)])
    with pytest.raises(DataError, match="of other values"):
        metrics.update([np.full((2, 2), np.nan)], [np.zeros((2, 2), int)])
    with pytest.raises(OptionError, match="did you mean 'precision_at_l5'"):
        Metrics(["precision_at_L5"])
