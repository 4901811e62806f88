"""15: it learns what is there to be learned, and nothing where there is nothing.

Ten rows of every task are learned by heart in `tests/contracts/test_tasks.py`; here stand one batch, and the controls.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sftlib import FineTuner, TaskDataset
from tests.contracts.cases import NAMES, case_of, same_weights, tuner_for, weights
from tests.trust.conftest import Figure

WORDS = ("film", "story", "music", "actor", "idea", "piece", "picture", "script", "drama", "work")
HELD_OUT = 200


def rows(count: int, *, seed: int, shuffled: bool = False) -> TaskDataset:
    """Texts whose class is one of two words somewhere in them."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=count)
    texts = []
    for label in labels:
        words = generator.choice(WORDS, size=int(generator.integers(2, 9))).tolist()
        words.insert(int(generator.integers(len(words) + 1)), ("dull", "warm")[label])
        texts.append(" ".join(words))
    shown = generator.permutation(labels) if shuffled else labels
    return TaskDataset({"text": texts, "label": [("bad", "good")[label] for label in shown]})


def learned(train: TaskDataset) -> FineTuner:
    options = {"learning_rate": 2e-3, "batch_size": 16, "epochs": 4, "dropout": 0.0}
    return tuner_for("text-classification", "distilbert", **options).fit(train, progress=False)


def test_15_one_batch_is_learned_by_heart(figure: Figure) -> None:
    data = rows(16, seed=0, shuffled=True)
    options = {"batch_size": 16, "max_steps": 200, "dropout": 0.0, "learning_rate": 3e-3}
    tuner = tuner_for("text-classification", "distilbert", **options).fit(data, progress=False)
    last = tuner.history.steps[-1]["loss"]
    figure("loss of one batch, first and last", f"{tuner.history.steps[0]['loss']:.2f}, {last:.4f}")
    assert tuner.evaluate(data)["accuracy"] == 1.0
    assert last < 0.01


def test_15_shuffled_labels_give_chance_on_rows_held_out(figure: Figure) -> None:
    held_out = rows(HELD_OUT, seed=1)
    true = learned(rows(200, seed=2)).evaluate(held_out)["accuracy"]
    chance = learned(rows(200, seed=2, shuffled=True)).evaluate(held_out)["accuracy"]
    figure("accuracy held out, labels true and shuffled", f"{true:.2f}, {chance:.2f}")
    assert true > 0.95
    assert abs(chance - 0.5) < 4 * 0.5 / HELD_OUT**0.5  # four standard deviations of a coin


@pytest.mark.parametrize("name", NAMES)
def test_15_a_rate_of_zero_changes_no_weight(name: str) -> None:
    before = weights(tuner_for(name, max_steps=1, learning_rate=0.0).fit(case_of(name).data(), progress=False))
    after = weights(tuner_for(name, max_steps=5, learning_rate=0.0).fit(case_of(name).data(), progress=False))
    moved = weights(tuner_for(name, max_steps=5).fit(case_of(name).data(), progress=False))
    assert same_weights(before, after)
    assert not same_weights(before, moved)


@pytest.mark.parametrize("name", NAMES)
def test_15_frozen_parameters_stay(name: str) -> None:
    still = tuner_for(name, max_steps=1, learning_rate=0.0).fit(case_of(name).data(), progress=False)
    start, lowest = weights(still), next(iter(dict(still.model.named_parameters())))
    tuner = tuner_for(name, freeze=[lowest], max_steps=5, weight_decay=0.5).fit(case_of(name).data(), progress=False)
    named = tuner.model.named_parameters(remove_duplicate=False)  # tied ones under every name, as `weights` has them
    trained = {key for key, p in named if p.requires_grad}
    moved = {key for key, value in weights(tuner).items() if not torch.equal(value, start[key])}
    assert moved
    assert moved <= trained
    assert lowest not in trained
