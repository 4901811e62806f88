"""Going on with a run that is over, for more epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftlib import EarlyStopping, FineTuner, TaskDataset
from sftlib.errors import CheckpointError
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
from tests.contracts.cases import same_weights, weights

DATA = TaskDataset({"text": list(SENTENCES), "label": ["a", "b"] * 8})
SAID = "goes on beyond its end, from 2 to 4 epochs"


def tuner(**options: Any) -> FineTuner:
    given = {"batch_size": 4, "learning_rate": 1e-3, "precision": "fp32", **options}
    return FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), **given)


def test_more_epochs_are_the_later_part_of_a_longer_schedule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tuner(epochs=2).fit(DATA, DATA, output_dir=tmp_path, progress=False)
    longer = tuner(epochs=4).fit(DATA, DATA, output_dir=tmp_path, resume=True)
    printed = "".join(capsys.readouterr())
    assert SAID in printed
    assert "resumes after step 8" in printed
    whole = tuner(epochs=4).fit(DATA, DATA, progress=False)
    rates = [record["learning_rate"] for record in longer.history.steps]
    assert rates[:8] == [record["learning_rate"] for record in short.history.steps]
    assert rates[8:] == [record["learning_rate"] for record in whole.history.steps][8:]
    assert len(longer.history.steps) == 16
    assert len(longer.history.evaluations) == 4
    assert longer.settings["epochs"] == 4

    again = tuner(epochs=4).fit(DATA, DATA, output_dir=tmp_path, resume=True, progress=False)
    assert same_weights(weights(again), weights(longer)), "a finished run gives its result"


def test_interrupted_while_it_goes_on_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    from sftlib import Callback

    class Stop(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            if training.step == 11:
                raise KeyboardInterrupt

    class Watch(Callback):
        pass

    Watch.__qualname__ = Stop.__qualname__  # callbacks of a run are known by their kind
    for place in ("one", "two"):
        tuner(epochs=2).fit(DATA, output_dir=tmp_path / place, callbacks=[Watch()], save_every=2, progress=False)
    whole = tuner(epochs=4).fit(
        DATA, output_dir=tmp_path / "one", callbacks=[Watch()], save_every=2, resume=True, progress=False
    )
    with pytest.raises(KeyboardInterrupt):
        tuner(epochs=4).fit(
            DATA, output_dir=tmp_path / "two", callbacks=[Stop()], save_every=2, resume=True, progress=False
        )
    again = tuner(epochs=4).fit(
        DATA, output_dir=tmp_path / "two", callbacks=[Watch()], save_every=2, resume=True, progress=False
    )
    assert same_weights(weights(again), weights(whole))
    assert again.history == whole.history


def test_steps_too_and_the_best_is_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"keep_best": "loss"}
    tuner(max_steps=3, **options).fit(DATA, DATA, output_dir=tmp_path, progress=False)
    found = tuner(max_steps=6, **options).fit(DATA, DATA, output_dir=tmp_path, resume=True, progress=False)
    assert found.history.steps[-1]["step"] == 6
    best = min(record["valid_loss"] for record in found.history.evaluations)
    assert found.evaluate(DATA)["loss"] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    ("begun", "now", "difference"),
    [
        ({"epochs": 2}, {"epochs": 1}, "epochs: 2 -> 1"),
        ({"epochs": 2}, {"epochs": 4, "batch_size": 8}, "batch_size: 4 -> 8"),
        ({"epochs": 2}, {"epochs": 2, "max_steps": 50}, "max_steps: null -> 50"),
        ({"max_steps": 4}, {"max_steps": 2}, "max_steps: 4 -> 2"),
    ],
)
def test_anything_else_is_another_run(
    begun: dict[str, Any], now: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    tuner(**begun).fit(DATA, output_dir=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=difference):
        tuner(**now).fit(DATA, output_dir=tmp_path, resume=True, progress=False)


def test_a_run_that_was_stopped_early_stays_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"early_stopping": EarlyStopping("loss", patience=1, min_delta=100.0)}
    first = tuner(epochs=5, **options).fit(DATA, DATA, output_dir=tmp_path, progress=False)
    second = tuner(epochs=9, **options).fit(DATA, DATA, output_dir=tmp_path, resume=True)
    assert second.history == first.history
    assert "loss has not improved" in "".join(capsys.readouterr())
