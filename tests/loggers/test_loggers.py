"""Loggers: a run is the same with them, whatever happens to them, and its curve has each point once."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.errors import MissingExtraError, OptionError
from sftlib.loggers import Aim, JsonLines, Logger, MLflow, TensorBoard, Trackio, WandB
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

ROWS = TaskDataset({"text": list(SENTENCES), "label": ["a", "b"] * 8})


def tuner() -> FineTuner:
    return FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), epochs=2, batch_size=4)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Recorder(Logger):
    """Remembers what it was told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[Any] = []

    def open(self, run: str | None, last: int) -> str:
        self.calls.append(("open", run, last))
        return "run-1"

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        self.calls.append((step, sorted(values)))

    def close(self) -> None:
        self.calls.append("close")


class Failing(Recorder):
    """A tracker whose server is gone."""

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        raise ConnectionError("no route to host")


def test_every_step_and_every_evaluation_is_told_once() -> None:
    logger = Recorder()
    tuner().fit(ROWS, ROWS, callbacks=[logger], progress=False)
    assert logger.calls[0] == ("open", None, 0)
    assert logger.calls[-1] == "close"
    steps = [call[0] for call in logger.calls[1:-1] if "train/loss" in call[1]]
    assert steps == list(range(1, 9))
    evaluations = [call for call in logger.calls[1:-1] if "epoch" in call[1]]
    assert [call[0] for call in evaluations] == [4, 8]
    assert {"valid/loss", "valid/accuracy"} <= set(evaluations[0][1])
    rare = Recorder(every=4)
    tuner().fit(ROWS, callbacks=[rare], progress=False)
    assert [call[0] for call in rare.calls[1:-1] if "train/loss" in call[1]] == [4, 8]


def test_a_run_is_the_same_with_them_and_when_they_fail(caplog: pytest.LogCaptureFixture) -> None:
    plain = tuner().fit(ROWS, progress=False)
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        watched = tuner().fit(ROWS, callbacks=[Recorder(), Failing()], progress=False)
    assert plain.history == watched.history
    pairs = zip(plain.model.state_dict().values(), watched.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    (told,) = [record for record in caplog.records if "Failing" in record.getMessage()]
    assert "no route to host" in told.getMessage()
    assert "goes on" in told.getMessage()


class _Killed(Callback):
    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == 6:
            raise KeyboardInterrupt


def test_a_resumed_run_goes_on_in_the_same_curve(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    tuner().fit(ROWS, ROWS, callbacks=[JsonLines(whole)], progress=False)
    with pytest.raises(KeyboardInterrupt):
        tuner().fit(
            ROWS, ROWS, callbacks=[JsonLines(cut), _Killed()], output_dir=tmp_path / "run", save_every=4, progress=False
        )
    assert [line["step"] for line in lines(cut)][-1] == 6  # told, and after the last checkpoint
    again = type("_Killed", (Callback,), {})()
    tuner().fit(
        ROWS,
        ROWS,
        callbacks=[JsonLines(cut), again],
        output_dir=tmp_path / "run",
        save_every=4,
        resume=True,
        progress=False,
    )
    assert lines(cut) == lines(whole)


def test_another_run_begins_anew(tmp_path: Path) -> None:
    logger = JsonLines(tmp_path / "runs" / "run.jsonl", config={"epochs": 2, "api_key": "sk-abc", "model": object()})
    mine = tuner()
    for _ in range(2):
        mine.fit(ROWS, callbacks=[logger], progress=False)
    found = lines(tmp_path / "runs" / "run.jsonl")
    assert len([line for line in found if "train/loss" in line]) == 8
    assert found[0]["config"]["epochs"] == 2
    assert found[0]["config"]["api_key"] == "[redacted]"


def test_an_unfinished_line_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1, "train/loss": 1.0}\n{"step": 2, "tra', encoding="utf-8")
    JsonLines(path).open("run", 2)
    assert lines(path) == [{"step": 1, "train/loss": 1.0}]


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (lambda: TensorBoard("runs"), "tensorboard"),
        (lambda: MLflow(), "mlflow"),
        (lambda: WandB(), "wandb"),
        (lambda: Trackio(), "trackio"),
        (lambda: Aim(), "aim"),
    ],
)
def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, make: Any, package: str) -> None:
    for name in (package, f"{package}.tracking", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=f"pip install 'sftlib\\[{package}\\]'"):
        make()


def test_a_path_that_is_none() -> None:
    with pytest.raises(OptionError, match="path=3"):
        JsonLines(3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="did you mean 'every'"):
        JsonLines("run.jsonl", evry=2)  # type: ignore[call-arg]


class Fake(ModuleType):
    """A tracker's package, which remembers its calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[Any] = []


def test_weights_and_biases_never_asks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake("wandb")

    def init(**options: Any) -> Any:
        fake.calls.append(options)
        return SimpleNamespace(
            id=options["id"],
            step=0,
            log=lambda values, step: fake.calls.append((step, values)),
            finish=lambda: fake.calls.append("finish"),
        )

    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", "nowhere")
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        logger = WandB("films", config={"epochs": 2})
    assert "writes offline" in caplog.text
    assert fake.calls == []  # nothing before the run
    tuner().fit(ROWS, callbacks=[logger], progress=False)
    assert fake.calls[0]["mode"] == "offline"
    assert fake.calls[0]["config"] == {"epochs": 2}
    assert fake.calls[-1] == "finish"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tuner().fit(ROWS, callbacks=[WandB()], progress=False)
    assert [call["mode"] for call in fake.calls if isinstance(call, dict)] == ["offline", "online"]


def test_mlflow_gets_each_point_once(monkeypatch: pytest.MonkeyPatch) -> None:
    points: dict[str, list[Any]] = {}

    class Client:
        def __init__(self, tracking_uri: str | None = None) -> None:
            self.calls: list[Any] = []

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str) -> str:
            return "7"

        def create_run(self, experiment: str, run_name: str | None) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

        def log_param(self, run: str, name: str, value: str) -> None:
            points.setdefault(f"param {name}", []).append(value)

        def log_metric(self, run: str, name: str, value: float, step: int) -> None:
            points.setdefault(name, []).append(SimpleNamespace(step=step))

        def get_run(self, run: str) -> Any:
            return SimpleNamespace(
                data=SimpleNamespace(metrics={name: 0.0 for name in points if not name.startswith("param")})
            )

        def get_metric_history(self, run: str, name: str) -> Any:
            return points[name]

        def set_terminated(self, run: str) -> None:
            points["ended"] = []

    fake, tracking = Fake("mlflow"), Fake("mlflow.tracking")
    tracking.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    tuner().fit(ROWS, callbacks=[MLflow("films", config={"epochs": 2})], progress=False)
    assert [point.step for point in points["train/loss"]] == list(range(1, 9))
    assert points["param epochs"] == ["2"]
    again = MLflow("films")
    points.pop("ended")
    assert again.open("abc", 4) == "abc"  # as a resumed run does
    again.write({"train/loss": 1.0}, step=6)
    again.write({"train/loss": 1.0}, step=9)
    assert [point.step for point in points["train/loss"]] == list(range(1, 10))


def test_trackio_is_not_told_again_what_a_killed_run_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake("trackio")

    def init(**options: Any) -> Any:
        fake.calls.append(options)
        told = [call[0] for call in fake.calls if isinstance(call, tuple)]
        return SimpleNamespace(_next_step=max(told, default=-1) + 1)

    fake.init = init  # type: ignore[attr-defined]
    fake.log = lambda values, step: fake.calls.append((step, values))  # type: ignore[attr-defined]
    fake.finish = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    tuner().fit(ROWS, callbacks=[Trackio("films", name="one")], progress=False)
    again = Trackio("films")
    assert again.open("one", 4) == "one"  # as a resumed run does, after a checkpoint at step 4
    for step in (5, 6, 7, 8, 9):
        again.write({"train/loss": 1.0}, step=step)
    steps = [call[0] for call in fake.calls if isinstance(call, tuple) and "train/loss" in call[1]]
    assert steps == [*range(1, 9), 8, 9]  # the last step again: the run may have ended within it
    assert again.open("another", 0) == "another"
