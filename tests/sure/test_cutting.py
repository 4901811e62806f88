"""`FineTuner.decide` with a metric: a threshold for each of several labels, worth what it says, and saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sftlib import FineTuner, TaskDataset
from sftlib.errors import DataError, NotFittedError, OptionError
from sftlib.sure.cutting import _of_the_other_half
from sftlib.tasks.multi_label import best_threshold
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

LABELS = ["none", "rare", "usual"]


def rows(count: int, seed: int) -> TaskDataset:
    """One label that half of the rows have, one that few have and that a word goes with, one that none has."""
    draw = np.random.default_rng(seed)
    labels = [[name for name, share in (("usual", 0.5), ("rare", 0.15)) if draw.random() < share] for _ in range(count)]
    texts = [f"{SENTENCES[i % 16]} {'film' if 'rare' in labels[i] else 'card'} {i + seed * 1000}" for i in range(count)]
    return TaskDataset({"text": texts, "labels": labels}, label_names=LABELS)


@pytest.fixture(scope="module")
def tuner() -> FineTuner:
    learner = FineTuner(
        tiny_model("bert", 3, 0.0), tokenizer=tiny_tokenizer(), max_steps=40, learning_rate=1e-3, precision="fp32"
    )
    return learner.fit(rows(96, 0), progress=False)


def test_thresholds_are_chosen_used_and_saved(tuner: FineTuner, tmp_path: Path) -> None:
    tuner.save(tmp_path / "before")
    plain, cut, valid = FineTuner.load(tmp_path / "before"), FineTuner.load(tmp_path / "before"), rows(120, 1)
    found = cut.decide(valid, metric="f1_macro")
    assert found.before == pytest.approx(plain.evaluate(valid)["f1_macro"], abs=1e-9)
    assert cut.evaluate(valid)["f1_macro"] >= found.before
    chances = np.array([list(answer.probabilities.values()) for answer in plain.predict(valid)])
    wanted = np.array([[name in given for name in LABELS] for given in valid.column("labels")])
    for place, name in enumerate(LABELS):
        assert found.thresholds[name] == best_threshold(chances[:, place], wanted[:, place])
        assert found.having[name] == wanted[:, place].sum()
    answers = [set(answer.labels) for answer in cut.predict(valid)]
    assert answers == [
        {n for n, p, c in zip(LABELS, row, found.thresholds.values(), strict=True) if p >= c} for row in chances
    ]
    cut.save(tmp_path / "after")
    assert [set(answer.labels) for answer in FineTuner.load(tmp_path / "after").predict(valid)] == answers
    assert json.loads(json.dumps(found.to_dict()))["metric"] == "f1_macro"
    assert "on rows that thresholds were not chosen on" in str(found)
    assert "<table" in found._repr_html_()


def test_what_it_is_worth_is_scored_on_the_other_half() -> None:
    """Where nothing can be known, thresholds that are scored on their own rows look better than they are."""
    draw = np.random.default_rng(0)
    gains = []
    for _ in range(20):
        chances, wanted = draw.random((60, 3)), draw.random((60, 3)) < 0.3
        own = np.stack([chances[:, k] >= best_threshold(chances[:, k], wanted[:, k]) for k in range(3)], axis=1)
        other = _of_the_other_half(chances, wanted)
        gains.append(f1_score(wanted, own, average="macro") - f1_score(wanted, other, average="macro"))
    assert np.mean(gains) > 0.02
    chances = np.repeat([[0.9, 0.1], [0.2, 0.8]], 30, axis=0)
    assert (_of_the_other_half(chances, chances > 0.5) == (chances > 0.5)).all()


def test_mistakes_are_told(tuner: FineTuner) -> None:
    with pytest.raises(OptionError, match="metric='f1_micro'.*f1_macro"):
        tuner.decide(rows(60, 1), metric="f1_micro")
    with pytest.raises(OptionError, match=r"decide\(valid, metric='f1_macro'\) chooses a threshold for each"):
        tuner.decide(rows(60, 1), accuracy=0.9)
    with pytest.raises(OptionError, match="accuracy=0.9 and metric= do not go together") as both:
        tuner.decide(rows(60, 1), metric="f1_macro", accuracy=0.9, confidence=0.8)  # type: ignore[call-overload]
    assert "confidence=0.8" in str(both.value)
    with pytest.raises(DataError, match="at least 50"):
        tuner.decide(rows(20, 1), metric="f1_macro")
    with pytest.raises(DataError, match="among those that the model learned from"):
        tuner.decide(rows(96, 0), metric="f1_macro")
    with pytest.raises(NotFittedError):
        FineTuner("bert").decide(rows(60, 1), metric="f1_macro")
    one = TaskDataset({"text": [f"{SENTENCES[i % 16]} {i}" for i in range(60)], "label": ["a", "b"] * 30})
    single = FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), max_steps=1).fit(one, progress=False)
    with pytest.raises(OptionError, match="thresholds of several labels a row; text-classification has none"):
        single.decide(one, metric="f1_macro")
