"""A head on a body that keeps its weights, with the tuner's defaults, beside logistic regression on the same body."""

from __future__ import annotations

import functools
import math
import os
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sftlib import FineTuner, TaskDataset
from tests.benchmarks import contenders as c
from tests.benchmarks import texts
from tests.benchmarks.figures import Asked, Figures
from tests.benchmarks.frozen import features_of
from tests.benchmarks.measure import kept

SETS, ROWS, FOLDS = ("movies", "tweets", "products", "editorials", "banking77"), 2000, 5


def heads(asked: Asked) -> Figures:
    """Accuracy over five folds, and the difference with its 95 % interval over the rows, each judged by both."""
    rows, lines = asked.size(ROWS, 80), []
    for name in [one for one in SETS if one != "banking77" or "SFTLIB_DATA" in os.environ]:
        ours, theirs = (np.array(right) for right in _right(name, rows))
        apart = ours.astype(float) - theirs
        around = 1.96 * apart.std(ddof=1) / math.sqrt(len(apart))
        lines.append(
            [
                f"{name}, {len(apart):,} rows",
                f"{ours.mean():.4f}",
                f"{theirs.mean():.4f}",
                f"{apart.mean():+.4f} ({apart.mean() - around:+.4f} to {apart.mean() + around:+.4f})",
            ]
        )
    header = ["five folds", 'sftlib, `freeze="backbone"`', "logistic regression on its features", "difference"]
    note = "Features are those of sentence-transformers, at length 1; scikit-learn's C is 1."
    return Figures(header, lines, [note])


def _right(name: str, rows: int) -> tuple[list[bool], list[bool]]:
    """Of each row whether either was right on it, in the fold that it was held out of."""
    found = [kept(f"heads-{name}-{rows}-{fold}", functools.partial(_fold, name, rows, fold)) for fold in range(FOLDS)]
    ours, theirs = (([mark == "1" for fold in found for mark in fold[side]]) for side in (0, 1))
    return ours, theirs


def _fold(name: str, rows: int, fold: int) -> list[str]:
    data, features, target = _body(name, rows)
    rest, held_out = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(features, target))[fold]
    tuned = FineTuner(c.MODEL, freeze="backbone").fit(data.select(rest.tolist()), progress=False)
    answers = [answer.label for answer in tuned.predict(data.select(held_out.tolist()))]
    regression = LogisticRegression(max_iter=1000).fit(features[rest], target[rest])
    sides = np.array(answers) == target[held_out], regression.predict(features[held_out]) == target[held_out]
    return ["".join(str(int(right)) for right in side) for side in sides]


@functools.cache
def _body(name: str, rows: int) -> tuple[TaskDataset, NDArray[Any], NDArray[Any]]:
    """Rows, what the body makes of each, and their labels."""
    both = texts.banking() if name == "banking77" else None
    every = both[0] if both else [{"text": row["text"], "label": row["label"]} for row in texts.sentiments(name)]
    chosen = random.Random(0).sample(every, min(rows, len(every)))
    return TaskDataset(chosen), features_of([row["text"] for row in chosen]), np.array([row["label"] for row in chosen])
