"""Several targets with gaps, and labels of letters: against scikit-learn, in any batching, merged, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sftlib.errors import DataError, LabelError, OptionError
from sftlib.metrics import Metrics, Residues, TargetClasses, TargetNumbers
from sftlib.metrics.directions import higher_is_better

NAMES = ("logS", "log_P")


def rows(count: int = 60, *, classes: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Predictions and references; every third number of the one and every fourth of the other is missing."""
    drawn = np.random.default_rng(0)
    true, found = drawn.normal(size=(count, 2)), drawn.normal(size=(count, 2))
    if classes:
        true, found = (true > 0).astype(float), 1 / (1 + np.exp(-found))
    references = [
        {"logS": None if i % 3 == 0 else float(a), "log_P": None if i % 4 == 1 else float(b)}
        for i, (a, b) in enumerate(true)
    ]
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in found], references


def pairs(predictions: list[dict[str, Any]], references: list[dict[str, Any]], name: str) -> tuple[list[float], ...]:
    there = [i for i, row in enumerate(references) if row[name] is not None]
    return [references[i][name] for i in there], [predictions[i][name] for i in there]


@pytest.mark.parametrize("size", [1, 7, 60])
def test_numbers_in_any_batching(size: int) -> None:
    predictions, references = rows()
    names = ["rmse", "mae", "spearman", "rmse_log_P", "mae_logS"]
    metrics = Metrics(names, family=TargetNumbers.of(NAMES))
    for start in range(0, 60, size):
        metrics.update(predictions[start : start + size], references[start : start + size])
    each = {name: pairs(predictions, references, name) for name in NAMES}
    root = {name: sk.mean_squared_error(*pair) ** 0.5 for name, pair in each.items()}
    assert metrics["rmse"] == pytest.approx(np.mean(list(root.values())), rel=1e-12)
    assert metrics["rmse_log_P"] == pytest.approx(root["log_P"], rel=1e-12)
    assert metrics["mae_logS"] == pytest.approx(sk.mean_absolute_error(*each["logS"]), rel=1e-12)
    assert metrics["spearman"] == pytest.approx(np.mean([stats.spearmanr(*p).statistic for p in each.values()]))
    assert metrics.per_class()["logS"]["support"] == 40


def test_parts_are_merged() -> None:
    predictions, references = rows()
    family = TargetNumbers.of(NAMES)
    whole = Metrics(["rmse"], family=family).update(predictions, references)
    parts = [Metrics(["rmse"], family=family).update(predictions[s], references[s]) for s in (slice(20), slice(20, 60))]
    assert (parts[0] + parts[1])["rmse"] == whole["rmse"]
    low, high = whole.interval("rmse", resamples=200)
    assert low < whole["rmse"] < high
    with pytest.raises(DataError):
        whole + Metrics(["rmse"], family=TargetNumbers.of(["logS"]))


def test_classes_against_scikit_learn() -> None:
    predictions, references = rows(classes=True)
    metrics = Metrics(["roc_auc", "pr_auc", "hamming", "f1_macro", "roc_auc_logS"], family=TargetClasses.of(NAMES))
    metrics.update(predictions, references)
    each = {name: pairs(predictions, references, name) for name in NAMES}
    areas = {name: sk.roc_auc_score(*pair) for name, pair in each.items()}
    assert metrics["roc_auc"] == pytest.approx(np.mean(list(areas.values())), rel=1e-12)
    assert metrics["roc_auc_logS"] == pytest.approx(areas["logS"], rel=1e-12)
    assert metrics["pr_auc"] == pytest.approx(np.mean([sk.average_precision_score(*p) for p in each.values()]))
    wrong = [np.mean(np.array(true) != (np.array(found) >= 0.5)) for true, found in each.values()]
    assert metrics["hamming"] == pytest.approx(np.mean(wrong), rel=1e-12)


def test_a_target_of_one_class_has_no_area_and_is_left_out() -> None:
    predictions = [{"a": 0.2, "b": 0.3}, {"a": 0.9, "b": 0.1}]
    references = [{"a": 0, "b": 1}, {"a": 1, "b": 1}]
    metrics = Metrics(["roc_auc", "roc_auc_b"], family=TargetClasses.of(["a", "b"])).update(predictions, references)
    assert metrics["roc_auc"] == 1.0
    assert np.isnan(metrics["roc_auc_b"])


def test_what_cannot_be_scored_is_refused() -> None:
    family = TargetNumbers.of(NAMES)
    with pytest.raises(OptionError, match="did you mean 'rmse_logS'"):
        Metrics(["rmse_logs"], family=family)
    with pytest.raises(DataError, match="references, row 0"):
        Metrics(["rmse"], family=family).update([{"logS": 1.0, "log_P": 1.0}], [{"logS": 1.0}])


def test_errors_of_a_target_get_better_downwards() -> None:
    found = [higher_is_better(name) for name in ("rmse_logS", "hamming_toxic", "spearman_logS", "roc_auc_toxic")]
    assert found == [False, False, True, True]


def test_letters_against_scikit_learn() -> None:
    drawn = np.random.default_rng(1)
    true = ["".join(drawn.choice(list("HEC"), n)) for n in (5, 1, 30, 12)]
    found = ["".join(drawn.choice(list("HEC"), len(text))) for text in true]
    masked = [[None if place % 5 == 2 else label for place, label in enumerate(text)] for text in true]
    names = ["q3", "accuracy", "f1_macro", "mcc"]
    metrics = Metrics(names, label_names=("C", "E", "H"), family=Residues)
    for row, (a, b) in enumerate(zip(found, masked, strict=True)):
        metrics.update([a if row % 2 else list(a)], [b])
    flat = [(t, f) for text, row in zip(found, masked, strict=True) for f, t in zip(text, row, strict=True) if t]
    pair = tuple(zip(*flat, strict=True))
    assert metrics["q3"] == metrics["accuracy"] == pytest.approx(sk.accuracy_score(*pair), rel=1e-12)
    assert metrics["f1_macro"] == pytest.approx(sk.f1_score(*pair, average="macro"), rel=1e-12)
    assert metrics["mcc"] == pytest.approx(sk.matthews_corrcoef(*pair), rel=1e-9)
    assert metrics.confusion_matrix.tolist() == sk.confusion_matrix(*pair, labels=["C", "E", "H"]).tolist()
    low, high = metrics.interval("q3", resamples=100)
    assert 0 <= low <= metrics["q3"] <= high <= 1
    with pytest.raises(LabelError, match="row 0"):
        metrics.update(["HE"], ["HEC"])
    with pytest.raises(LabelError, match="'X' is not among"):
        metrics.update(["HX"], ["HE"])
