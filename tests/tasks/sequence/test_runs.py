"""Runs over sequences that are interrupted, saved on their way, tuned again, or keep their best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import Callback, FineTuner, Sequence, TaskDataset
from sftlib.testing import tiny_model
from tests.contracts.cases import case_of

NAME = "sequence-regression"
RUN: dict[str, Any] = {"precision": "fp32", "device": "cpu", "batch_size": 8, "learning_rate": 1e-3}
DRAWN = Sequence(alphabet="dna", augment=["reverse_complement", "shift"])


def tuner(**options: Any) -> FineTuner:
    return FineTuner(tiny_model("bert", 2), **{**RUN, "inputs": DRAWN, "max_steps": 6, **options})


class Stop(Callback):
    """Ends a run as a power cut would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == self._step:
            raise RuntimeError("cut")


class SaveAt(Callback):
    """Saves a tuner in the middle of its run."""

    def __init__(self, folder: Path, owner: list[FineTuner]) -> None:
        self._folder = folder
        self._owner = owner

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == 3:
            self._owner[0].save(self._folder)


@pytest.mark.parametrize("name", [NAME, "multi-label-sequence-classification"])
def test_an_interrupted_run_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    data = case_of(name).data()
    whole = FineTuner(tiny_model("bert", case_of(name).outputs), inputs=DRAWN, **RUN, max_steps=6)
    never = [Stop(99)]
    whole.fit(data, output_dir=tmp_path / "whole", save_every=2, callbacks=never, progress=False)
    cut = whole.clone()
    with pytest.raises(RuntimeError, match="cut"):
        cut.fit(data, output_dir=tmp_path / "cut", save_every=2, callbacks=[Stop(5)], progress=False)
    again = whole.clone().fit(
        data, output_dir=tmp_path / "cut", resume=True, save_every=2, callbacks=never, progress=False
    )
    left, right = whole.model.state_dict(), again.model.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert again.predict(data) == whole.predict(data)


def test_a_folder_of_a_run_that_goes_on_is_plain(tmp_path: Path) -> None:
    owner = [tuner()]
    owner[0].fit(case_of(NAME).data(), callbacks=[SaveAt(tmp_path / "folder", owner)], progress=False)
    again = FineTuner.load(tmp_path / "folder")
    assert not any("parametrizations" in name for name in again.model.state_dict())
    assert len(again.predict(case_of(NAME).data())) == 32


def test_a_loaded_model_is_tuned_from_where_it_stood(tmp_path: Path) -> None:
    data = case_of(NAME).data()
    first = tuner(max_steps=40, inputs=Sequence(alphabet="dna")).fit(data, progress=False)
    first.save(tmp_path / "folder")
    again = FineTuner.load(tmp_path / "folder")
    again.set_params(max_steps=1, learning_rate=0.0).fit(data, progress=False)
    for before, after in zip(first.predict(data), again.predict(data), strict=True):
        assert after.values == pytest.approx(before.values, rel=1e-4, abs=1e-3)


def test_the_best_weights_come_back() -> None:
    data = case_of(NAME).data()
    found = tuner(max_steps=12, keep_best="rmse", learning_rate=3e-2).fit(data, data, progress=False)
    best = min(record["valid_rmse"] for record in found.history.evaluations)
    assert found.evaluate(data)["rmse"] == pytest.approx(best, rel=1e-6)


def test_targets_need_no_order() -> None:
    rows = case_of(NAME).columns
    turned = TaskDataset({**rows, "targets": [dict(reversed(row.items())) for row in rows["targets"]]}, task=NAME)
    found = tuner(max_steps=2).fit(case_of(NAME).data(), progress=False)
    assert dict(found.evaluate(turned)) == dict(found.evaluate(case_of(NAME).data()))
