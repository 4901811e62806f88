"""Overlap of masks, beside scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from sftlib.errors import DataError
from sftlib.metrics import Metrics

NAMES = ["miou", "pixel_accuracy", "mean_accuracy", "dice"]


SEEDS = [*range(100), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 1000))]


@pytest.mark.parametrize("seed", SEEDS)
def test_it_agrees_with_scikit_learn(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    classes = int(numbers.integers(2, 8))
    shapes = [tuple(numbers.integers(1, 12, 2)) for _ in range(6)]
    true = [numbers.integers(0, classes, shape) for shape in shapes]
    found = [
        np.where(numbers.random(mask.shape) < 0.6, mask, numbers.integers(0, classes, mask.shape)) for mask in true
    ]
    ignored = [np.where(numbers.random(mask.shape) < 0.2, 255, mask) for mask in true]
    metrics = Metrics(NAMES, label_names=[f"class {code}" for code in range(classes)])
    for start in (0, 2, 4):
        metrics.update(found[start : start + 2], ignored[start : start + 2])
    t, f = (np.concatenate([mask.ravel() for mask in masks]) for masks in (ignored, found))
    t, f = t[t != 255], f[t != 255]
    assert dict(metrics) == pytest.approx(
        {
            "miou": oracle.jaccard_score(t, f, average="macro"),
            "pixel_accuracy": oracle.accuracy_score(t, f),
            "mean_accuracy": oracle.recall_score(t, f, average="macro", labels=np.unique(t)),
            "dice": oracle.f1_score(t, f, average="macro"),
        },
        abs=1e-9,
    )
    expected = oracle.confusion_matrix(t, f, labels=range(classes))
    assert (metrics.confusion_matrix == expected).all()
    for code, values in enumerate(metrics.per_class().values()):
        there = code in t or code in f
        iou = oracle.jaccard_score(t, f, labels=[code], average=None)[0] if there else math.nan
        assert values["iou"] == pytest.approx(iou, abs=1e-9, nan_ok=True)
        assert values["support"] == expected[code].sum()


def test_parts_add_up() -> None:
    numbers = np.random.default_rng(0)
    true, found = numbers.integers(0, 3, (2, 8, 4, 5))
    whole = Metrics(NAMES).update(list(found), list(true))
    parts = Metrics(NAMES).update(list(found[:3]), list(true[:3])) + Metrics(NAMES).update(
        list(found[3:]), list(true[3:])
    )
    assert dict(parts) == dict(whole)
    assert parts.label_names == (0, 1, 2)
    low, high = parts.interval("miou")
    assert low <= parts["miou"] <= high


def test_negative_numbers_do_not_count() -> None:
    metrics = Metrics(NAMES).update([np.array([[0, 1]])], [np.array([[0, -1]])])
    assert metrics["pixel_accuracy"] == 1.0
    nothing = Metrics(NAMES).update([np.array([[0, 1]])], [np.array([[255, -1]])])
    assert all(math.isnan(value) for value in nothing.values())


@pytest.mark.parametrize(
    ("found", "true", "said"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "row 0: the prediction is 2 x 2, the reference 2 x 3"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), r"predictions, row 0: expected an \(H, W\) array of whole numbers"),
        (np.full((2, 2), 7), np.zeros((2, 2), int), "row 0: the number 7 is no class, expected 0 to 1"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "row 0: the number -1 is no class"),
        (np.zeros((2, 2), int), np.full((2, 2), 10**9), "row 0: the number 1000000000 is no class"),
    ],
)
def test_what_is_wrong_is_told_with_its_row(found: object, true: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Metrics(NAMES, label_names=("a", "b")).update([found], [true])
