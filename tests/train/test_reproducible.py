"""The same run twice is the same run; who watches it changes nothing; what belongs to the user stays as it was."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sftlib import Callback, EarlyStopping, FineTuner, TaskDataset
from sftlib.models.units import plain_weights
from sftlib.testing import tiny_model, tiny_tokenizer
from sftlib.train.state import Training
from tests.contracts.cases import NAMES, case_of, having, losses, same_weights, texts, tuner_for, weights

NAME = "text-classification"
ROOT = Path(__file__).parent.parent.parent


def fitted(name: str = NAME, *, family: str | None = None, **options: Any) -> FineTuner:
    return tuner_for(name, family, **{"epochs": 2, "batch_size": 8, **options}).fit(
        case_of(name).data(), progress=False
    )


@pytest.mark.parametrize(("name", "family"), having(("bert", "modernbert", "gpt2")))
def test_the_same_run_twice(name: str, family: str) -> None:
    first, second = fitted(name, family=family), fitted(name, family=family)
    assert first.history == second.history
    assert same_weights(weights(first), weights(second))
    assert first.predict(case_of(name).data()) == second.predict(case_of(name).data())


def test_another_seed_is_another_run() -> None:
    runs = [fitted(seed=seed) for seed in (0, 1, 2)]
    assert len({tuple(losses(run)) for run in runs}) == 3
    without_dropout = [fitted(seed=seed, dropout=0.0) for seed in (0, 1)]
    assert losses(without_dropout[0]) != losses(without_dropout[1])  # the order of rows


@pytest.mark.parametrize("seed", [0, 1, 20_260_101, 2**31, 2**32 - 1, 2**63])
def test_any_seed_will_do(seed: int) -> None:
    assert len(losses(fitted(seed=seed, max_steps=1))) == 1


def test_a_second_fit_starts_from_the_original_weights() -> None:
    data = case_of(NAME).data()
    tuner = tuner_for(NAME, max_steps=4)
    first = weights(tuner.fit(data, progress=False))
    steps = losses(tuner)
    tuner.fit(data.select(range(12)), progress=False)
    assert losses(tuner) != steps
    again = weights(tuner.fit(data, progress=False))
    assert losses(tuner) == steps
    assert same_weights(first, again)


def test_a_folder_and_its_object_train_alike(folder_of: Callable[..., str]) -> None:
    options: dict[str, Any] = {"max_steps": 4, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu"}
    data = case_of(NAME).data()
    from_folder = FineTuner(folder_of("bert", 3), **options).fit(data, progress=False)
    from_object = FineTuner(tiny_model("bert", 3), tokenizer=tiny_tokenizer(), **options).fit(data, progress=False)
    assert losses(from_folder) == losses(from_object)


def test_a_new_head_is_drawn_from_the_seed_alone() -> None:
    """Two outputs in the model, three labels in the data: the head is new, and the same in every run of a seed."""
    runs = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        tuner = FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), max_steps=1, learning_rate=0.0, seed=seed)
        runs.append(weights(tuner.fit(case_of(NAME).data(), progress=False)))
    assert same_weights(runs[0], runs[1])
    assert not torch.equal(runs[0]["classifier.weight"], runs[2]["classifier.weight"])
    body = [key for key in runs[0] if not key.startswith("classifier")]
    original = tiny_model("bert", 2).state_dict()
    assert all(torch.equal(runs[2][key], original[key]) for key in body)


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from tests.contracts.cases import NAMES, case_of, tuner_for, weights

found = {}
for name in NAMES:
    case = case_of(name)
    tuner = tuner_for(name, epochs=2, batch_size=5).fit(case.data(10), case.data(9), progress=False)
    digest = hashlib.sha256()
    for key, value in weights(tuner).items():
        digest.update(key.encode() + value.numpy().tobytes())
    folder = Path(sys.argv[1]) / name
    tuner.save(folder)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    shown = [repr(p) for p in tuner.predict(case.data(4))]
    found[name] = [digest.hexdigest(), tuner.history.to_dict(), shown, files]
print(json.dumps(found, sort_keys=True))
"""


def test_two_fresh_processes_give_the_same_bits(tmp_path: Path) -> None:
    answers = []
    for hash_seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / hash_seed)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert set(answers[0]) == set(NAMES)
    assert answers[0] == answers[1]


# Who watches changes nothing.


class Nosy(Callback):
    """Does after every step what a curious person does, and draws from every generator."""

    def __init__(self, look: Callable[[FineTuner, Training], object]) -> None:
        self.look = look
        self.tuner: FineTuner | None = None
        self.looks = 0

    def _look(self, training: Training) -> None:
        assert self.tuner is not None
        self.look(self.tuner, training)
        self.looks += 1

    def on_fit_start(self, training: Training) -> None:
        self._look(training)

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        self._look(training)

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        self._look(training)

    def on_fit_end(self, training: Training) -> None:
        self._look(training)


LOOKS: dict[str, Callable[[FineTuner, Training], object]] = {
    "nothing": lambda tuner, training: None,
    "predicts": lambda tuner, training: tuner.predict(["A dull film.", "?"]),
    "evaluates": lambda tuner, training: tuner.evaluate(case_of(NAME).data(7), batch_size=2),
    "switches to evaluation": lambda tuner, training: training.model.eval(),
    "draws random numbers": lambda tuner, training: (torch.rand(3), np.random.rand(3), random.random()),
    "seeds": lambda tuner, training: (torch.manual_seed(1), np.random.seed(1), random.seed(1)),
    "reads weights": lambda tuner, training: [p.sum().item() for p in training.model.parameters()],
    "plots": lambda tuner, training: (str(tuner.history), tuner.history.to_dict()),
}


@pytest.mark.parametrize("look", LOOKS)
def test_callbacks_change_nothing(look: str) -> None:
    expected = fitted()
    tuner, watcher = tuner_for(NAME, epochs=2, batch_size=8), Nosy(LOOKS[look])
    watcher.tuner = tuner
    tuner.fit(case_of(NAME).data(), callbacks=[watcher], progress=False)
    assert watcher.looks == 1 + 8 + 2 + 1
    assert losses(tuner) == losses(expected)
    assert same_weights(weights(tuner), weights(expected))


def test_saving_while_training_changes_nothing(tmp_path: Path) -> None:
    expected = fitted()
    tuner = tuner_for(NAME, epochs=2, batch_size=8)
    watcher = Nosy(lambda tuner, training: tuner.save(tmp_path / "model"))
    watcher.tuner = tuner
    tuner.fit(case_of(NAME).data(), callbacks=[watcher], progress=False)
    assert same_weights(weights(tuner), weights(expected))
    again = FineTuner.load(tmp_path / "model")
    assert again.predict("A dull film.") == tuner.predict("A dull film.")
    assert "sftlib" not in (tmp_path / "model" / "config.json").read_text()


@pytest.mark.parametrize(
    "watched",
    [
        {"metrics": ["accuracy", "cohen_kappa"]},
        {"metrics": []},
        {"early_stopping": EarlyStopping("loss", patience=9)},
    ],
    ids=["other metrics", "no metrics", "patience"],
)
def test_validation_changes_nothing(watched: dict[str, Any]) -> None:
    expected = fitted()
    recorder = Snapshots()
    tuner = tuner_for(NAME, epochs=2, batch_size=8, **watched)
    tuner.fit(case_of(NAME).data(), case_of(NAME).data(11), callbacks=[recorder], progress=False)
    assert len(tuner.history.evaluations) == 2
    assert losses(tuner) == losses(expected)
    assert same_weights(recorder.last, weights(expected))


class Snapshots(Callback):
    """Keeps the weights after the last step, before the best ones come back."""

    last: dict[str, torch.Tensor]

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        self.last = {key: value.detach().clone() for key, value in training.model.state_dict().items()}


def test_progress_changes_nothing_and_is_silent_when_off(capfd: pytest.CaptureFixture[str]) -> None:
    quiet = fitted()
    assert capfd.readouterr() == ("", "")
    tuner = tuner_for(NAME, epochs=2, batch_size=8)
    tuner.fit(case_of(NAME).data(), progress=True)
    shown = capfd.readouterr()
    assert "8 steps" in shown.out + shown.err
    assert same_weights(weights(tuner), weights(quiet))


# What belongs to the user stays as it was.


def generators() -> tuple[bytes, bytes, str]:
    return (
        torch.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(),  # type: ignore[index, union-attr]
        hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
    )


def test_the_users_generators_are_untouched(tmp_path: Path) -> None:
    before = generators()
    data = case_of(NAME).data()
    tuner = tuner_for(NAME, epochs=1).fit(data, data.select(range(9)), progress=False)
    assert generators() == before
    tuner.evaluate(data)
    tuner.predict(data)
    assert generators() == before
    tuner.save(tmp_path / "model")
    FineTuner.load(tmp_path / "model").predict("A film.")
    assert generators() == before


def test_the_users_generators_decide_nothing() -> None:
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        runs.append(fitted(family="gpt2"))
    assert losses(runs[0]) == losses(runs[1])


def test_torchs_own_settings_are_untouched() -> None:
    def settings() -> tuple[object, ...]:
        return (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_autocast_enabled("cpu"),
        )

    before = settings()
    tuner = fitted(max_steps=2)
    tuner.predict("A film.")
    assert settings() == before


@pytest.mark.parametrize("family", ["bert", "gpt2", "modernbert"])
def test_a_model_that_was_passed_in_is_unchanged(family: str) -> None:
    model, tokenizer = tiny_model(family, 3).train(), tiny_tokenizer(family)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config, kinds = copy.deepcopy(model.config.to_dict()), [type(module) for module in model.modules()]
    state = (
        tokenizer.pad_token,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.backend_tokenizer.to_str(),
    )
    tuner = FineTuner(model, tokenizer=tokenizer, max_steps=2, learning_rate=1e-2, dropout=0.3)
    tuner.fit(case_of(NAME).data(), progress=False).predict("A film.")
    assert same_weights(before, model.state_dict())
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == tiny_model(family, 3).config._attn_implementation
    assert [type(module) for module in model.modules()] == kinds
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert (
        tokenizer.pad_token,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.backend_tokenizer.to_str(),
    ) == state
    assert tuner.model is not model
    assert not same_weights(weights(tuner), before)


def test_the_data_that_was_passed_in_is_unchanged() -> None:
    data, valid = case_of(NAME).data(), case_of(NAME).data(5)
    rows = [dict(row) for row in data]
    tuner_for(NAME, max_steps=2).fit(data, valid, progress=False)
    assert [dict(row) for row in data] == rows


# Controls: what must not move does not.


class Start(Callback):
    """The weights before the first step, and how many steps there were."""

    weights: Mapping[str, torch.Tensor]

    def __init__(self) -> None:
        self.steps = 0

    def on_fit_start(self, training: Training) -> None:
        self.weights = {name: value.clone() for name, value in plain_weights(training.model).items()}

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        self.steps += 1


#: Layers that do not begin as the model has them: of characters, drawn for those of the data; of numbers, scaled to
#: deviations of the targets.
BEGUN_ANEW = {"speech-recognition": "lm_head", "sequence-regression": "classifier"}


@pytest.mark.parametrize("name", NAMES)
def test_a_learning_rate_of_zero_leaves_the_weights(name: str) -> None:
    tuner, start = tuner_for(name, learning_rate=0.0, weight_decay=0.5, epochs=2), Start()
    tuner.fit(case_of(name).data(), progress=False, callbacks=[start])
    assert start.steps >= 2
    found = weights(tuner)
    assert same_weights(found, start.weights)
    for key, value in case_of(name).model().state_dict().items():
        if key.split(".")[0] == BEGUN_ANEW.get(name):
            assert not torch.equal(found[key], value), key
        else:
            kept = found[key][: len(value)] if value.dim() else found[key]  # below may be rows of new tokens
            assert torch.equal(kept, value), key


class Frozen(nn.Module):
    """Word vectors that stay, and a layer that learns."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.words = nn.Embedding(300, 8)
            self.layer = nn.Linear(8, 3)
        self.words.weight.requires_grad_(False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask[..., None].float()
        scores: torch.Tensor = self.layer((self.words(input_ids) * mask).sum(1) / mask.sum(1))
        return scores


def test_frozen_parameters_of_a_module_stay() -> None:
    module = Frozen()
    tuner = FineTuner(module, tokenizer=tiny_tokenizer(), max_steps=5, learning_rate=0.1, weight_decay=0.5)
    tuner.fit(case_of(NAME).data(), progress=False)
    found = weights(tuner)
    assert torch.equal(found["words.weight"], module.words.weight)
    assert not torch.equal(found["layer.weight"], module.layer.weight)


def test_frozen_parameters_of_a_transformers_model_stay() -> None:
    model = tiny_model("bert", 3)
    for parameter in model.bert.parameters():
        parameter.requires_grad_(False)
    tuner = FineTuner(model, tokenizer=tiny_tokenizer(), max_steps=3, learning_rate=0.1, weight_decay=0.5)
    tuner.fit(case_of(NAME).data(), progress=False)
    found, before = weights(tuner), model.state_dict()
    assert all(torch.equal(found[key], before[key]) for key in before if key.startswith("bert."))
    assert not torch.equal(found["classifier.weight"], before["classifier.weight"])


def test_shuffled_labels_teach_nothing_about_held_out_rows() -> None:
    """300 rows of the same kind as the training rows: no better than chance, within four standard deviations."""
    labels = np.random.default_rng(3).integers(0, 2, 332).tolist()
    data = TaskDataset({"text": texts(332), "label": labels})
    tuner = FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), max_steps=60, learning_rate=5e-3, dropout=0.0)
    tuner.fit(data.select(range(32)), progress=False)
    assert 0.38 < tuner.evaluate(data.select(range(32, 332)))["accuracy"] < 0.62
