"""10: one, two and four processes give the same: each row once, loss, gradient, metrics and predictions within 1e-6."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner
from sftlib.train import wire
from sftlib.train.plan import ShuffledPlan
from tests.contracts.cases import NAMES, case_of, tuner_for
from tests.trust import spread
from tests.trust.conftest import Figure
from tests.trust.sandbox import ROOT

BOUND = 1e-6
COUNTS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a saved model for each task."""
    place = tmp_path_factory.mktemp("spread")
    for name in spread.TASKS:
        tuner = tuner_for(name, max_steps=8, learning_rate=1e-2, warmup=0).fit(case_of(name).data(), progress=False)
        tuner.save(place / name)
    return place


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(spread.everything(folder)))
    return found


@pytest.fixture(scope="module", params=COUNTS)
def many(request: pytest.FixtureRequest, folder: Path) -> list[dict[str, Any]]:
    """What each of several processes saw, and what they printed."""
    count = request.param
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*command, "-m", "tests.trust.spread", str(folder)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = [json.loads((folder / f"{count}-{rank}.json").read_text()) for rank in range(count)]
    found[0]["printed"] = ended.stdout + ended.stderr
    return found


def test_10_each_row_once(many: list[dict[str, Any]]) -> None:
    plan = ShuffledPlan(32, batch_size=13, seed=3)
    for name in spread.TASKS:
        parts = [process["trained"][name]["rows"] for process in many]
        for step in range(spread.OPTIONS["epochs"] * plan.steps_per_epoch):
            rows = sorted(row for part in parts for row in part[step])
            assert len(rows) >= len(plan.rows(step))  # more where a row of the data is several windows
            assert len(set(rows)) == len(rows)
            if name in ("text-classification", "text-regression"):
                assert rows == sorted(plan.rows(step).tolist())
    lonely = [process["lonely"]["rows"] for process in many]
    assert [sum(len(part[step]) if step < len(part) else 0 for part in lonely) for step in range(2)] == [3, 3]


def test_10_losses_and_gradients(alone: dict[str, Any], many: list[dict[str, Any]], figure: Figure) -> None:
    apart = []
    runs = [(alone["trained"][name], [process["trained"][name] for process in many]) for name in spread.TASKS]
    for one, parts in [*runs, (alone["lonely"], [process["lonely"] for process in many])]:
        for part in parts:
            gradients = np.array(one["gradient"]), np.array(part["gradient"])
            apart.append(np.linalg.norm(gradients[1] - gradients[0]) / np.linalg.norm(gradients[0]))
            apart.append(abs(part["losses"][0] - one["losses"][0]) / abs(one["losses"][0]))
            assert part["losses"] == pytest.approx(one["losses"], rel=1e-5)
            assert part["weights"] == parts[0]["weights"]  # of all processes, to the bit
            assert part["losses"] == parts[0]["losses"]
            assert part["valid"] == parts[0]["valid"]
    figure(f"first loss and gradient, {len(many)} processes", f"{max(apart):.1e}")
    assert max(apart) <= BOUND


def test_10_evaluation_and_prediction(alone: dict[str, Any], many: list[dict[str, Any]], figure: Figure) -> None:
    apart = [0.0]
    for name in spread.TASKS:
        one = alone["used"][name]
        for part in (process["used"][name] for process in many):
            assert part["metrics"].keys() == one["metrics"].keys()
            apart += [abs(part["metrics"][key] - x) / max(1.0, abs(x)) for key, x in one["metrics"].items()]
            for found, expected in zip(part["numbers"], one["numbers"], strict=True):
                apart += [abs(x - y) for x, y in zip(found, expected, strict=True)]
            assert part == many[0]["used"][name]
    figure(f"metrics and predictions, {len(many)} processes", f"{max(apart):.1e}")
    assert max(apart) <= BOUND


def test_10_a_run_resumes_to_the_bit(many: list[dict[str, Any]]) -> None:
    """It ended by an error of the last process; the first wrote its checkpoints."""
    for rank, process in enumerate(many):
        found = process["resumed"]
        failed = rank == len(many) - 1
        assert found["errors"][0].startswith("ValueError: no" if failed else "ProcessError: ")
        assert f"process {len(many) - 1} of {len(many)} ended with ValueError: no" in found["errors"][0] or failed
        assert found["weights"][0] == found["weights"][1] == many[0]["resumed"]["weights"][0]
        assert found["early"] == 2  # all end after the step after which one wanted to
        assert found["checkpoints"] == ["step-00000005", "step-00000006"]


def test_10_an_error_of_one_process_ends_all(many: list[dict[str, Any]]) -> None:
    own = ["CheckpointError: ", "DataError: ", "OptionError: ", "ArtifactError: "]
    others = ["ProcessError: process 0", "DataError: ", "OptionError: ", "ProcessError: process 0"]
    for rank, process in enumerate(many):
        for found, expected in zip(process["refused"], others if rank else own, strict=True):
            assert found.startswith(expected), process["refused"]


def test_10_the_first_process_alone_prints_and_saves(many: list[dict[str, Any]], folder: Path) -> None:
    assert many[0]["printed"].count("parameters trained") == 1
    assert FineTuner.load(folder / f"by {len(many)}").predict("A wonderful film.") is not None


def test_10_what_cannot_be_handed_over_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be handed"):
        wire.dump([object()])
    with pytest.raises(TypeError, match="cannot be handed"):
        wire.dump({"f": lambda: None})
    made = tuner_for(NAMES[0], max_steps=1).fit(case_of(NAMES[0]).data(), progress=False).predict(["a", "b c"])
    assert wire.load(wire.dump(made)) == made
    assert type(wire.load(wire.dump(np.float32(0.1)))) is np.float32


@pytest.mark.parametrize("value", [b"", bytes(range(256)), [b"a", (b"b", "b")], {b"key": {b"\xff"}}], ids=range(4))
def test_10_bytes_are_handed_over(value: object) -> None:
    assert wire.load(wire.dump(value)) == value


def test_10_predictions_of_every_task_are_handed_over(folder: Path) -> None:
    """Also of those that hold bytes, as embeddings do, and of the tasks that `spread.TASKS` leaves out."""
    for name in NAMES:
        data = case_of(name).data(4)
        saved = name in spread.TASKS
        tuner = FineTuner.load(folder / name) if saved else tuner_for(name, max_steps=1).fit(data, progress=False)
        made = tuner.predict(data)
        found = wire.load(wire.dump(made))
        assert [type(one) for one in found] == [type(one) for one in made], name
        assert repr(found) == repr(made), name
        assert [case_of(name).numbers(one) for one in found] == [case_of(name).numbers(one) for one in made], name
