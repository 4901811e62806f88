"""Confident learning (Northcutt et al., 2021): labels that a model's own certainty contradicts.

A label is counted as a row's true one when the model is as sure of it as it usually is of rows that bear it. Counting
given labels against these gives how often each is mistaken for another, and with it how many errors there are.

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.int64]


def margins(given: Index, probabilities: Floats) -> Floats:
    """(N,) how well each label goes with the model: 0 where it is sure of another, 1 where it is sure of this.

    Half of one plus the probability of the label less the largest of any other.

    Example:
        >>> margins(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])).round(2).tolist()
        [0.9, 0.2]
    """
    rows = np.arange(len(given))
    others = probabilities.copy()
    others[rows, given] = -np.inf
    return np.asarray((probabilities[rows, given] - others.max(axis=1) + 1) / 2)


def thresholds(given: Index, probabilities: Floats) -> Floats:
    """(K,) how sure the model is of a label on average, in the rows that bear it; never reached by labels of no row."""
    labels = probabilities.shape[1]
    sums = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=labels)
    counts = np.bincount(given, minlength=labels)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_labels(given: Index, probabilities: Floats) -> Index:
    """(N,) the label that the model is as sure of as it usually is; -1 where it is so sure of none.

    Where it is of several, the most probable of them.
    """
    enough = probabilities >= thresholds(given, probabilities) - 1e-12
    best = np.where(enough, probabilities, -1.0).argmax(axis=1)
    return np.where(enough.any(axis=1), best, -1)


def joint(given: Index, probabilities: Floats) -> Floats:
    """(K, K) estimated shares of all rows: given label by true label; sums to 1.

    Example:
        >>> given = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> sure = np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]] + [[0.1, 0.9]] * 4)
        >>> joint(given, sure).tolist()
        [[0.375, 0.125], [0.0, 0.5]]
    """
    labels = probabilities.shape[1]
    true = confident_labels(given, probabilities)
    known = true >= 0
    counts = np.zeros((labels, labels))
    np.add.at(counts, (given[known], true[known]), 1)
    rows = np.bincount(given, minlength=labels).astype(float)
    sums = counts.sum(axis=1)
    empty = sums == 0
    counts[empty, empty] = 1.0  # of a label without confident rows nothing is known: no error is claimed
    scaled = counts / counts.sum(axis=1, keepdims=True) * rows[:, None]
    return np.asarray(scaled / scaled.sum())


def doubted(given: Index, probabilities: Floats) -> NDArray[np.bool_]:
    """(N,) rows whose label the model contradicts: confident of another, and that one the most probable of all."""
    true = confident_labels(given, probabilities)
    return np.asarray((true >= 0) & (true != given) & (probabilities.argmax(axis=1) != given))
