"""Heads of scikit-learn on vectors that do not change, and scikit-learn's own models, in the form of predictions.

Letters: ``N`` rows, ``H`` numbers of a vector, ``K`` labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import OptionError
from sftlib.tasks.base import Label, Task
from sftlib.tasks.regression import Regression, RegressionTask
from sftlib.tasks.single_label import Classification, OneLabelTask

#: Inverse strength of the regularisation on vectors of length 1.
STRENGTH = 10.0


def suits(task: Task) -> bool:
    """Whether a head of scikit-learn answers as the task does: one label, or one number a row."""
    return isinstance(task, OneLabelTask | RegressionTask)


def usual_head(task: Task) -> Any:
    """Logistic regression, or ridge regression whose strength is chosen by leave-one-out on the training rows."""
    if isinstance(task, OneLabelTask):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=STRENGTH, max_iter=1_000)
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=np.logspace(-3, 2, 11))


def usual_baseline(task: Task) -> Any:
    """Words and pairs of words, counted, under the same head: what a transformer has to beat."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), usual_head(task))


def is_estimator(value: object) -> bool:
    """Whether a value is a model of scikit-learn, or behaves like one."""
    return all(callable(getattr(value, name, None)) for name in ("fit", "predict", "get_params", "set_params"))


def fitted(estimator: Any, inputs: Any, targets: Sequence[Any]) -> Any:
    """A clone of an estimator, fitted.

    Raises:
        OptionError: it cannot learn from these rows; its own words.
    """
    from sklearn.base import clone

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged to the last digit
            return clone(estimator).fit(inputs, list(targets))
    except (ValueError, TypeError) as error:
        raise OptionError(f"{type(estimator).__name__} cannot learn from these rows: {error}") from error


def predictions(task: Task, estimator: Any, inputs: Any) -> list[Any]:
    """What a fitted estimator answers, as the task's own predictions."""
    if isinstance(task, RegressionTask):
        return [Regression(float(value)) for value in np.asarray(estimator.predict(inputs)).reshape(-1)]
    names: tuple[Label, ...] = task.label_names or ()
    if hasattr(estimator, "predict_proba"):
        return _with_probabilities(names, estimator, estimator.predict_proba(inputs))
    own = {str(name): name for name in names}
    return [
        Classification(own[str(label)], 1.0, {name: float(str(name) == str(label)) for name in names})
        for label in np.asarray(estimator.predict(inputs)).tolist()
    ]


def _with_probabilities(
    names: tuple[Label, ...], estimator: Any, probabilities: NDArray[np.float64]
) -> list[Classification]:
    """Labels that the training rows did not have get 0."""
    own = {str(name): name for name in names}
    columns = [own[str(label)] for label in np.asarray(estimator.classes_).tolist()]
    found = []
    for row in np.asarray(probabilities, float).tolist():
        given = dict(zip(columns, row, strict=True))
        whole = {name: given.get(name, 0.0) for name in names}
        best = max(whole, key=lambda name: whole[name])
        found.append(Classification(best, whole[best], whole))
    return found
