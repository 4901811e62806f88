"""Paired intervals: the right values for every kind of metric, and they cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from sftlib import TaskDataset, TextClassification, TextRegression
from sftlib.selection.paired import Difference, Scores, over_folds
from sftlib.tasks.regression import Regression
from sftlib.tasks.single_label import Classification


def task_of(labels: list[str]) -> TextClassification:
    return TextClassification().learned_from(
        TaskDataset({"text": [f"t{i}" for i in range(len(labels))], "label": labels})
    )


def said(labels: list[str], names: tuple[str, ...]) -> list[Classification]:
    return [Classification(one, 0.8, {n: 0.8 if n == one else 0.2 / (len(names) - 1) for n in names}) for one in labels]


def drawn(generator: np.random.Generator, true: np.ndarray, right: float, names: tuple[str, ...]) -> list[str]:
    found = np.where(generator.random(len(true)) < right, true, generator.integers(0, len(names), len(true)))
    return [names[i] for i in found]


@pytest.mark.parametrize(
    "metric", ["accuracy", "f1_macro", "f1_weighted", "balanced_accuracy", "mcc", "log_loss", "brier", "roc_auc"]
)
def test_each_resample_is_the_metric_of_its_rows_to_the_digit(metric: str) -> None:
    names, generator = ("a", "b", "c"), np.random.default_rng(1)
    true = generator.integers(0, 3, 60)
    references = [names[i] for i in true]
    task = task_of(references)
    candidates = [said(drawn(generator, true, right, names), names) for right in (0.9, 0.5)]
    scores = Scores(task, metric, references, candidates, seed=5)
    for place, found in enumerate(candidates):
        assert scores.values[place] == pytest.approx(
            task.metrics([metric]).update(found, references)[metric], abs=1e-12
        )
    key = np.array([5, 0x706169726564], dtype=np.uint64)
    rows = np.random.Generator(np.random.Philox(key=key)).integers(0, 60, 60)
    first = [
        task.metrics([metric]).update([f[i] for i in rows], [references[i] for i in rows])[metric] for f in candidates
    ]
    assert scores.replicates[0] == pytest.approx(first, abs=1e-9)


def test_regression() -> None:
    generator = np.random.default_rng(0)
    true = generator.normal(size=50).tolist()
    task = TextRegression().learned_from(TaskDataset({"text": [f"t{i}" for i in range(50)], "target": true}))
    candidates = [
        [Regression(t + e) for t, e in zip(true, generator.normal(size=50) * s, strict=True)] for s in (0.1, 1)
    ]
    for metric in ("mse", "rmse", "mae", "r2", "spearman"):
        apart = Scores(task, metric, true, candidates).difference(0, 1)
        assert apart.told_apart, metric


def test_pairing_tells_apart_what_separate_intervals_cannot() -> None:
    names, generator = ("a", "b"), np.random.default_rng(3)
    true = generator.integers(0, 2, 200)
    references = [names[i] for i in true]
    worse = drawn(generator, true, 0.6, names)
    better = [r if i < 40 else w for i, (r, w) in enumerate(zip(references, worse, strict=True))]
    scores = Scores(task_of(references), "accuracy", references, [said(better, names), said(worse, names)])
    assert scores.interval(0)[0] < scores.interval(1)[1]
    assert scores.difference(0, 1).value > 0
    assert scores.difference(0, 1).low > 0
    assert scores.difference(1, 0).high < 0
    assert not scores.difference(0, 0).told_apart


def test_intervals_of_differences_cover_as_often_as_they_say() -> None:
    """Of 200 simulated data sets of 150 rows the true difference lies in 95 % of the intervals, give or take chance."""
    names, generator = ("a", "b"), np.random.default_rng(7)
    truth = 0.85 - 0.80
    inside = 0
    for _ in range(200):
        true = generator.integers(0, 2, 150)
        references = [names[i] for i in true]
        if len(set(references)) < 2:
            continue
        hard = generator.random(150)  # the same rows are hard for both
        found = []
        for rate in (0.85, 0.80):
            mixed = np.where(generator.random(150) < 0.7, hard, generator.random(150))
            found.append(said([names[t if m < rate else 1 - t] for t, m in zip(true, mixed, strict=True)], names))
        apart = Scores(task_of(references), "accuracy", references, found, seed=1).difference(0, 1)
        inside += apart.low <= truth <= apart.high
    assert 0.91 <= inside / 200 <= 0.985


def test_groups_are_drawn_whole() -> None:
    names = ("a", "b")
    references = ["a", "b"] * 50
    wrong_group = [("b" if r == "a" else "a") if i >= 80 else r for i, r in enumerate(references)]
    groups = [i // 20 for i in range(100)]
    rows = Scores(task_of(references), "accuracy", references, [said(wrong_group, names)])
    whole = Scores(task_of(references), "accuracy", references, [said(wrong_group, names)], groups=groups)
    width = lambda s: s.interval(0)[1] - s.interval(0)[0]  # noqa: E731
    assert width(whole) > 2 * width(rows)


def test_the_best_of_many_equals_looks_better_than_it_is() -> None:
    names, generator = ("a", "b"), np.random.default_rng(0)
    true = generator.integers(0, 2, 100)
    references = [names[i] for i in true]
    candidates = [said(drawn(generator, true, 0.5, names), names) for _ in range(12)]
    scores = Scores(task_of(references), "accuracy", references, candidates)
    assert 0.01 < scores.optimism(higher=True) < 0.15
    one = Scores(task_of(references), "accuracy", references, candidates[:1])
    assert abs(one.optimism(higher=True)) < 0.01


def test_folds_are_a_rough_basis_for_what_has_no_rows() -> None:
    assert over_folds([1.0, 1.1, 0.9], [2.0, 2.1, 1.9]).told_apart
    assert not over_folds([1.0, 2.0, 0.9], [1.1, 1.9, 1.0]).told_apart
    assert not over_folds([1.0], [2.0]).told_apart
    assert str(Difference(0.5, 0.25, 0.75)) == "+0.5000 (+0.2500 to +0.7500)"
