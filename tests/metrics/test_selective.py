"""Metrics of answering only what a model is sure of, against their definitions written out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sftlib import Metrics
from sftlib.metrics.directions import higher_is_better


def rows(labels: int, count: int, seed: int, *, ties: bool) -> tuple[list[SimpleNamespace], list[str]]:
    draw = np.random.default_rng(seed)
    scores = np.exp(2 * draw.normal(size=(count, labels)))
    found = scores / scores.sum(axis=1, keepdims=True)
    if ties:  # tenths, the rest on the first label
        found = np.floor(found * 10) / 10
        found[:, 0] += 1 - found.sum(axis=1)
    names = [f"label {k}" for k in range(labels)]
    best = found.argmax(axis=1)
    true = np.where(draw.random(count) < found.max(axis=1), best, draw.integers(0, labels, count))
    predictions = [
        SimpleNamespace(label=names[k], probabilities=dict(zip(names, row.tolist(), strict=True)))
        for k, row in zip(best, found, strict=True)
    ]
    return predictions, [names[k] for k in true]


def written_out(predictions: list[SimpleNamespace], true: list[str]) -> tuple[float, float]:
    sure = [round(p.probabilities[p.label], 12) for p in predictions]
    wrong = [p.label != label for p, label in zip(predictions, true, strict=True)]
    risks, coverage = [], 0.0
    for k in range(1, len(sure) + 1):
        limit = sorted(sure, reverse=True)[k - 1]
        above = [w for s, w in zip(sure, wrong, strict=True) if s > limit]
        beside = [w for s, w in zip(sure, wrong, strict=True) if s == limit]
        risks.append((sum(above) + (k - len(above)) * sum(beside) / len(beside)) / k)
        given = [w for s, w in zip(sure, wrong, strict=True) if s >= limit]
        if 1 - sum(given) / len(given) >= 0.95:
            coverage = max(coverage, len(given) / len(sure))
    return sum(risks) / len(risks), coverage


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("ties", [False, True])
def test_they_are_what_they_are_defined_as(labels: int, ties: bool) -> None:
    predictions, true = rows(labels, 120, labels, ties=ties)
    names = ["aurc", "coverage_at_95"]
    metrics = Metrics(names).update(predictions, true)
    area, coverage = written_out(predictions, true)
    assert metrics["aurc"] == pytest.approx(area, abs=1e-9)
    assert metrics["coverage_at_95"] == pytest.approx(coverage, abs=1e-12)
    merged = Metrics(names).update(predictions[70:], true[70:]) + Metrics(names).update(predictions[:70], true[:70])
    assert dict(merged) == pytest.approx(dict(metrics), abs=1e-12)
    low, high = metrics.interval("aurc")
    assert low <= metrics["aurc"] <= high
    assert not higher_is_better("aurc")


def test_a_model_that_knows_when_it_is_wrong_is_better() -> None:
    def told(sure: list[float], right: list[bool]) -> Metrics:
        predictions = [SimpleNamespace(label="a", probabilities={"a": value, "b": 1 - value}) for value in sure]
        return Metrics(["aurc"]).update(predictions, ["a" if good else "b" for good in right])

    sure = [0.9, 0.8, 0.7, 0.6]
    knowing, blind = told(sure, [True, True, True, False]), told(sure, [False, True, True, True])
    assert knowing["aurc"] == pytest.approx(0.25 / 4)
    assert blind["aurc"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
