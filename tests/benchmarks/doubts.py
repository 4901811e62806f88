"""How many planted wrong labels are found, how many clean ones accused, and whether what models promise is kept.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.doubts

Features of a frozen MiniLM and scikit-learn's logistic regression on them, so that a set takes seconds and the parts of
the library under test are the only thing that differs: `noise_of`, `best_temperature`, `quantile`, `answers_by`.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from sftlib import FineTuner, TaskDataset
from sftlib.audits.noise import noise_of
from sftlib.audits.out_of_fold import frozen_probabilities
from sftlib.sure.calibration import best_temperature, expected_error, probabilities
from sftlib.sure.conformal import quantile
from sftlib.sure.deciding import answers_by
from tests.benchmarks import contenders as c
from tests.benchmarks import texts

Floats = NDArray[np.float64]
ROWS, HALVES, VALID = 2000, 100, 400
PROMISED = {"banking77": 0.95, "movies": 0.85, "tweets": 0.95, "products": 0.85}


def _set(name: str) -> tuple[Floats, NDArray[np.int64]]:
    """Features (N, H) and labels (N,) of at most 4,000 rows."""
    if name == "banking77":
        both = texts.banking()
        assert both is not None, "SFTLIB_DATA names no folder"
        rows = both[1] + both[0][::4]
    else:
        rows = [{"text": row["text"], "label": row["label"]} for row in texts.sentiments(name)]
    rows = random.Random(0).sample(rows, min(4000, len(rows)))
    found = FineTuner(c.MODEL).features(TaskDataset(rows)).astype(np.float64)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit, np.unique([row["label"] for row in rows], return_inverse=True)[1]


def planted(name: str, features: Floats, labels: NDArray[np.int64], flipped: float) -> str:
    """One line: what is said of rows of which a share bears another label."""
    draw = np.random.default_rng(0)
    rows = draw.permutation(len(labels))[:ROWS]
    true = np.unique(labels[rows], return_inverse=True)[1]
    count, names = round(flipped * ROWS), int(true.max()) + 1
    wrong = np.isin(np.arange(ROWS), draw.permutation(ROWS)[:count])
    given = np.where(wrong, (true + draw.integers(1, names, ROWS)) % names, true)
    found = frozen_probabilities(features[rows].astype(np.float32), given, draw.permutation(ROWS) % 5, names, seed=0)
    noise = noise_of(given, found)
    doubted = noise.doubted(given)
    line = f"| {name}, {flipped:.0%} | {len(doubted) / ROWS:.1%} | {noise.rate:.1%} |"
    if not count:
        return f"{line} | |"
    others = found.copy()
    others[np.arange(ROWS), given] = -1
    margin = np.argsort(found[np.arange(ROWS), given] - others.max(axis=1), kind="stable")[:count]
    return f"{line} {wrong[doubted[:count]].sum() / count:.3f} | {wrong[margin].mean():.3f} |"


def promised(name: str, features: Floats, labels: NDArray[np.int64]) -> str:
    """One line: calibration, coverage and a promised accuracy over halves of rows that were not learned from."""
    learned, held = np.arange(1500), np.arange(1500, len(labels))
    model = LogisticRegression(C=100, max_iter=300).fit(features[learned], labels[learned])
    scores: Any = model.decision_function(features[held])
    scores = np.stack([0 * scores, scores], axis=1) if scores.ndim == 1 else scores
    return f"| {name} | {promised_of(name, scores, np.searchsorted(model.classes_, labels[held]))} |"


def promised_of(name: str, scores: Floats, true: NDArray[np.int64]) -> str:
    """What becomes of promises over halves of rows that were not learned from: scores (N, K), labels (N,)."""
    draw = np.random.default_rng(0)
    truth, aim = np.eye(scores.shape[1])[true], PROMISED[name]
    errors, coverage, kept = [], [], []
    for _ in range(HALVES):
        order = draw.permutation(len(true))
        valid, half, test = order[:VALID], order[: len(order) // 2], order[len(order) // 2 :]
        found = probabilities(scores / best_temperature(scores[valid], truth[valid]), several=False)
        rest = order[VALID:]
        before = expected_error(probabilities(scores[rest], several=False), truth[rest], several=False)
        errors.append((before, expected_error(found[rest], truth[rest], several=False)))
        lacks, sure, right = 1 - found[np.arange(len(true)), true], found.max(axis=1), found.argmax(axis=1) == true
        coverage.append(((lacks[test] <= quantile(lacks[half], 0.9)) | right[test]).mean())
        good = [part for part in answers_by(sure[half], right[half], doubt=0.05 / 20) if part.at_least >= aim]
        if good:
            kept.append(right[test][sure[test] >= good[-1].threshold].mean() >= aim)
    raw, tempered = np.mean(errors, axis=0)
    shown = f"{np.mean(coverage):.3f} ({np.min(coverage):.3f} to {np.max(coverage):.3f})"
    return f"{raw:.3f} | {tempered:.3f} | {shown} | {aim:.2f} in {sum(kept)} of {len(kept)}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(PROMISED))
    sets = {name: _set(name) for name in parser.parse_args().sets}
    print("| set, planted | doubted | share said | planted of the first | by margins |\n|---|---|---|---|---|")
    for name, (features, labels) in sets.items():
        for flipped in (0.0, 0.1):
            print(planted(name, features, labels, flipped), flush=True)
    print("\n| set | ECE | calibrated on 400 | coverage at 0.9 | promise kept |\n|---|---|---|---|---|")
    for name, (features, labels) in sets.items():
        print(promised(name, features, labels), flush=True)


if __name__ == "__main__":
    main()
