"""Accuracy after the same steps, seed by seed; a seed that was measured is not measured again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sftlib import TaskDataset
from tests.benchmarks import contenders as c
from tests.benchmarks import texts
from tests.benchmarks.figures import Asked, Figures, slug

TEST = 2000

Run = dict[str, str]  # contender -> a character a test row, "1" where it was right


def accuracy(asked: Asked) -> Figures:
    """Both sides after one epoch, and the paired difference on the held-out rows."""
    runs = {seed: _measured(seed, asked) for seed in asked.seeds}
    ours, theirs = (np.array([_right(run[side]) for run in runs.values()]) for side in ("sftlib", "transformers"))
    lines = [
        [seed, f"{mine.mean():.4f}", f"{other.mean():.4f}", f"{mine.mean() - other.mean():+.4f}"]
        for seed, mine, other in zip(runs, ours, theirs, strict=True)
    ]
    mean, low, high = interval(ours - theirs)
    note = (
        f"Paired difference over {ours.shape[1]:,} test rows, each the mean of {len(runs)} seeds: {mean:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f}). One epoch, {c.BATCH} rows a step, learning rate {c.RATE:g}, "
        "dropout as the model has it; sftlib in the precision that it chooses, the Trainer in fp32."
    )
    return Figures(["seed", "sftlib", "HF Trainer, default", "difference"], lines, [note])


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """The mean and its 95 % interval.

    Args:
        differences: (seeds, rows); rows are what varies, so that the seeds of one are averaged first.
    """
    of_rows = differences.mean(axis=0)
    error = of_rows.std(ddof=1) / len(of_rows) ** 0.5
    return float(of_rows.mean()), float(of_rows.mean() - 1.96 * error), float(of_rows.mean() + 1.96 * error)


def _right(marks: str) -> list[int]:
    return [int(mark) for mark in marks]


def _measured(seed: int, asked: Asked) -> Run:
    path = asked.folder / slug() / "accuracy" / f"seed-{seed}.json"
    if path.exists():
        found: Run = json.loads(path.read_text(encoding="utf-8"))
        return found
    run = _run(seed, asked)
    _write(path, run)
    return run


def _write(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def _run(seed: int, asked: Asked) -> Run:
    data = TaskDataset(texts.movies(), text="text", label="label")
    train, test = data.split(1 - TEST / len(data), TEST / len(data), seed=0)
    if asked.quick:
        train, test = train.select(range(0, 8192, 64)), test.select(range(0, 2000, 40))
    steps = -(-len(train) // c.BATCH)
    tuner = c.ours(steps, seed=seed).fit(train, progress=False)
    mine = [guess.label == row["label"] for guess, row in zip(tuner.predict(test), test, strict=True)]
    print(f"  seed {seed}: sftlib {np.mean(mine):.4f}", flush=True)
    torch.manual_seed(seed)
    encoded, held_out = c.Encoded(list(train), 512), c.Encoded(list(test), 512)
    trainer = c.hf_trainer(encoded, model=c.hf_model(2), max_steps=steps, seed=seed)
    trainer.train()
    best = [encoded.names[i] for i in trainer.predict(held_out).predictions.argmax(-1)]
    theirs = [guess == row["label"] for guess, row in zip(best, test, strict=True)]
    print(f"  seed {seed}: HF Trainer {np.mean(theirs):.4f}", flush=True)
    return {"sftlib": _marks(mine), "transformers": _marks(theirs)}


def _marks(right: Sequence[bool]) -> str:
    return "".join("1" if one else "0" for one in right)
