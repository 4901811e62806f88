"""100 labelled rows of a new domain: alone, after adapting to its texts, and after learning from another domain.

Movie reviews are the source; tweets, product reviews and editorials the targets, each with the sign of a human score.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sftlib import FineTuner, TaskDataset
from tests.benchmarks import contenders as c
from tests.benchmarks import texts
from tests.benchmarks.figures import Asked, Figures
from tests.benchmarks.measure import kept

SOURCE, TARGETS = "movies", ("tweets", "products", "editorials")
ROWS, TEST, TEXTS = 100, 500, 2000
EPOCHS = 8  # of the labelled rows


def domains(asked: Asked) -> Figures:
    """Accuracy on held-out rows of each target; a seed chooses the labelled rows too."""
    lines = []
    for target in TARGETS:
        for arm in ARMS:
            found = [
                float(kept(f"domains-{target}-{arm}-{seed}", functools.partial(_accuracy, target, arm, seed))[0])
                for seed in asked.seeds
            ]
            lines.append([target, arm, *(f"{value:.3f}" for value in found), f"{np.mean(found):.3f}"])
    header = ["target", "learned from", *(f"seed {seed}" for seed in asked.seeds), "mean"]
    return Figures(header, lines)


def _accuracy(target: str, arm: str, seed: int) -> list[str]:
    few, unlabelled, test = _parts(target, seed)
    tuner = ARMS[arm](few, unlabelled, seed)
    return [str(tuner.evaluate(test)["accuracy"])]


def _parts(domain: str, seed: int) -> tuple[TaskDataset, list[str], TaskDataset]:
    """100 labelled rows, other texts of the domain, and the rows to test on, which are the same for every seed."""
    data = _rows(domain)
    order = np.random.default_rng(0).permutation(len(data))
    test, rest = order[:TEST], np.random.default_rng(seed + 1).permutation(order[TEST:])
    texts_of = data.select(rest[:TEXTS].tolist()).column("text")
    return data.select(rest[:ROWS].tolist()), texts_of, data.select(test.tolist())


@functools.cache
def _rows(domain: str) -> TaskDataset:
    return TaskDataset([{"text": row["text"], "label": row["label"]} for row in texts.sentiments(domain)])


def _fit(tuner: FineTuner, few: TaskDataset) -> FineTuner:
    return tuner.fit(few, progress=False)


def _alone(few: TaskDataset, unlabelled: list[str], seed: int) -> FineTuner:
    return _fit(c.ours(epochs=EPOCHS, seed=seed), few)


def _adapted(few: TaskDataset, unlabelled: list[str], seed: int) -> FineTuner:
    return _fit(c.ours(epochs=EPOCHS, seed=seed).adapt(unlabelled, epochs=1, progress=False), few)


def _from_source(few: TaskDataset, unlabelled: list[str], seed: int) -> FineTuner:
    return _source()


def _transferred(few: TaskDataset, unlabelled: list[str], seed: int) -> FineTuner:
    source: Any = _source()
    options = {"batch_size": c.BATCH, "learning_rate": c.RATE, "epochs": EPOCHS, "seed": seed}
    return _fit(FineTuner(source.model, tokenizer=c.MODEL, **options), few)


@functools.cache
def _source() -> FineTuner:
    """Tuned on labelled rows of the source, one epoch."""
    chosen = np.random.default_rng(0).permutation(len(_rows(SOURCE)))[:TEXTS]
    return _fit(c.ours(epochs=1), _rows(SOURCE).select(chosen.tolist()))


ARMS: dict[str, Callable[[TaskDataset, list[str], int], FineTuner]] = {
    "100 rows": _alone,
    "adapted to 2,000 texts, then 100 rows": _adapted,
    "2,000 rows of movie reviews": _from_source,
    "2,000 rows of movie reviews, then 100 rows": _transferred,
}
