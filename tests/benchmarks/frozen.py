"""Training a head on a body that keeps its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sftlib import TaskDataset
from tests.benchmarks import contenders as c
from tests.benchmarks import texts
from tests.benchmarks.clocks import Epochs, HfEpochs
from tests.benchmarks.figures import Asked, Figures, compared, spread
from tests.benchmarks.measure import Series, interleaved, seconds_of

FOLDS, EPOCHS = 5, 5


def frozen(asked: Asked) -> Figures:
    """Seconds of the second epoch and of those that follow it."""
    rows = _rows(asked.size(1280, 96))

    def ours(seed: int, **options: Any) -> float:
        clock = Epochs()
        tuner = c.ours(epochs=12, freeze="backbone", seed=seed, **options)
        tuner.fit(TaskDataset(rows, text="text", label="label"), callbacks=[clock], progress=False)
        return float(np.diff(clock.stamps).mean())

    def theirs(seed: int, **options: Any) -> float:
        data, clock = c.Encoded(rows, 512), HfEpochs()
        model = c.hf_model(len(data.names))
        model.base_model.requires_grad_(False)
        trainer = c.hf_trainer(data, model=model, seed=seed, num_train_epochs=asked.size(3, 2), **options)
        trainer.add_callback(clock)
        trainer.train()
        return float(np.diff(clock.stamps).mean())

    contenders = {
        "sftlib": ours,
        "sftlib, fp32": lambda seed: ours(seed, precision="fp32"),
        "HF Trainer, body frozen": theirs,
        "HF Trainer, body frozen, bf16, grouped by length": lambda seed: theirs(seed, best=True),
    }
    found = interleaved(contenders, asked.size(3, 1))
    title = f"body frozen, {len(rows):,} sentences: second and later epochs"
    return compared(title, found, ("ms an epoch", 1e3), ("rows/s", len(rows)))


def folds(asked: Asked) -> Figures:
    """Seconds of a cross-validation with a frozen body, beside one fit and beside logistic regression on features."""
    data = TaskDataset(_rows(asked.size(2000, 120)), text="text", label="label")
    labels = data.column("label")
    parts = [
        (rest.tolist(), held_out.tolist())
        for rest, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(len(data)), labels)
    ]
    scores: dict[str, list[float]] = {"sftlib": [], "features": []}

    def one_fit(seed: int) -> float:
        return seconds_of(lambda: _tuner(seed).fit(data, progress=False))

    def ours(seed: int) -> float:
        return seconds_of(lambda: scores["sftlib"].append(_validated(_tuner(seed), data, parts)))

    def features(_: int) -> float:
        return seconds_of(lambda: scores["features"].append(_on_features(data.column("text"), labels, parts)))

    found = interleaved({"one fit": one_fit, "cross-validation": ours, "features": features}, asked.size(3, 1))
    return _fold_figures(found, scores, len(data))


def _fold_figures(found: Mapping[str, Series], scores: Mapping[str, Sequence[float]], rows: int) -> Figures:
    one = found["one fit"]
    header = [f"{rows:,} sentences, body frozen, {EPOCHS} epochs", "s", "times one fit of sftlib", "accuracy"]
    names = {
        "one fit": ("one fit of sftlib", "-"),
        "cross-validation": (f"{FOLDS}-fold cross-validation with sftlib", _percent(scores["sftlib"])),
        "features": (
            f"sentence-transformers features, logistic regression in {FOLDS} folds",
            _percent(scores["features"]),
        ),
    }
    lines = [
        [names[key][0], f"{series.median:.2f}", spread(series.ratio(one)), names[key][1]]
        for key, series in found.items()
    ]
    note = "sentence-transformers computes the features once for all folds, in fp32, as it does by itself."
    ratios = {names[key][0]: series.ratio(one) for key, series in found.items()}
    return Figures(header, lines, [note], ratios, {names[key][0]: series.seconds for key, series in found.items()})


def _percent(scores: Sequence[float]) -> str:
    return f"{np.mean(scores):.4f}"


def _rows(count: int) -> list[c.Row]:
    every = texts.movies()
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))[:count]]


def _tuner(seed: int) -> Any:
    return c.ours(epochs=EPOCHS, freeze="backbone", learning_rate=None, seed=seed)


def _validated(tuner: Any, data: TaskDataset, parts: Sequence[tuple[list[int], list[int]]]) -> float:
    """The mean accuracy over the folds."""
    return float(
        np.mean(
            [
                tuner.clone().fit(data.select(rest), progress=False).evaluate(data.select(held_out))["accuracy"]
                for rest, held_out in parts
            ]
        )
    )


def _on_features(chosen: Sequence[str], labels: Sequence[str], parts: Sequence[tuple[list[int], list[int]]]) -> float:
    """The mean accuracy over the folds of logistic regression."""
    x, y = features_of(chosen), np.array(labels)
    return float(
        np.mean(
            [
                LogisticRegression(max_iter=1000).fit(x[rest], y[rest]).score(x[held_out], y[held_out])
                for rest, held_out in parts
            ]
        )
    )


def features_of(chosen: Sequence[str]) -> np.ndarray[Any, Any]:
    """(rows, width) as sentence-transformers makes them: the mean of the last hidden states, of length 1."""
    model = SentenceTransformer(str(c.MODEL), device=_device())
    found: np.ndarray[Any, Any] = model.encode(list(chosen), normalize_embeddings=True, show_progress_bar=False)
    return found


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
