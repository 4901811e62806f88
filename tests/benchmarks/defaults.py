"""What the default rates reach beside others: MiniLM, three epochs, rows held out.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.defaults banking77 tweets --rows 500 --seeds 0 1

Rates are those of the body; the head's stands behind a slash where it is another. ``default`` names none.
"""

from __future__ import annotations

import argparse
import random

from sftlib import FineTuner, TaskDataset
from tests.benchmarks import contenders as c
from tests.benchmarks import texts

SETS = ("banking77", "movies", "tweets", "products")
RATES: dict[str, dict[str, float]] = {
    "5e-5": {"learning_rate": 5e-5},
    "1e-4": {"learning_rate": 1e-4},
    "2e-4": {"learning_rate": 2e-4},
    "5e-5/5e-4": {"learning_rate": 5e-5, "head_learning_rate": 5e-4},
    "1e-4/1e-3": {"learning_rate": 1e-4, "head_learning_rate": 1e-3},
    "2e-4/2e-3": {"learning_rate": 2e-4, "head_learning_rate": 2e-3},
    "default": {},
}
TEST = 1000


def parts(name: str, rows: int, seed: int) -> tuple[TaskDataset, TaskDataset]:
    """Rows to learn from, drawn by the seed, and 1,000 to test on, the same for every seed."""
    if name == "banking77":
        both = texts.banking()
        assert both is not None, "SFTLIB_DATA names no folder"
        train, test = both
    else:
        found = [{"text": row["text"], "label": row["label"]} for row in texts.sentiments(name)]
        random.Random(0).shuffle(found)
        train, test = found[TEST:], found[:TEST]
    chosen = random.Random(100 + seed).sample(train, min(rows, len(train)))
    known = {row["label"] for row in chosen}
    kept = [row for row in random.Random(5).sample(test, min(TEST, len(test))) if row["label"] in known]
    return TaskDataset(chosen), TaskDataset(kept)


def main() -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rates", nargs="+", default=list(RATES), choices=list(RATES))
    given = parser.parse_args()
    for seed in given.seeds:
        for name in given.sets:
            train, test = parts(name, given.rows, seed)
            for rate in given.rates:
                tuned = FineTuner(c.MODEL, epochs=3, seed=seed, **RATES[rate]).fit(train, progress=False)
                print(
                    f"| {name}, {len(train):,} | {seed} | {rate} | {tuned.evaluate(test)['accuracy']:.3f} |", flush=True
                )


if __name__ == "__main__":
    main()
