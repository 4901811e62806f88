"""scikit-learn's own checks of an estimator, on estimators that read the numbers of these checks as texts.

`check_estimator` hands over matrices of numbers and passes over estimators of anything else. So here each row of
numbers is written out, and everything that a check asks beside that is asked. What fails is named, with the reason; a
check that begins to hold, or that ceases to, is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

from sftlib.sklearn import TextClassifier, TextFeatures, TextRegressor
from sftlib.testing import tiny_folder
from tests.versions import sklearn_before

_BATCHES = "a step has so many rows, whatever they weigh: rows of weight 2 do not make the batches of rows given twice"
_TRAINED = "a tiny model in one step learns nothing of numbers that are spelled out"
_SUPERVISED = {
    "check_sample_weight_equivalence_on_dense_data": _BATCHES,
}


class _Spelled:
    """Reads a row of numbers as a text."""

    def _rows(self, rows: Any) -> Any:
        if not hasattr(rows, "tocsr"):
            rows = [" ".join(f"{value:.3g}" for value in row) for row in np.asarray(rows)]
        return super()._rows(rows)  # type: ignore[misc]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags


class Classifier(_Spelled, TextClassifier):
    """Of numbers."""


class Regressor(_Spelled, TextRegressor):
    """Of numbers."""


class Features(_Spelled, TextFeatures):
    """Of numbers."""


KINDS: list[tuple[Callable[..., Any], Mapping[str, Any], Mapping[str, str]]] = [
    (
        Classifier,
        {"max_steps": 1},
        {
            **_SUPERVISED,
            "check_classifiers_train": _TRAINED,
            "check_classifiers_one_label_sample_weights": "its error speaks of labels, where 'class' is wanted",
        },
    ),
    (Regressor, {"max_steps": 1}, {**_SUPERVISED, "check_regressors_train": _TRAINED}),
    (
        Features,
        {},
        {
            "check_transformer_general": "texts have no number of features that could be another one",
            "check_transformer_preserve_dtypes": "features are float32, whatever is read",
        },
    ),
]


@pytest.mark.skipif(sklearn_before("1.9"), reason="the checks, and what they ask, are those of scikit-learn 1.9")
@pytest.mark.parametrize(("kind", "options", "expected"), KINDS, ids=["classifier", "regressor", "features"])
def test_the_checks_of_scikit_learn(
    kind: Callable[..., Any], options: Mapping[str, Any], expected: Mapping[str, str], tmp_path: Path
) -> None:
    estimator = kind(tiny_folder(tmp_path / "model", auto_class="AutoModel"), **options)
    found = check_estimator(estimator, expected_failed_checks=dict(expected), on_skip=None, on_fail=None)
    failed = {one["check_name"]: one["exception"] for one in found if one["status"] == "failed"}
    assert not failed
    assert {one["check_name"] for one in found if one["status"] == "xfail"} == expected.keys()
    assert sum(one["status"] == "passed" for one in found) > 30
