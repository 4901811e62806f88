"""Trust 1 to 3: a run that was interrupted and resumed is the run that was not, to the bit."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import Callback, FineTuner
from sftlib.testing import tiny_tokenizer
from sftlib.train.backward import Separate
from tests.contracts.cases import NAMES, case_of, tuner_for
from tests.trust.conftest import Figure
from tests.trust.runs import (
    EPOCH,
    STEPS,
    BreakAt,
    Interrupted,
    SignalAt,
    assert_same,
    contents,
    data,
    fit,
    newest_step,
    raising,
    result,
    undisturbed,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The last checkpoint of the run that nobody interrupted, file by file."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert_same(fit(folder, callbacks=[BreakAt(0)], save_every=1))
    return contents(folder / f"step-{STEPS:08}")


def test_01_resume_at_every_step(tmp_path: Path, saved: dict[str, bytes], figure: Figure) -> None:
    """The last checkpoints are compared byte for byte: weights, moments, callbacks, generators, history, rates."""
    for step in range(1, STEPS):
        folder = tmp_path / str(step)
        with raising(Interrupted):
            fit(folder, callbacks=[BreakAt(step + 1)], save_every=1)
        assert newest_step(folder) == step
        assert_same(fit(folder, callbacks=[BreakAt(0)], save_every=1, resume=True))
        assert contents(folder / f"step-{STEPS:08}") == saved
    figure("steps resumed at, bit-equal", f"{STEPS - 1} of {STEPS - 1}")


@pytest.mark.parametrize("name", NAMES)
def test_01_resume_of_every_task(name: str, tmp_path: Path) -> None:
    rows = case_of(name).data()

    def run(**saving: Any) -> FineTuner:
        options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "keep_best": "loss", "schedule": "cosine"}
        return tuner_for(name, **options).fit(rows[:24], rows[24:], progress=False, **saving)

    with raising(KeyboardInterrupt):
        run(output_dir=tmp_path / "run", callbacks=[SignalAt(4)])
    assert_same(run(output_dir=tmp_path / "run", callbacks=[SignalAt(0)], resume=True), result(run()))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_01_resume_in_other_precisions(precision: str, tmp_path: Path) -> None:
    """The loss scale of fp16 and its count of good steps stand in the last checkpoint, which is compared whole."""
    fit(tmp_path / "whole", callbacks=[BreakAt(0)], precision=precision)
    with raising(Interrupted):
        fit(tmp_path / "run", callbacks=[BreakAt(8)], save_every=7, precision=precision)
    fit(tmp_path / "run", callbacks=[BreakAt(0)], resume=True, precision=precision)
    last = f"step-{STEPS:08}"
    assert contents(tmp_path / "run" / last) == contents(tmp_path / "whole" / last)


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_01_resume_with_frozen_layers(freeze: str | int, tmp_path: Path) -> None:
    expected = result(fit(freeze=freeze))
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(3)], freeze=freeze)
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(0)], resume=True, freeze=freeze), expected)


def test_01_micro_batches_that_memory_halved_stay_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(attempts: list[int]) -> Any:
        def backward(self: Separate, batch: Any, step: int) -> Any:
            if step == 1 and not attempts:
                attempts.append(step)
                raise MemoryError
            return original(self, batch, step)

        return backward

    original = Separate._backward
    monkeypatch.setattr(Separate, "_backward", once([]))
    expected = result(fit())
    monkeypatch.setattr(Separate, "_backward", once([]))
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(3)])
    monkeypatch.setattr(Separate, "_backward", original)
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(0)], resume=True), expected)


def test_01_the_comparison_notices_other_seeds() -> None:
    """The control: equal to the bit is not what any two runs are."""
    with pytest.raises(AssertionError):
        assert_same(fit(seed=1))


class Noise(Callback):
    """Moves the weights at random after every step and every epoch, as a user's code may."""

    def __init__(self, source: str) -> None:
        self.source = source

    def on_fit_start(self, training: Any) -> None:
        self._draw()

    def on_step_end(self, training: Any, record: Any) -> None:
        with torch.no_grad():
            for weight in training.model.parameters():
                weight.mul_(1 + 1e-2 * self._draw())

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        self.on_step_end(training, {})

    def _draw(self) -> float:
        return {"python": random.gauss, "numpy": np.random.normal, "torch": lambda *_: float(torch.randn(()))}[
            self.source
        ](0.0, 1.0)


@pytest.mark.parametrize("source", ["python", "numpy", "torch"])
def test_02_callbacks_that_draw_at_random(source: str, tmp_path: Path) -> None:
    def start() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    start()
    expected = result(fit(callbacks=[Noise(source), BreakAt(0)]))
    for step in (1, EPOCH, STEPS - 1):
        folder = tmp_path / str(step)
        start()
        with raising(Interrupted):
            fit(folder, callbacks=[Noise(source), BreakAt(step + 1)], save_every=1)
        random.seed(99)
        np.random.seed(99)
        torch.manual_seed(99)
        assert_same(fit(folder, callbacks=[Noise(source), BreakAt(0)], save_every=1, resume=True), expected)


class DropsAtRandom(nn.Module):
    """A user's module that draws from torch's generator inside its own functions, and forgets tokens at random."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(512, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        kept = attention_mask.float()
        if self.training:
            kept = kept * (torch.rand(kept.shape) > 0.2)
        mean = (self.table(input_ids) * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True).clamp(min=1)
        return self.head(nn.functional.dropout(mean, 0.1, self.training))


def test_02_models_that_draw_at_random(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = DropsAtRandom()

    def run(**saving: Any) -> FineTuner:
        tuner = FineTuner(module, tokenizer=tiny_tokenizer(), epochs=2, batch_size=4, learning_rate=1e-2, device="cpu")
        return tuner.fit(*data(), progress=False, **saving)

    expected = result(run())
    with raising(KeyboardInterrupt):
        run(output_dir=tmp_path / "run", callbacks=[SignalAt(3)])
    assert_same(run(output_dir=tmp_path / "run", callbacks=[SignalAt(0)], resume=True), expected)


def test_03_resume_of_a_resume_of_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Figure) -> None:
    """Signals save the very step, so no step is done twice; each row is seen once per epoch over all four runs."""
    seen: list[int] = []
    original = Separate._backward

    def noted(self: Separate, batch: Any, step: int) -> Any:
        seen.extend(batch.rows.tolist())
        return original(self, batch, step)

    undisturbed()
    monkeypatch.setattr(Separate, "_backward", noted)
    for step in (2, EPOCH, STEPS - 1):  # in the middle, at the edge of an epoch, and just before the end
        with raising(KeyboardInterrupt):
            fit(tmp_path / "run", callbacks=[SignalAt(step)], resume=True)
        assert newest_step(tmp_path / "run") == step
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(0)], resume=True))
    rows = len(data()[0])
    assert sorted(seen[:rows]) == sorted(seen[rows:]) == list(range(rows))
    figure("resumes in a row", 3)


@pytest.mark.parametrize("event", ["on_step_end", "on_epoch_end"])
@pytest.mark.parametrize("step", [EPOCH, STEPS])
def test_03_at_an_epoch_edge_and_at_the_last_step(step: int, event: str, tmp_path: Path) -> None:
    """Saved before its evaluation, the resumed run begins with it; saved after, it does not repeat it."""
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(step, signal.SIGINT, event=event)])
    assert newest_step(tmp_path / "run") == step
    again = fit(tmp_path / "run", callbacks=[SignalAt(0)], resume=True)
    assert_same(again)
    assert [record["step"] for record in again.history.evaluations] == [EPOCH, STEPS]


def test_03_a_finished_run_returns_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed()
    fit(tmp_path / "run")
    before = {path.name: contents(path) for path in (tmp_path / "run").iterdir()}
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("a finished run was trained"))
    again = fit(tmp_path / "run", resume=True)
    assert_same(again)
    assert again.predict("A fine film.").label in ("bad", "good", "so-so")
    assert {path.name: contents(path) for path in (tmp_path / "run").iterdir()} == before


def test_03_early_stopping_resumes_with_its_patience(tmp_path: Path) -> None:
    from sftlib import EarlyStopping

    def run(**saving: Any) -> FineTuner:
        stopping = EarlyStopping("loss", patience=2, min_delta=10.0)  # only the first evaluation counts as better
        return fit(early_stopping=stopping, epochs=8, **saving)

    expected = run()
    assert len(expected.history.evaluations) == 3
    with raising(KeyboardInterrupt):
        run(output_dir=tmp_path / "run", callbacks=[SignalAt(2 * EPOCH + 1)])
    for _ in range(2):  # to its end, and once more when it has ended
        assert_same(run(output_dir=tmp_path / "run", callbacks=[SignalAt(0)], resume=True), result(expected))
