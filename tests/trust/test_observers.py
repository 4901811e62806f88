"""Trust 16 and 17: who watches a run changes nothing, and the same seed is the same run in any process."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import Callback, FineTuner
from tests.trust.conftest import Figure
from tests.trust.runs import Weights, data, result, tuner

ROOT = Path(__file__).parent.parent.parent


class Observer(Callback):
    """Looks at everything, predicts, draws from every generator, and leaves the model in evaluation mode."""

    def on_step_end(self, training: Any, record: Any) -> None:
        random.random()
        np.random.random()
        torch.rand(3)
        training.model.eval()
        sum(float(weight.detach().sum()) for weight in training.model.parameters())

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        self.on_step_end(training, {})

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": torch.rand(2)}


def run(
    *, evaluating: bool, saving: Path | None, progress: bool, observed: bool, metrics: bool = False
) -> tuple[Weights, list[Any]]:
    train, valid = data()
    tuned = tuner(early_stopping=None, metrics=["mcc", "roc_auc"] if metrics else None)
    tuned.fit(
        train,
        valid if evaluating else None,
        callbacks=[Observer()] if observed else [],
        output_dir=saving,
        save_every=None if saving is None else 1,
        progress=progress,
    )
    weights, _ = result(tuned)
    return weights, tuned.history.steps


def test_16_observers_change_nothing(tmp_path: Path, figure: Figure) -> None:
    weights, steps = run(evaluating=False, saving=None, progress=False, observed=False)
    cases = list(itertools.product((False, True), repeat=4))[1:]
    for number, (evaluating, saving, progress, observed) in enumerate(cases):
        found, records = run(
            evaluating=evaluating,
            saving=tmp_path / str(number) if saving else None,
            progress=progress,
            observed=observed,
            metrics=number % 2 == 0,
        )
        assert records == steps
        assert all(torch.equal(found[name], weights[name]) for name in weights)
    figure("combinations of evaluating, saving, progress and callbacks, bit-equal", f"{len(cases)} of {len(cases)}")


def test_16_a_callback_that_interferes_is_noticed() -> None:
    """The control: the comparison sees a change of one bit of one weight in one step."""

    class Nudge(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            if training.step == 2:
                with torch.no_grad():
                    weight = next(training.model.parameters())
                    weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))

    weights, _ = run(evaluating=False, saving=None, progress=False, observed=False)
    nudged = tuner(early_stopping=None).fit(data()[0], callbacks=[Nudge()], progress=False)
    found, _ = result(nudged)
    assert not all(torch.equal(found[name], weights[name]) for name in weights)


def digest(tuned: FineTuner) -> str:
    """Of weights and history."""
    weights, history = result(tuned)
    found = hashlib.sha256(json.dumps(history).encode())
    for name in sorted(weights):
        found.update(weights[name].numpy().tobytes())
    return found.hexdigest()


def test_17_fresh_processes_with_other_hash_seeds(tmp_path: Path, figure: Figure) -> None:
    """Weights and history, and the tensors of the last checkpoint byte for byte."""
    script = (
        "import pathlib, sys; from tests.trust.runs import fit; from tests.trust.test_observers import digest\n"
        "print(digest(fit(pathlib.Path(sys.argv[1]), save_every=5)))"
    )
    said = []
    for seed in ("0", "4321"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", script, str(tmp_path / seed)]
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        said.append(process.stdout.strip())
    from tests.trust.runs import contents, fit

    if torch.get_num_threads() == 1:
        said.append(digest(fit()))
    assert len(set(said)) == 1
    last = [contents(tmp_path / seed / "step-00000010") for seed in ("0", "4321")]
    for name in ("model.safetensors", "optimizer.safetensors", "callbacks.safetensors"):
        assert last[0][name] == last[1][name]
    figure("processes with the same bits", len(said))


@pytest.mark.parametrize("seed", [0, 7])
def test_17_the_generators_of_the_process_do_not_matter(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    from tests.trust.runs import assert_same, fit

    assert_same(fit())
