"""Verification against scikit-learn's curves and plain loops, on a thousand random cases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics, Verification
from sftlib.metrics import verification as module
from sftlib.metrics.directions import higher_is_better
from sftlib.metrics.verification import Curve

OF_PAIRS = ("eer", "tar_at_far_1e-2", "tar_at_far_1e-3", "roc_auc", "min_dcf")


@dataclass(frozen=True)
class Embedded:
    embedding: NDArray[np.float64]


@dataclass(frozen=True)
class Verified:
    similarity: float


def by_scikit_learn(similarities: Any, same: Any) -> dict[str, float]:
    false, true, _ = roc_curve(same, similarities, drop_intermediate=False)
    return {
        "eer": brentq(lambda x: 1 - x - np.interp(x, false, true), 0.0, 1.0, xtol=1e-14),
        "tar_at_far_1e-2": true[false <= 1e-2].max(),
        "tar_at_far_1e-3": true[false <= 1e-3].max(),
        "roc_auc": roc_auc_score(same, similarities),
        "min_dcf": float((0.01 * (1 - true) + 0.99 * false).min() / 0.01),
    }


def by_loops(vectors: NDArray[np.float64], names: list[Any]) -> dict[str, float]:
    """Recall and mean average precision among the R nearest, of rows that have another of their name."""
    first, fifth, precision = [], [], []
    for i, name in enumerate(names):
        order = sorted((j for j in range(len(names)) if j != i), key=lambda j: -float(vectors[i] @ vectors[j]))
        hits = [names[j] == name for j in order]
        if not any(hits):
            continue
        first.append(hits[0])
        fifth.append(any(hits[:5]))
        found = [sum(hits[: k + 1]) / (k + 1) if hits[k] else 0.0 for k in range(sum(hits))]
        precision.append(sum(found) / len(found))
    return {
        "recall_at_1": float(np.mean(first)) if first else math.nan,
        "recall_at_5": float(np.mean(fifth)) if first else math.nan,
        "map_at_r": float(np.mean(precision)) if first else math.nan,
    }


def pairs_of(vectors: NDArray[np.float64], names: list[Any]) -> tuple[list[float], list[bool]]:
    numbers = [(i, j) for i in range(len(names)) for j in range(i)]
    return [float(vectors[i] @ vectors[j]) for i, j in numbers], [names[i] == names[j] for i, j in numbers]


def faces(seed: int, *, ties: bool = False) -> tuple[NDArray[np.float64], list[str]]:
    """Embeddings of length 1 of a few persons, exact in float32."""
    rng = np.random.default_rng(seed)
    persons = rng.integers(2, 8)
    who = rng.integers(0, persons, rng.integers(8, 40))
    found = rng.normal(size=(persons, 5))[who] * rng.uniform(0, 1.5) + rng.normal(size=(len(who), 5))
    if ties:
        found = np.eye(5)[np.abs(found).argmax(axis=1)]
    unit = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return unit / np.linalg.norm(unit, axis=1, keepdims=True), [f"person {number}" for number in who]


def test_a_thousand_cases_of_pairs() -> None:
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(2, 80))
        same = rng.random(count) < rng.uniform(0.1, 0.9)
        same[:2] = True, False
        similarities = rng.normal(size=count) + same * rng.uniform(0, 3)
        if seed % 2:
            similarities = similarities.round(1)  # ties
        metrics = Metrics(OF_PAIRS).update([Verified(value) for value in similarities], same)
        assert dict(metrics) == pytest.approx(by_scikit_learn(similarities, same), abs=1e-9), seed
        assert dict(Metrics(OF_PAIRS).update(similarities, same.astype(int))) == dict(metrics)


def test_a_thousand_cases_of_embeddings() -> None:
    for seed in range(1000):
        vectors, names = faces(seed)
        metrics = Metrics(Verification.names).update([Embedded(vector) for vector in vectors], names)
        exact = metrics._family._embeddings.columns[0].astype(np.float64)  # type: ignore[union-attr]
        similarities, same = pairs_of(exact, names)
        expected = by_loops(exact, names)
        if len(set(same)) == 2:
            expected |= by_scikit_learn(similarities, same)
        for name, value in expected.items():
            assert metrics[name] == pytest.approx(value, abs=1e-9, nan_ok=True), (seed, name)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        vectors, names = faces(seed)
        whole = dict(Metrics(Verification.names).update(list(vectors), names))
        parts = Metrics(Verification.names)
        for row, vector in enumerate(vectors):
            parts.update([vector], [names[row]])
        assert dict(parts) == pytest.approx(whole, abs=1e-12, nan_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_BLOCK", 50)
            assert dict(Metrics(Verification.names).update(list(vectors), names)) == pytest.approx(
                whole, abs=1e-12, nan_ok=True
            )


def test_many_pairs_are_counted_in_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, names = faces(3)
    exact = dict(Metrics(OF_PAIRS).update(list(vectors), names))
    monkeypatch.setattr(module, "EXACT", 10)
    binned = dict(Metrics(OF_PAIRS).update(list(vectors), names))
    assert binned == pytest.approx(exact, abs=2e-3)
    assert binned != exact or len(names) < 20


def test_a_tie_puts_strangers_first() -> None:
    same_for_all = [np.ones(3)] * 20
    metrics = Metrics(Verification.names).update(same_for_all, [i % 4 for i in range(20)])
    assert metrics["recall_at_1"] == metrics["recall_at_5"] == metrics["map_at_r"] == 0.0
    assert metrics["eer"] == pytest.approx(0.5)
    assert metrics["roc_auc"] == pytest.approx(0.5)


def test_what_is_not_defined_is_nan() -> None:
    alone = Metrics(Verification.names).update(list(np.eye(3)), ["a", "b", "c"])
    assert all(math.isnan(value) for value in alone.values())
    pairs = Metrics(Verification.names).update([0.3, 0.4], [True, True])
    assert all(math.isnan(value) for value in pairs.values())
    mixed = Metrics(Verification.names).update([0.3, 0.4], [True, False])
    assert math.isnan(mixed["recall_at_1"])
    assert mixed["eer"] == 1.0


def test_parts_are_merged() -> None:
    vectors, names = faces(5)
    whole = Metrics(Verification.names).update(list(vectors), names)
    left = Metrics(Verification.names).update(list(vectors[:7]), names[:7])
    right = Metrics(Verification.names).update(list(vectors[7:]), names[7:])
    assert dict(left + right) == pytest.approx(dict(whole), abs=1e-12)
    low, high = whole.interval("map_at_r", resamples=50)
    assert low <= whole["map_at_r"] <= high
    with pytest.raises(OptionError, match="kept as a sum"):
        whole.interval("eer")
    with pytest.raises(DataError, match="metrics of their own"):
        _ = dict(left + Metrics(Verification.names).update([0.5], [True]))


def test_thresholds_do_what_they_were_chosen_for() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        same = rng.random(400) < 0.4
        similarities = rng.normal(size=400) + same * 2
        curve = Curve.of_pairs(similarities, same)
        called = similarities >= curve.threshold()
        false, missed = called[~same].mean(), (~called)[same].mean()
        assert max(false, missed) == pytest.approx(curve.eer(), abs=1 / min(same.sum(), (~same).sum()) + 1e-9)
        called = similarities >= curve.threshold(0.05)
        assert called[~same].mean() <= 0.05
        assert called[same].mean() == pytest.approx(curve.true_accepts(0.05))


@pytest.mark.parametrize(
    ("found", "true", "message"),
    [
        ([np.ones(3), np.ones(2)], [1, 2], "predictions, row 1: expected .embedding of 3 finite numbers"),
        ([np.array([1.0, math.nan])], [1], "predictions, row 0"),
        (["far"], [1], "predictions, row 0"),
        ([np.ones(2)], [["a"]], "references, row 0: expected a text or number that says whose"),
        ([0.5, np.ones(2)], [True, True], "predictions, row 1: expected .similarity"),
        ([0.5], ["yes"], "references, row 0: expected True or False"),
        ([math.nan], [True], "predictions, row 0"),
    ],
)
def test_rows_that_cannot_be(found: Any, true: Any, message: str) -> None:
    metrics = Metrics(["eer"])
    with pytest.raises(DataError, match=message):
        metrics.update(found, true)
    assert metrics.rows == 0


def test_errors_are_better_when_they_are_small() -> None:
    assert [higher_is_better(name) for name in ("eer", "min_dcf", "tar_at_far_1e-2")] == [False, False, True]
