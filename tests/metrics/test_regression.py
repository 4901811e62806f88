"""Metrics of numbers against scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics
from tests.metrics.makers import Number, in_batches

NAMES = ["mse", "rmse", "mae", "r2", "pearson", "spearman"]


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("size", [1, 7, 500])
def test_values_are_those_of_scikit_learn_and_scipy(offset: float, size: int) -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal(300).round(1) + offset
    found = true + rng.standard_normal(300)
    metrics = in_batches(Metrics(NAMES), [Number(value) for value in found], true.tolist(), size)
    expected = {
        "mse": sk.mean_squared_error(true, found),
        "rmse": math.sqrt(sk.mean_squared_error(true, found)),
        "mae": sk.mean_absolute_error(true, found),
        "r2": sk.r2_score(true, found),
        "pearson": stats.pearsonr(true, found).statistic,
        "spearman": stats.spearmanr(true, found).statistic,
    }
    assert dict(metrics) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", [np.array, list, tuple, lambda values: np.array(values, dtype=np.float32)])
def test_columns_of_every_kind(kind: Any) -> None:
    assert Metrics(["mae"]).update(kind([1.0, 2.0]), kind([2.0, 4.0]))["mae"] == 1.5


def test_whole_numbers_are_numbers() -> None:
    assert Metrics(["mae"]).update([1, 2], [2, 4])["mae"] == 1.5


def test_what_is_not_defined_is_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = dict(Metrics(NAMES).update([1.0], [2.0]))
        constant = dict(Metrics(NAMES).update([1.0, 2.0], [2.0, 2.0]))
        lost = dict(Metrics(NAMES).update([1.0, float("nan")], [2.0, 3.0]))
    assert [name for name in NAMES if math.isnan(one[name])] == ["r2", "pearson", "spearman"]
    assert [name for name in NAMES if math.isnan(constant[name])] == ["pearson", "spearman"]
    assert all(math.isnan(value) for value in lost.values())


def test_references_must_be_finite_numbers() -> None:
    with pytest.raises(DataError, match="references, row 1: nan is not a finite number"):
        Metrics(["mse"]).update([1.0, 2.0], [1.0, float("nan")])
    with pytest.raises(DataError, match=r"predictions, row 0: expected a number, got '1.5'"):
        Metrics(["mse"]).update(["1.5"], [1.5])
    with pytest.raises(DataError, match="expected a number, got array"):
        Metrics(["mse"]).update([np.ones(2)], [1.5])
    with pytest.raises(DataError, match=r"has no confusion matrix"):
        _ = Metrics(["mse"]).update([1.0], [1.0]).confusion_matrix
    with pytest.raises(DataError, match="has no classes"):
        Metrics(["mse"]).update([1.0], [1.0]).per_class()
    with pytest.raises(OptionError, match="label_names are for classification"):
        Metrics(["mse"], label_names=("a",))
