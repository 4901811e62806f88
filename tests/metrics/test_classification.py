"""Single-label metrics against scikit-learn."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from sftlib.errors import DataError, LabelError, OptionError
from sftlib.metrics import Classification, Metrics
from tests.metrics.makers import in_batches, single, softmax

LABELS = ("ant", "bee", "cat", "dog", "elk")
COUNTED = (
    "accuracy balanced_accuracy f1_macro f1_micro f1_weighted precision_macro precision_micro precision_weighted "
    "recall_macro recall_micro recall_weighted mcc cohen_kappa"
).split()
SCORED = ["roc_auc", "average_precision", "log_loss", "brier", "ece"]


def expected(name: str, true: Any, predicted: Any) -> float:
    stem, _, average = name.partition("_")
    if stem in ("f1", "precision", "recall"):
        return float(getattr(sk, f"{stem}_score")(true, predicted, average=average, zero_division=0))
    functions = {
        "accuracy": sk.accuracy_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "mcc": sk.matthews_corrcoef,
        "cohen_kappa": sk.cohen_kappa_score,
    }
    return float(functions[name](true, predicted))


def by_scikit_learn(true: list[Any], predicted: list[Any]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: expected(name, true, predicted) for name in COUNTED}


rows = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows, st.sampled_from([None, LABELS, LABELS[::-1]]), st.integers(1, 40))
def test_counted_metrics_are_scikit_learns(pairs: list[tuple[str, str]], names: Any, size: int) -> None:
    true, predicted = (list(side) for side in zip(*pairs, strict=True))
    metrics = in_batches(Metrics(COUNTED, label_names=names, family=Classification), predicted, true, size)
    assert dict(metrics) == pytest.approx(by_scikit_learn(true, predicted), abs=1e-9, nan_ok=True)
    order = list(names or sorted({*true, *predicted}))
    assert metrics.label_names == tuple(order)
    counts = [[pairs.count((row, column)) for column in order] for row in order]
    assert metrics.confusion_matrix.tolist() == counts
    assert metrics.rows == metrics.confusion_matrix.sum() == len(pairs)


def test_absent_classes_do_not_count_in_the_average() -> None:
    metrics = Metrics(["f1_macro"], label_names=LABELS).update(["ant", "bee"], ["ant", "ant"])
    assert metrics["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize("labels", [("no", "yes"), (0, 1), (False, True), (1, 2)])
def test_two_labels_have_plain_metrics_of_the_last(labels: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(0)
    true, predicted = ([labels[code] for code in rng.integers(0, 2, 50)] for _ in range(2))
    metrics = Metrics(["f1", "precision", "recall"], label_names=labels).update(predicted, true)
    for name in metrics:
        score = getattr(sk, f"{name}_score")(true, predicted, pos_label=labels[1])
        assert metrics[name] == pytest.approx(score, abs=1e-9)


def test_plain_f1_of_more_labels_is_refused() -> None:
    with pytest.raises(OptionError, match=r"'f1' is of two labels and there are 3 .* use f1_macro"):
        Metrics(["f1"], label_names=("a", "b", "c"))
    metrics = Metrics(["f1"]).update(["a"], ["a"])
    assert math.isnan(metrics["f1"])
    with pytest.raises(OptionError, match="f1_macro"):
        metrics.update(["a", "b"], ["c", "b"])
    assert metrics.rows == 1


@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize("given_names", [True, False])
def test_scores_are_scikit_learns(labels: int, given_names: bool) -> None:
    rng = np.random.default_rng(labels)
    names, scores, codes = LABELS[:labels], softmax(rng, 300, labels), rng.integers(0, labels, 300)
    true = [names[code] for code in codes]
    metrics = Metrics(SCORED, label_names=names if given_names else None)
    in_batches(metrics, single(names, scores), true, 7)
    one = scores[:, 1] if labels == 2 else scores
    assert metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(codes, one, multi_class="ovr"), abs=1e-9)
    onehot = codes if labels == 2 else np.eye(labels)[codes]
    assert metrics["average_precision"] == pytest.approx(sk.average_precision_score(onehot, one), abs=1e-9)
    assert metrics["log_loss"] == pytest.approx(sk.log_loss(codes, scores), abs=1e-9)
    brier = (
        np.mean((scores[:, 1] - codes) ** 2) if labels == 2 else np.mean(((np.eye(labels)[codes] - scores) ** 2).sum(1))
    )
    assert metrics["brier"] == pytest.approx(brier, abs=1e-9)
    assert metrics["ece"] == pytest.approx(calibration_error(codes, scores), abs=1e-9)
    assert metrics.label_names == names


def test_the_true_label_among_the_five_most_probable() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        names, scores, codes = [f"kind {i}" for i in range(9)], softmax(rng, 40, 9).round(2), rng.integers(0, 9, 40)
        scores /= scores.sum(axis=1, keepdims=True)
        metrics = in_batches(Metrics(["top_5_accuracy"]), single(names, scores), [names[code] for code in codes], 7)
        expected = sk.top_k_accuracy_score(codes, scores, k=5, labels=range(9))
        assert metrics["top_5_accuracy"] == pytest.approx(expected, abs=1e-9)


def calibration_error(codes: np.ndarray, scores: np.ndarray) -> float:
    """Equation 3 of Guo et al. (2017), written out."""
    confidence, right, total = scores.max(axis=1), scores.argmax(axis=1) == codes, 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_brier_is_scikit_learns_own() -> None:
    rng = np.random.default_rng(3)
    for labels in (2, 4):
        names, scores, codes = list(range(labels)), softmax(rng, 80, labels), rng.integers(0, labels, 80)
        metrics = Metrics(["brier"]).update(single(names, scores), codes)
        one = scores[:, 1] if labels == 2 else scores
        try:
            reference = sk.brier_score_loss(codes, one, labels=names)
        except (ValueError, TypeError):  # before 1.7: two classes only, and no labels
            pytest.skip("this scikit-learn has no multi-class Brier score")
        assert metrics["brier"] == pytest.approx(reference, abs=1e-9)


def test_a_certain_mistake_has_the_log_loss_of_scikit_learn() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0]])
    metrics = Metrics(["log_loss"]).update(single(["a", "b"], scores), ["b", "b"])
    assert metrics["log_loss"] == pytest.approx(sk.log_loss(["b", "b"], scores, labels=["a", "b"]), abs=1e-9)


def test_what_is_not_defined_is_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = Metrics([*COUNTED, *SCORED], label_names=("a", "b"))
        one.update(single(["a", "b"], np.array([[0.9, 0.1], [0.6, 0.4]])), ["a", "a"])
        values = dict(one)
    assert math.isnan(values["roc_auc"])
    assert math.isnan(values["cohen_kappa"])
    assert values["accuracy"] == 1.0
    assert values["mcc"] == 0.0


def test_a_label_without_rows_leaves_no_roc_auc() -> None:
    metrics = Metrics(["roc_auc", "average_precision"], label_names=LABELS[:3])
    metrics.update(single(LABELS[:3], softmax(np.random.default_rng(0), 20, 3)), ["ant", "bee"] * 10)
    assert math.isnan(metrics["roc_auc"])
    assert 0 < metrics["average_precision"] < 1


def test_scores_that_are_nan_make_metrics_nan() -> None:
    nan = float("nan")
    metrics = Metrics(SCORED, label_names=("a", "b")).update(single(["a", "b"], np.array([[nan, nan]] * 2)), ["a", "b"])
    assert all(math.isnan(value) for value in metrics.values())


def test_bare_labels_have_no_scores() -> None:
    with pytest.raises(DataError, match=r"row 0: 'roc_auc' needs the probability of each label.*not str 'a'"):
        Metrics(["accuracy", "roc_auc"]).update(["a"], ["a"])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.5, 0.4]], "must sum to 1; not so in 1 predictions, rows 0"),
        ([[0.5, 0.5], [1.5, -0.5]], r"must lie in \[0, 1\]; not so in 1 predictions, rows 1"),
        ([[1.0]], "one number for each label"),
    ],
)
def test_impossible_probabilities_are_refused(scores: list[list[float]], message: str) -> None:
    names = ["a", "b"][: len(scores[0])]
    with pytest.raises(DataError, match=message):
        Metrics(["brier"], label_names=("a", "b")).update(single(names, np.array(scores)), ["a"] * len(scores))


@pytest.mark.parametrize(
    ("names", "reference", "message"),
    [
        (("positive", "negative"), "positve", "references, row 1: unknown label 'positve': did you mean 'positive'"),
        ((0, 1), True, "True is a bool, the label 1 is an int"),
        ((False, True), 1, "1 is an int, the label True is a bool"),
        (("0", "1"), 1, "1 is an int, the label '1' is a str"),
        ((0, 1), 1.0, "1.0 is a float, not a label"),
        ((0, 1), None, "None is no label"),
        (("a", "b"), float("nan"), "nan is no label"),
        (None, 1.5, "1.5 is a float, not a label"),
        (None, {"a": 1}, "is a dict, not a label"),
    ],
)
def test_labels_that_cannot_be_used(names: Any, reference: Any, message: str) -> None:
    metrics = Metrics(["accuracy"], label_names=names, family=Classification)
    known = names[0] if names else "a"
    with pytest.raises(LabelError, match=message):
        metrics.update([known, known], [known, reference])
    assert metrics.rows == 0
    assert metrics.label_names == names


def test_many_wrong_labels_are_one_error() -> None:
    with pytest.raises(LabelError) as caught:
        Metrics(["accuracy"], label_names=("a", "b")).update(["c"] * 30, ["a"] * 30)
    assert str(caught.value).count("\n") == 10
    assert str(caught.value).endswith("... and 20 more")


@pytest.mark.parametrize("names", [(1, True), ("a", "a"), (0.5, 1.5), (None,)])
def test_label_names_that_cannot_be_used(names: Any) -> None:
    with pytest.raises(LabelError):
        Metrics(["accuracy"], label_names=names)


def test_equal_labels_of_two_types_are_not_gathered() -> None:
    with pytest.raises(LabelError, match="labels 0, 1, False, True are equal"):
        Metrics(["accuracy"]).update([True, False], [1, 0])


def test_mixed_labels_are_sorted_by_their_text() -> None:
    assert Metrics(["accuracy"]).update(["b", 10], ["a", 9]).label_names == (10, 9, "a", "b")


@pytest.mark.parametrize("kind", [np.array, list, tuple, iter])
def test_columns_may_be_arrays(kind: Any) -> None:
    metrics = Metrics(["accuracy"], label_names=(0, 1)).update(kind([0, 1, 1]), kind([0, 1, 0]))
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics.label_names == (0, 1)


def test_numpy_scalars_are_labels() -> None:
    metrics = Metrics(["accuracy"]).update([np.int64(3), np.int64(4)], [np.int64(3), np.int64(3)])
    assert metrics.label_names == (3, 4)
    assert [type(name) for name in metrics.label_names] == [int, int]


def test_per_class_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    true, predicted = ([LABELS[code] for code in rng.integers(0, 4, 200)] for _ in range(2))
    table = Metrics(["accuracy"], label_names=LABELS).update(predicted, true).per_class()
    columns = sk.precision_recall_fscore_support(true, predicted, labels=LABELS, zero_division=0)
    for row, name in enumerate(LABELS):
        assert list(table[name].values()) == pytest.approx([column[row] for column in columns])
    assert list(table) == list(LABELS)
