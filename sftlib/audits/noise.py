"""How likely each label is wrong, judged by a model that is itself wrong now and then.

A row's label is taken for its true one, drawn as the model's probabilities say once their temperature is right, but for
a share of labels that were replaced by any of the others. Temperature and share are those under which the given labels
are most probable. A model that is merely unsure explains its errors by its temperature, and accuses nobody; errors of
which it is sure can only be explained by the share. Where the data do not speak for any wrong labels, only those that
are more likely wrong than right count. (Thresholds that each label sets for itself, as in confident
learning, Northcutt et al., 2021, take the doubts of a weak model for wrong labels: 13 % of clean movie reviews.)

Letters: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.sure.calibration import probabilities

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

_TEMPERATURES = (np.log(0.02), np.log(50.0))
_SHARES = (1e-6, 0.5)  # above a half nothing is left to learn from
_STARTS = ((0.0, 0.01), (0.0, 0.2), (0.7, 0.1))
_EVIDENCE = 5.41  # of a likelihood ratio, by which one clean set in a hundred is accused (Self and Liang, 1987, case 5)


@final
@dataclass(frozen=True)
class Noise:
    """What the labels are like.

    Attributes:
        temperature: that the model's scores want, to be as sure as it is right of labels that are true.
        share: of labels that were replaced.
        probabilities: (N, K) of the true label, before the given one is looked at.
        wrong: (N,) how likely the given label is not the true one; 0 for labels that the model has never seen.
    """

    temperature: float
    share: float
    probabilities: Floats
    wrong: Floats

    @property
    def rate(self) -> float:
        """The estimated share of wrong labels."""
        return float(self.wrong.mean())

    def doubted(self, given: Index) -> Index:
        """Rows whose label is doubted, the most doubtful first: as many as there are wrong labels, so far as known."""
        order = np.argsort(-self.wrong, kind="stable")[: round(float(self.wrong.sum()))]
        return np.asarray(order[self.probabilities[order].argmax(axis=1) != given[order]])

    def joint(self, given: Index) -> Floats:
        """(K, K) estimated shares of all rows: given label by true label; sums to 1.

        Example:
            >>> sure = np.array([[0.999, 0.001]] * 30 + [[0.001, 0.999]] * 30)
            >>> given = np.array([0] * 27 + [1] * 33)
            >>> noise_of(given, sure).joint(given).round(2).tolist()
            [[0.45, 0.0], [0.05, 0.5]]
        """
        rows, labels = np.arange(len(given)), self.probabilities.shape[1]
        others = self.probabilities.copy()
        others[rows, given] = 0.0
        others *= (self.wrong / np.maximum(others.sum(axis=1), 1e-300))[:, None]
        others[rows, given] = 1 - self.wrong
        sums = np.zeros((labels, labels))
        np.add.at(sums, given, others)
        return np.asarray(sums / len(given))


def noise_of(given: Index, found: Floats) -> Noise:
    """The temperature and the share of wrong labels under which the given ones are most probable.

    Args:
        given: (N,) labels.
        found: (N, K) probabilities of models that have not seen the row; 0 of a label that none has seen.

    Example:
        >>> sure = np.array([[0.999, 0.001]] * 30 + [[0.001, 0.999]] * 30)
        >>> noise = noise_of(np.array([0] * 27 + [1] * 33), sure)
        >>> noise.doubted(np.array([0] * 27 + [1] * 33)).tolist(), round(noise.rate, 3)
        ([27, 28, 29], 0.049)
    """
    from scipy.optimize import minimize

    seen = found[np.arange(len(given)), given] > 0
    logs = np.log(np.maximum(found, 1e-12))
    if not seen.any():
        return Noise(1.0, 0.0, found, np.zeros(len(given)))

    def surprise(asked: Floats) -> float:
        lost = -np.log(_of_given(logs[seen], given[seen], np.exp(asked[0]), asked[1])[0]).sum()
        return float(lost + asked[0] ** 2 / 2)  # where both explain the errors, the model is as sure as it says

    def least(share: tuple[float, float], starts: Sequence[tuple[float, float]]) -> Any:
        bounds = [_TEMPERATURES, share]
        runs = [minimize(surprise, np.array(start), method="Nelder-Mead", bounds=bounds) for start in starts]
        return min(runs, key=lambda run: float(run.fun))

    best, clean = least(_SHARES, _STARTS), least((_SHARES[0], _SHARES[0]), [(0.0, _SHARES[0])])
    temperature, share = float(np.exp(best.x[0])), float(best.x[1])
    chance, true = _of_given(logs, given, temperature, share)
    wrong = np.where(seen, 1 - (1 - share) * true / chance, 0.0)
    if 2 * (clean.fun - best.fun) < _EVIDENCE:
        wrong = np.where(wrong > 0.5, wrong, 0.0)
    return Noise(temperature, share, probabilities(logs / temperature, several=False), wrong)


def _of_given(logs: Floats, given: Index, temperature: float, share: float) -> tuple[Floats, Floats]:
    """(N,) how probable the given label is, and (N,) how probable it is that it is the true one by the model alone."""
    scaled = logs / temperature
    most = scaled.max(axis=1)
    total = most + np.log(np.exp(scaled - most[:, None]).sum(axis=1))
    true = np.exp(scaled[np.arange(len(given)), given] - total)
    chance = (1 - share) * true + share * (1 - true) / max(logs.shape[1] - 1, 1)
    return np.maximum(chance, 1e-300), true
