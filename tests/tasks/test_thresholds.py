"""Thresholds of several labels: given, or chosen on validation rows, and saved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sftlib import FineTuner, MultiLabelClassification, TaskDataset
from sftlib.errors import OptionError
from sftlib.tasks.multi_label import best_threshold
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer


def rows(count: int = 48, seed: int = 0) -> TaskDataset:
    """One label that half of the rows have, one that few have, one that none has."""
    draw = np.random.default_rng(seed)
    labels = [[name for name, share in (("usual", 0.5), ("rare", 0.15)) if draw.random() < share] for _ in range(count)]
    texts = [f"{SENTENCES[i % 16]} {i}" for i in range(count)]
    return TaskDataset({"text": texts, "labels": labels}, label_names=["none", "rare", "usual"])


def tuner(**options: Any) -> FineTuner:
    task = MultiLabelClassification(**options)
    return FineTuner(tiny_model("bert", 3), tokenizer=tiny_tokenizer(), task=task, epochs=2, precision="fp32")


def test_the_best_threshold_is_that_of_a_search_over_all() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        chances = draw.random(30).round(1 + int(draw.integers(3)))
        wanted = draw.random(30) < draw.random()
        found = best_threshold(chances, wanted)
        best = max(f1_score(wanted, chances >= cut, zero_division=0) for cut in [*np.unique(chances), 1.1])
        assert f1_score(wanted, chances >= found, zero_division=0) == pytest.approx(best) or not wanted.any()
    assert best_threshold(np.array([0.9, 0.1]), np.array([False, False])) == 0.5


def test_chosen_on_valid_saved_and_better_there(tmp_path: Path) -> None:
    train, valid = rows(), rows(40, seed=1)
    plain = tuner().fit(train, valid, progress=False)
    chosen = tuner(thresholds="valid").fit(train, valid, progress=False)
    assert plain.history == chosen.history, "training is the same"
    before, after = plain.evaluate(valid), chosen.evaluate(valid)
    assert after["f1_macro"] > before["f1_macro"]
    predictions = chosen.predict(valid)
    chances = np.array([list(p.probabilities.values()) for p in predictions])
    wanted = np.array([[name in labels for name in chosen.label_names or ()] for labels in valid.column("labels")])
    for place, name in enumerate(chosen.label_names or ()):
        best = max(
            f1_score(wanted[:, place], chances[:, place] >= cut, zero_division=0)
            for cut in np.unique(chances[:, place])
        )
        assert after.per_class()[name]["f1"] == pytest.approx(best)
    chosen.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert [p.labels for p in again.predict(valid)] == [p.labels for p in predictions]
    assert dict(again.evaluate(valid)) == dict(after)


@pytest.mark.parametrize(
    ("given", "cuts"), [(0.3, (0.3,) * 3), ({"rare": 0.1}, (0.5, 0.1, 0.5)), ({"rare": 0, "usual": 1}, (0.5, 0.0, 1.0))]
)
def test_given_by_hand(given: Any, cuts: tuple[float, ...]) -> None:
    data = rows()
    found = tuner(thresholds=given).fit(data, progress=False)
    for prediction in found.predict(data):
        expected = tuple(
            name for (name, chance), cut in zip(prediction.probabilities.items(), cuts, strict=True) if chance >= cut
        )
        assert prediction.labels == expected


@pytest.mark.parametrize("given", [1.5, -0.1, "best", {"rare": "x"}, {"rare": 2.0}, [0.5], True])
def test_what_is_none_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="thresholds"):
        MultiLabelClassification(thresholds=given)


def test_a_label_that_is_not_there() -> None:
    with pytest.raises(OptionError, match=r"'rar'.*did you mean 'rare'"):
        tuner(thresholds={"rar": 0.2}).fit(rows(), progress=False)


def test_without_validation_rows_it_is_said(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tuner(thresholds="valid").fit(rows())
    assert "there are no validation rows to choose them on" in "".join(capsys.readouterr())
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        tuner(thresholds="valid").fit(rows(), progress=False)
    assert "there are no validation rows" in caplog.text


def test_they_are_options_for_searches() -> None:
    found = tuner().set_params(task__thresholds=0.4).get_params()
    assert found["task__thresholds"] == 0.4
    task = MultiLabelClassification(thresholds={"a": 0.2}).learned_from(
        TaskDataset({"text": ["x", "y"], "labels": [["a"], ["b"]]})
    )
    assert MultiLabelClassification.from_config(task.config()) == task
