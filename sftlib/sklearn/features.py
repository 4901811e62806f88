"""A frozen body as a transformer of scikit-learn.

Letters: ``N`` rows, ``H`` features.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.base import Inputs
from sftlib.errors import NotFittedError
from sftlib.sklearn.base import Tuned


@final
class TextFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Tuned):  # type: ignore[misc]
    """What a pretrained body makes of texts: the mean over each text's tokens, at length 1; nothing is learned.

    Of pairs both vectors stand side by side, with how far they are apart and their product at every place.

    Args:
        model: as of `FineTuner`.
        columns: of a frame, role -> the column that is read.
        inputs: how texts are read, such as ``Text(max_length=128)``.
        tokenizer: as of `FineTuner`.
        max_length: as of `FineTuner`.
        precision: as of `FineTuner`.
        device: as of `FineTuner`.
        cache_dir: as of `FineTuner`.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> features = TextFeatures(tiny_model(), tokenizer=tiny_tokenizer())
        >>> features.fit([*SENTENCES]).transform(["a film"]).shape
        (1, 32)
        >>> found = make_pipeline(features, LogisticRegression()).fit([*SENTENCES], [0, 1] * 8)
        >>> found.predict(["a film"]).shape
        (1,)
    """

    def __init__(
        self,
        model: Any,
        *,
        columns: Mapping[str, str] | None = None,
        inputs: Inputs | None = None,
        tokenizer: Any = None,
        max_length: int | None = None,
        precision: str = "auto",
        device: Any = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.columns = columns
        self.inputs = inputs
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.precision = precision
        self.device = device
        self.cache_dir = cache_dir

    def fit(self, X: Any, y: Any = None) -> Self:
        """Open the model, and see how wide its features are.

        Args:
            X: N rows: a list of texts, an array, a Series; of pairs a list of tuples; or a frame.
            y: not looked at.

        Raises:
            DataError: rows that cannot be used.
            ArtifactError: the model cannot be opened.
        """
        rows = self._rows(X)
        self._opened = self._made().holding()
        first = {role: values[:1] for role, values in rows.items()}
        self._n_features_out = self._opened.features(TaskDataset(first)).shape[1]
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """(N, H) a vector a row.

        Raises:
            NotFittedError: before `fit`.
            DataError: rows that cannot be used.
        """
        if not hasattr(self, "_n_features_out"):
            raise NotFittedError("this TextFeatures is not fitted yet: call fit(X)")
        return self._opened.features(TaskDataset(self._rows(X)))

    def __getstate__(self) -> dict[str, Any]:
        """Parameters alone, and the width: a copy opens the model itself."""
        state = dict(super().__getstate__())
        state.pop("_opened", None)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        if "_n_features_out" in state:
            self._opened = self._made().holding()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
