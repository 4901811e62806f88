"""33: trust 1, 9, 11, 12, 16, 17, 19 and 23 once more, on the processor and on a card; dropout is on.

Masks are the same numbers on every device, so a card is also compared with the processor: sums of fp32 in another order
are all that is left.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.errors import NonFiniteError
from sftlib.train.forward import Forward
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights
from tests.gpu.conftest import CARD, ON_A_CARD
from tests.trust.sandbox import ROOT
from tests.trust.test_layouts import BOUND, ROWS, laid_out, sums, whole_apart, worst
from tests.versions import requires_flat

#: One of each kind of input and of loss: rows, tokens, coupled rows, pictures, sounds, letters, two stacks.
TASKS = [
    ("text-classification", "bert"),
    ("token-classification", "distilbert"),
    ("causal-lm", "llama"),
    ("seq2seq", None),
    ("text-embedding", "bert"),
    ("image-classification", None),
    ("audio-classification", None),
    ("sequence-regression", "bert"),
]
BETWEEN_DEVICES = 1e-5  # kernels of two devices add up in different orders, layer upon layer
OPTIONS: dict[str, Any] = {"max_steps": 6, "batch_size": 8, "seed": 3}


@pytest.mark.parametrize(("name", "family"), TASKS, ids=[name for name, _ in TASKS])
def test_33_cutting(name: str, family: str, device: str) -> None:
    family = family or case_of(name).families[0]
    whole = sums(name, family, ROWS, device=device)
    for cut in (1, 16):
        assert whole_apart(whole, sums(name, family, cut, device=device)) <= BOUND


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama"])
def test_33_rows_end_to_end_against_padded(family: str, device: str) -> None:
    requires_flat(family)
    name = "causal-lm" if family in ("gpt2", "llama") else "text-classification"
    flat = sums(name, family, 8, padding_free=True, device=device)
    padded = sums(name, family, 8, padding_free=False, device=device)
    assert flat.layout != padded.layout
    assert worst(flat, padded) <= BOUND


@pytest.mark.parametrize(("name", "family"), TASKS, ids=[name for name, _ in TASKS])
def test_33_as_on_the_processor(name: str, family: str, device: str) -> None:
    family = family or case_of(name).families[0]
    here, there = sums(name, family, 8, device="cpu"), sums(name, family, 8, device=device)
    apart = {key: value.cpu() for key, value in there.gradients.items()}
    assert whole_apart(here, there._replace(gradients=apart)) <= BETWEEN_DEVICES


@pytest.mark.parametrize(("name", "family"), TASKS[:4], ids=[name for name, _ in TASKS[:4]])
def test_33_evaluation(name: str, family: str, device: str) -> None:
    """Against batch size, order and layout."""
    case = case_of(name)
    tuner = tuner_for(name, family, device=device, max_steps=4, learning_rate=1e-2, warmup=0)
    data = case.data(16)
    tuner.fit(data, progress=False)
    order = np.random.default_rng(3).permutation(16).tolist()
    metrics = dict(tuner.evaluate(data, batch_size=1))
    numbers = [case.numbers(one) for one in tuner.predict(data, batch_size=1)]
    for padding_free in (True, False):
        other = laid_out(tuner, padding_free=padding_free, padding_side="right")
        found = dict(other.evaluate(data.select(order), batch_size=5))
        assert max(abs(found[key] - value) / max(1.0, abs(value)) for key, value in metrics.items()) <= BOUND
        predicted = [case.numbers(one) for one in other.predict(data.select(order), batch_size=64)]
        for one, row in zip(predicted, order, strict=True):
            assert one == pytest.approx(numbers[row], abs=BOUND)


class Stop(Exception):  # noqa: N818
    """Ends a run in its middle."""


class StopAt(Callback):
    """Raises before a step is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        if training.step == self.step:
            raise Stop


def fitted(
    device: str, folder: Path | None = None, *, stop: int = 0, resume: bool = False, **options: Any
) -> FineTuner:
    tuner = tuner_for("text-classification", "bert", device=device, **{**OPTIONS, **options})
    saving = {} if folder is None else {"output_dir": folder, "save_every": 1, "resume": resume}
    data = case_of("text-classification").data()
    return tuner.fit(data[:24], data[24:], progress=False, callbacks=[StopAt(stop)], **saving)


def test_33_resume_and_repetition_to_the_bit(device: str, tmp_path: Path) -> None:
    whole = fitted(device)
    assert same_weights(weights(fitted(device)), weights(whole)), "a second run gives other weights"
    with pytest.raises(Stop):
        fitted(device, tmp_path, stop=4)
    again = fitted(device, tmp_path, resume=True)
    assert same_weights(weights(again), weights(whole))
    assert losses(again) == losses(whole)


def test_33_a_run_goes_on_elsewhere(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a device to the processor and back: the same steps as far as rounding goes, and it is said."""
    whole = fitted("cpu")
    for first, second in ((device, "cpu:0"), ("cpu:0", device)):
        folder = tmp_path / first.replace(":", "")
        with pytest.raises(Stop):
            fitted(first, folder, stop=4)
        tuner = tuner_for("text-classification", "bert", device=second, **OPTIONS)
        data = case_of("text-classification").data()
        tuner.fit(data[:24], data[24:], output_dir=folder, save_every=1, resume=True, callbacks=[StopAt(0)])
        assert losses(tuner) == pytest.approx(losses(whole), rel=1e-4)
        assert f"begun on {first} and goes on on {second}" in capsys.readouterr().out
        assert str(next(tuner.model.parameters()).device.type) == second.partition(":")[0]


def test_33_a_saved_model_answers_the_same_without_a_card(device: str, tmp_path: Path) -> None:
    tuner = fitted(device)
    tuner.save(tmp_path / "model")
    texts = [f"film number {i} " + "good " * i for i in range(9)]
    expected = [one.probability for one in tuner.predict(texts)]
    loaded = FineTuner.load(tmp_path / "model")
    assert [one.probability for one in loaded.predict(texts)] == pytest.approx(expected, abs=BETWEEN_DEVICES)
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _ELSEWHERE, str(tmp_path / "model"), json.dumps(texts)]
    found = subprocess.run(command, env=hidden, capture_output=True, text=True, timeout=300, check=True).stdout
    assert json.loads(found.splitlines()[-1]) == pytest.approx(expected, abs=BETWEEN_DEVICES)


_ELSEWHERE = """
import json, sys
from sftlib import FineTuner

found = FineTuner.load(sys.argv[1]).predict(json.loads(sys.argv[2]))
print(json.dumps([one.probability for one in found]))
"""


def test_33_observers_change_nothing(device: str, tmp_path: Path) -> None:
    seen = fitted(device, tmp_path)
    alone = tuner_for("text-classification", "bert", device=device, **OPTIONS)
    alone.fit(case_of("text-classification").data()[:24], progress=False)
    assert same_weights(weights(seen), weights(alone))


def test_33_nothing_that_is_not_finite_reaches_the_weights(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[Any] = []

    def poisoned(self: Forward, batch: Any, *, step: int) -> Any:
        outputs = original(self, batch, step=step)
        if step < 2:
            return outputs
        before[:] = [value.detach().clone() for value in self.model.state_dict().values()]
        outputs.logits = outputs.logits * math.nan
        return outputs

    original = Forward.train
    monkeypatch.setattr(Forward, "train", poisoned)
    tuner = tuner_for("text-classification", "bert", device=device, **OPTIONS)
    with pytest.raises(NonFiniteError, match="step 3: loss nan"):
        tuner.fit(case_of("text-classification").data(), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, tuner.model.state_dict().values(), strict=True))


def test_33_memory_that_runs_out_halves_and_repeats(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error that the allocator of a card raises, after a part of the batch has its gradient."""

    def run(most: int) -> FineTuner:
        def train(self: Forward, batch: Any, *, step: int) -> Any:
            calls.append(step)
            if step >= 2 and calls.count(step) % 2 == 0 and len(batch.cost) > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return original(self, batch, step=step)

        calls: list[int] = []
        monkeypatch.setattr(Forward, "train", train)
        tuner = tuner_for("text-classification", "bert", device=device, micro_batch_size=4, **OPTIONS)
        return tuner.fit(case_of("text-classification").data(), progress=False)

    original = Forward.train
    clean, hungry = run(4), run(1)
    assert losses(hungry) == pytest.approx(losses(clean), rel=BOUND)


@pytest.fixture
def little_memory() -> Iterator[int]:
    """A card of which this process may take a part only, in bytes."""
    most = 3 * 2**30
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield most
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@ON_A_CARD
def test_33_memory_that_really_runs_out(little_memory: int) -> None:
    """A batch whose activations take more than there is, against one that was cut beforehand."""
    from tests.gpu.models import TEXTS, sized

    assert CARD
    rows = {"text": TEXTS[:64], "label": [str(i % 2) for i in range(64)]}
    found = []
    for micro in (64, 8):
        model, tokenizer = sized("bert", layers=6, width=512)
        tuner = FineTuner(
            model,
            tokenizer=tokenizer,
            device="cuda",
            precision="fp32",
            batch_size=64,
            micro_batch_size=micro,
            max_steps=3,
        )
        found.append(losses(tuner.fit(TaskDataset(rows), progress=False)))
    assert found[0] == pytest.approx(found[1], rel=BETWEEN_DEVICES)
    assert torch.cuda.max_memory_allocated() <= little_memory
