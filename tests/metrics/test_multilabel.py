"""Metrics of label sets against scikit-learn's of indicator matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from sftlib.errors import DataError, LabelError
from sftlib.metrics import Metrics, MultiLabel
from tests.metrics.makers import in_batches, several

LABELS = ("art", "code", "food", "war")
RATES = [
    f"{rate}_{average}"
    for rate in ("precision", "recall", "f1")
    for average in ("macro", "micro", "weighted", "samples")
]
COUNTED = ["accuracy", "subset_accuracy", "hamming", *RATES]

sets = st.sets(st.sampled_from(LABELS)).map(sorted)
rows = st.lists(st.tuples(sets, sets), min_size=1, max_size=30)


def indicators(rows: list[Any], names: tuple[Any, ...]) -> np.ndarray:
    return np.array([[name in row for name in names] for row in rows], dtype=int)


def by_scikit_learn(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    values = {
        f"{rate}_{average}": getattr(sk, f"{rate}_score")(true, predicted, average=average, zero_division=0)
        for rate in ("precision", "recall", "f1")
        for average in ("macro", "micro", "weighted", "samples")
    }
    exact = sk.accuracy_score(true, predicted)
    return {"accuracy": exact, "subset_accuracy": exact, "hamming": sk.hamming_loss(true, predicted), **values}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows, st.integers(1, 30))
def test_counted_metrics_are_scikit_learns(pairs: list[tuple[list[str], list[str]]], size: int) -> None:
    true, predicted = (list(side) for side in zip(*pairs, strict=True))
    metrics = in_batches(Metrics(COUNTED, label_names=LABELS), predicted, true, size)
    expected = by_scikit_learn(indicators(true, LABELS), indicators(predicted, LABELS))
    assert dict(metrics) == pytest.approx({name: expected[name] for name in COUNTED}, abs=1e-9)
    matrices = sk.multilabel_confusion_matrix(indicators(true, LABELS), indicators(predicted, LABELS))
    assert metrics.confusion_matrix.tolist() == matrices.tolist()
    assert metrics.confusion_matrix.dtype == np.int64


def test_labels_are_gathered_as_they_come() -> None:
    metrics = Metrics(COUNTED)
    metrics.update([["war"], []], [("war", "code"), set()])
    metrics.update([["art"]], [frozenset(["art", "food"])])
    assert metrics.label_names == LABELS
    true, predicted = [["war", "code"], [], ["art", "food"]], [["war"], [], ["art"]]
    expected = by_scikit_learn(indicators(true, LABELS), indicators(predicted, LABELS))
    assert dict(metrics) == pytest.approx({name: expected[name] for name in COUNTED}, abs=1e-9)


def test_one_label_is_still_multi_label() -> None:
    true, predicted = [["x"], ["x"], [], []], [["x"], [], ["x"], []]
    metrics = Metrics(COUNTED, label_names=("x",)).update(predicted, true)
    assert metrics["accuracy"] == metrics["hamming"] == 0.5
    assert metrics["f1_macro"] == metrics["f1_micro"] == metrics["f1_weighted"] == 0.5
    assert metrics["f1_samples"] == 0.25
    assert metrics.per_class()["x"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2.0}


def test_no_label_at_all_is_nan() -> None:
    metrics = Metrics(["accuracy", "f1_macro"]).update([[], []], [[], []])
    assert all(math.isnan(value) for value in metrics.values())
    assert metrics.rows == 2
    assert metrics.per_class() == {}


@pytest.mark.parametrize("given_names", [True, False])
def test_scores_are_scikit_learns(given_names: bool) -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random((200, 4)), rng.random((200, 4)) < 0.4
    true = [[name for name, has in zip(LABELS, row, strict=True) if has] for row in truth]
    metrics = Metrics(["roc_auc", "average_precision", "f1_macro"], label_names=LABELS if given_names else None)
    in_batches(metrics, several(LABELS, scores), true, 9)
    assert metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-9)
    assert metrics["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores), abs=1e-9)
    assert metrics["f1_macro"] == pytest.approx(sk.f1_score(truth, scores > 0.5, average="macro"), abs=1e-9)
    low, high = metrics.interval("roc_auc", resamples=50)
    assert low < metrics["roc_auc"] < high


def test_per_class_is_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    truth, found = rng.random((90, 4)) < 0.3, rng.random((90, 4)) < 0.3
    lists = [[[name for name, has in zip(LABELS, row, strict=True) if has] for row in side] for side in (found, truth)]
    table = Metrics(["f1_samples"], label_names=LABELS).update(*lists).per_class()
    columns = sk.precision_recall_fscore_support(truth, found, zero_division=0)
    for row, name in enumerate(LABELS):
        assert list(table[name].values()) == pytest.approx([column[row] for column in columns])


def test_bad_rows() -> None:
    metrics = Metrics(["accuracy"], label_names=LABELS, family=MultiLabel)
    with pytest.raises(LabelError, match="predictions, row 1: expected a list of labels, got 'art'"):
        metrics.update([["art"], "art"], [["art"], ["art"]])
    with pytest.raises(LabelError, match="references, row 1: unknown label 'arts': did you mean 'art'"):
        metrics.update([["art"], ["war"]], [["art"], ["war", "arts"]])
    with pytest.raises(LabelError, match="is a list, not a label"):
        metrics.update([["art"]], [[["art"]]])
    with pytest.raises(DataError, match=r"array of shape \(2, 4\)"):
        metrics.update(np.eye(2, 4), np.eye(2, 4))
    with pytest.raises(DataError, match="'roc_auc' needs the probability"):
        Metrics(["roc_auc"], family=MultiLabel).update([["art"]], [["art"]])
    assert metrics.rows == 0
