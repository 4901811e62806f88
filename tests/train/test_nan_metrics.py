"""A metric that is no number is told, and decides nothing."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

from sftlib import EarlyStopping, FineTuner, TaskDataset
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
from sftlib.train.callbacks import KeepBest
from sftlib.train.history import History
from sftlib.train.state import Training

SAID = "is nan on the validation rows after step"


def training(values: list[float], metric: str = "pearson") -> Training:
    model: Any = tiny_model("bert")
    history = History()
    for step, value in enumerate(values, 1):
        history.add_evaluation({"step": step, "epoch": step, f"valid_{metric}": value})
    return Training(model, history, steps=len(values), steps_per_epoch=1)


@pytest.mark.parametrize(
    ("values", "stopped_after", "best"),
    [
        ([0.5, math.nan, math.nan, math.nan, 0.6], None, 0.6),
        ([math.nan] * 5, None, None),
        ([0.5, math.nan, 0.4, math.nan, 0.3], 5, 0.5),
        ([math.nan, 0.5, 0.4, 0.3, math.nan], 4, 0.5),
    ],
)
def test_an_evaluation_without_a_number_is_passed_over(
    values: list[float], stopped_after: int | None, best: float | None
) -> None:
    run, stopping, keeping = training(values), EarlyStopping("pearson", patience=2), KeepBest("pearson")
    stopping.on_fit_start(run)
    for value in values:
        run.step += 1
        for watcher in (stopping, keeping):
            watcher.on_epoch_end(run, {"pearson": value})
        if run.stop_reason:
            break
    keeping.on_fit_end(run)
    assert (run.step if run.stop_reason else None) == stopped_after
    assert stopping.best == keeping.best == best
    told = [line for line in run.told if SAID in line]
    assert len(told) == sum(math.isnan(value) for value in values[: run.step])
    assert any("was never a number" in line for line in run.told) == (best is None)


def one_label_only(rows: int = 8) -> tuple[TaskDataset, TaskDataset]:
    train = TaskDataset({"text": list(SENTENCES), "label": ["a", "b"] * 8})
    return train, train.select([2 * i for i in range(rows)])  # no ranking of one label


def same_targets() -> tuple[TaskDataset, TaskDataset]:
    train = TaskDataset({"text": list(SENTENCES), "target": [float(i) for i in range(16)]})
    valid = TaskDataset({"text": list(SENTENCES[:4]), "target": [1.0] * 4})  # no correlation with a constant
    return train, valid


@pytest.mark.parametrize(("data", "metric"), [(one_label_only, "roc_auc"), (same_targets, "pearson")])
def test_a_run_says_it(
    data: Any, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    train, valid = data()
    outputs = 2 if metric == "roc_auc" else 1
    options: dict[str, Any] = {"epochs": 4, "early_stopping": EarlyStopping(metric, patience=1), "precision": "fp32"}
    tuner = FineTuner(tiny_model("bert", outputs), tokenizer=tiny_tokenizer(), **options).fit(train, valid)
    printed = "".join(capsys.readouterr())
    assert printed.count(f"{metric} {SAID}") == 4
    assert "was never a number, so the weights are those of the last step" in printed
    assert len(tuner.history.evaluations) == 4, "it did not stop"
    tuner.save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").predict("a film") == tuner.predict("a film")
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        again = FineTuner(tiny_model("bert", outputs), tokenizer=tiny_tokenizer(), **options)
        again.fit(train, valid, output_dir=tmp_path / "run", progress=False)
    assert f"{metric} {SAID}" in caplog.text
    assert not "".join(capsys.readouterr())
    resumed = FineTuner(tiny_model("bert", outputs), tokenizer=tiny_tokenizer(), **options)
    resumed.fit(train, valid, output_dir=tmp_path / "run", resume=True, progress=False)
    assert str(resumed.history.to_dict()) == str(again.history.to_dict())
