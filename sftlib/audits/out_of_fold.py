"""Probabilities of rows by models that have not learned from them.

Usually the body of the model as it was before any tuning is gone through once, and a logistic regression on what it
makes of the rows is fitted fold by fold: seconds. With ``full=True`` the tuner itself is fitted on each fold.

Letters: ``N`` rows, ``K`` labels, ``H`` width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.data.splitting import keys, numbered
from sftlib.finetuner import FineTuner
from sftlib.models.seeds import seeded

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)


def folds_of(data: TaskDataset, given: Index, folds: int, *, seed: int) -> Index:
    """(N,) the fold of each row: labels spread evenly, rows with equal inputs in one, the same in every process."""
    groups = numbered(keys(list(data.asked().values())))
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(groups.max() + 1)
    first = np.full(groups.max() + 1, -1)
    first[groups[::-1]] = given[::-1]  # a group goes with the label of its first row
    found = np.empty(len(order), np.int64)
    dealt = 0
    for label in np.unique(first):  # dealt out label by label, going on where the last one ended
        members = order[first[order] == label]
        found[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return np.asarray(found[groups])


def frozen_probabilities(features: NDArray[np.float32], given: Index, fold: Index, labels: int, *, seed: int) -> Floats:
    """(N, K) by logistic regression on features, each row by a model of the other folds.

    Args:
        features: (N, H)
        given: (N,) labels.
        fold: (N,) of each row.
        labels: how many there are.
        seed: of what is drawn.
    """
    scaled = _normalised(features)
    strength = _strength(scaled, given, fold, labels, seed=seed)
    found = np.empty((len(given), labels))
    for rest, out in _sides(fold):
        found[out] = _fitted(scaled[rest], given[rest], strength, labels, seed=seed)(scaled[out])
    return found


def tuned_probabilities(tuner: FineTuner, data: TaskDataset, fold: Index) -> Floats:
    """(N, K) by the tuner itself, fitted anew for each fold on the others; K by the label names of the data."""
    names = data.label_names or ()
    found = np.zeros((len(data), len(names)))
    for rest, out in _sides(fold):
        tuned = tuner.clone().fit(data.select(rest), progress=False)
        for row, prediction in zip(out, tuned.predict(data.select(out)), strict=True):
            found[row] = [prediction.probabilities.get(name, 0.0) for name in names]
    return found


def _sides(fold: Index) -> Iterator[tuple[Index, Index]]:
    for part in np.unique(fold):
        yield np.flatnonzero(fold != part), np.flatnonzero(fold == part)


def _strength(features: NDArray[np.float32], given: Index, fold: Index, labels: int, *, seed: int) -> float:
    """How little a regression is held back: the value with the least log loss on one fold that it has not seen."""
    rest, out = next(_sides(fold))
    losses = []
    for strength in _STRENGTHS:
        found = _fitted(features[rest], given[rest], strength, labels, seed=seed)(features[out])
        losses.append(-np.log(np.maximum(found[np.arange(len(out)), given[out]], 1e-12)).mean())
    return _STRENGTHS[int(np.argmin(losses))]


def _fitted(features: NDArray[np.float32], given: Index, strength: float, labels: int, *, seed: int) -> Any:
    """A function that gives (M, K) probabilities for (M, H) features."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model: LogisticRegression = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
    with warnings.catch_warnings(), seeded(seed):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a rougher fit ranks rows as well
        model.fit(features, given)

    def predict(rows: NDArray[np.float32]) -> Floats:
        found = np.zeros((len(rows), labels))
        found[:, model.classes_] = model.predict_proba(rows)
        return found

    return predict


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row of length 1, then centred, and stretched so that the average length is that of the width."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    centred = unit - unit.mean(axis=0)
    return np.asarray(centred / max(float(centred.std()), 1e-12), np.float32)
