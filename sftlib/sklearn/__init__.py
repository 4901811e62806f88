"""Estimators of scikit-learn around `FineTuner`: they clone, stand in pipelines, are searched, calibrated, voted on.

::

    base.py        options as parameters, rows from what scikit-learn hands over, copies without pickled weights
    estimators.py  `TextClassifier`, `TextRegressor`, and the same for pictures and sounds
    features.py    `TextFeatures`: a frozen body as a transformer

Everything else in `sftlib` does without scikit-learn's classes; this room is imported by those who want them.
"""

from __future__ import annotations

from sftlib.sklearn.estimators import (
    AudioClassifier,
    ImageClassifier,
    ImageRegressor,
    TextClassifier,
    TextRegressor,
)
from sftlib.sklearn.features import TextFeatures

__all__ = [
    "AudioClassifier",
    "ImageClassifier",
    "ImageRegressor",
    "TextClassifier",
    "TextFeatures",
    "TextRegressor",
]
