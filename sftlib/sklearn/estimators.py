"""Classifiers and regressors.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin

from sftlib.errors import LabelError
from sftlib.sklearn.base import Tuned, one_dimensional
from sftlib.support.display import counted

_LEAST = 1e-12


class _Classifier(ClassifierMixin, Tuned):  # type: ignore[misc]
    """One label a row."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Tune a fresh copy of the model.

        Args:
            X: N rows: a list, an array, a Series; of pairs a list of tuples; or a frame, see ``columns``.
            y: (N,) labels.
            sample_weight: (N,) how much each row counts in the loss; a row of weight 0 is left out, and all count the
                same when None.

        Returns:
            The estimator itself, with ``classes_`` (K,) and ``tuner_``, the fitted `FineTuner`.

        Raises:
            DataError: rows that cannot be used.
            LabelError: fewer than two labels.
            OptionError: parameters that cannot be.
        """
        labels = one_dimensional(y)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise LabelError(
                f"y has {counted(len(self.classes_), 'class', 'classes')}; a classifier needs at least two"
            )
        names = [value if isinstance(value, str | int) else str(value) for value in self.classes_.tolist()]
        self._names = names  # those that are no numbers for `FineTuner`, such as 1.0, by their text
        return self._fit(self._rows(X), "label", [names[number] for number in numbers.tolist()], sample_weight)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(N, K) probabilities, in the order of ``classes_``.

        Raises:
            NotFittedError: before `fit`.
            DataError: rows that cannot be used.
        """
        found = self._predicted(X)
        chances = np.array([[one.probabilities[name] for name in self._names] for one in found], np.float64)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))  # fp32 rows sum to 1 but for 1e-7

    def predict(self, X: Any) -> NDArray[Any]:
        """(N,) the most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """(N, K) logarithms of the probabilities; of two labels (N,) how much more probable the second is."""
        logs = np.log(np.maximum(self.predict_proba(X), _LEAST))
        return np.asarray(logs[:, 1] - logs[:, 0]) if logs.shape[1] == 2 else logs


class _Regressor(RegressorMixin, Tuned):  # type: ignore[misc]
    """One number a row."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Tune a fresh copy of the model.

        Args:
            X: N rows, as of a classifier.
            y: (N,) numbers.
            sample_weight: (N,) how much each row counts in the loss; a row of weight 0 is left out, and all count the
                same when None.

        Raises:
            DataError: rows that cannot be used.
            OptionError: parameters that cannot be.
        """
        return self._fit(self._rows(X), "target", one_dimensional(y).astype(float).tolist(), sample_weight)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """(N,) numbers, in the units of ``y``.

        Raises:
            NotFittedError: before `fit`.
            DataError: rows that cannot be used.
        """
        return np.array([one.value for one in self._predicted(X)], np.float64)


@final
class TextClassifier(_Classifier):
    """`FineTuner` for one label a text, or a pair of texts, as an estimator of scikit-learn.

    Args:
        model: as of `FineTuner`, and so are all other parameters but ``columns``.
        columns: of a frame, role -> the column that is read.

    Attributes:
        classes_: (K,) the labels.
        tuner_: the fitted `FineTuner`; ``tuner_.save(folder)`` writes the model.

    Example:
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> texts, labels = [*SENTENCES], ["film"] * 12 + ["bank"] * 4
        >>> found = TextClassifier(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=2).fit(texts, labels)
        >>> found.classes_.tolist(), found.predict_proba(texts[:3]).shape
        (['bank', 'film'], (3, 2))
    """

    kind = "text-classification"


@final
class TextRegressor(_Regressor):
    """`FineTuner` for a number a text, or a pair of texts; parameters as of `TextClassifier`."""

    kind = "text-regression"


@final
class ImageClassifier(_Classifier):
    """`FineTuner` for one label a picture; ``X`` holds paths, bytes, PIL images or (H, W, 3) arrays."""

    kind = "image-classification"
    roles = ("image",)


@final
class ImageRegressor(_Regressor):
    """`FineTuner` for a number a picture; ``X`` as of `ImageClassifier`."""

    kind = "image-regression"
    roles = ("image",)


@final
class AudioClassifier(_Classifier):
    """`FineTuner` for one label a sound; ``X`` holds paths, bytes or ``{"array", "sampling_rate"}``."""

    kind = "audio-classification"
    roles = ("audio",)
