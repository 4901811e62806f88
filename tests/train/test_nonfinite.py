"""NaN and infinity: kept from the weights, told with step and rows, seen in the history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sftlib import Callback, TaskDataset
from sftlib.errors import NonFiniteError, SftlibError
from sftlib.train.plan import ShuffledPlan
from sftlib.train.state import Training
from tests.contracts.cases import case_of, same_weights, tuner_for, weights

NAME = "text-classification"


def copied(training: Training) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in training.model.state_dict().items()}


class PoisonGradient(Callback):
    """Makes one gradient of step ``at`` (from 1) not finite; remembers the weights after every step."""

    def __init__(self, at: int, value: float) -> None:
        self.at, self.value = at, value
        self.after: list[dict[str, Tensor]] = []

    def on_fit_start(self, training: Training) -> None:
        self.after = [copied(training)]
        parameter = dict(training.model.named_parameters())["classifier.bias"]

        def spoil(gradient: Tensor) -> Tensor:
            return gradient.index_fill(0, torch.tensor([1]), self.value) if training.step + 1 == self.at else gradient

        parameter.register_hook(spoil)

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        self.after.append(copied(training))


class PoisonWeight(PoisonGradient):
    """Makes one weight NaN after step ``at - 1``."""

    def on_fit_start(self, training: Training) -> None:
        self.after = [copied(training)]

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        if training.step + 1 == self.at:
            with torch.no_grad():
                next(training.model.parameters())[5:].fill_(self.value)
        super().on_step_end(training, record)


def same_with_nan(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(left[key].nan_to_num(7.0), right[key].nan_to_num(7.0)) for key in left)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 5])
def test_a_gradient_that_is_not_finite(at: int, value: float) -> None:
    poison = PoisonGradient(at, value)
    tuner = tuner_for(NAME, epochs=2, batch_size=8)
    with pytest.raises(NonFiniteError, match=f"step {at}: loss .*norm") as caught:
        tuner.fit(case_of(NAME).data(), callbacks=[poison], progress=False)
    plan = ShuffledPlan(32, batch_size=8, seed=0)
    assert caught.value.step == at
    assert sorted(caught.value.rows) == sorted(plan.rows(at - 1).tolist())  # no row is to blame by itself
    assert isinstance(caught.value, ArithmeticError)
    assert len(poison.after) == at  # the weights after steps 0 to at - 1
    assert same_weights(weights(tuner), poison.after[-1])
    record = tuner.history.steps[-1]
    assert record["step"] == at == len(tuner.history.steps)
    assert not math.isfinite(record["grad_norm"])
    assert math.isfinite(record["loss"])


def test_a_weight_that_is_not_finite() -> None:
    poison = PoisonWeight(4, math.nan)
    tuner = tuner_for(NAME, epochs=2, batch_size=8)
    with pytest.raises(NonFiniteError) as caught:
        tuner.fit(case_of(NAME).data(), callbacks=[poison], progress=False)
    assert caught.value.step == 4
    assert set(caught.value.rows) <= set(ShuffledPlan(32, batch_size=8, seed=0).rows(3).tolist())
    assert len(caught.value.rows) > 0
    assert math.isnan(tuner.history.steps[-1]["loss"])
    assert len(tuner.history.steps) == 4
    assert same_with_nan(weights(tuner), poison.after[-1])


def test_the_row_to_blame_is_named() -> None:
    columns = case_of("text-regression").columns
    targets = [1e30 if row == 17 else value for row, value in enumerate(columns["target"])]
    tuner = tuner_for("text-regression", epochs=1, batch_size=8, dropout=0.0)
    recorder = PoisonGradient(0, 0.0)
    tuner_ok = tuner_for("text-regression", epochs=1, batch_size=8, dropout=0.0)
    tuner_ok.fit(case_of("text-regression").data(), callbacks=[recorder], progress=False)
    with pytest.raises(NonFiniteError, match="17") as caught:
        tuner.fit(TaskDataset({"text": columns["text"], "target": targets}), progress=False)
    assert caught.value.rows == (17,)
    plan = ShuffledPlan(32, batch_size=8, seed=0)
    assert 17 in plan.rows(caught.value.step - 1)
    assert math.isinf(tuner.history.steps[-1]["loss"])
    assert same_weights(weights(tuner), recorder.after[caught.value.step - 1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_skipping_leaves_one_step_out(value: float) -> None:
    poison = PoisonGradient(3, value)
    tuner = tuner_for(NAME, epochs=2, batch_size=8, on_nonfinite="skip")
    tuner.fit(case_of(NAME).data(), callbacks=[poison], progress=False)
    assert len(tuner.history.steps) == 8
    finite = [math.isfinite(record["grad_norm"]) for record in tuner.history.steps]
    assert finite == [True, True, False, True, True, True, True, True]
    assert same_weights(poison.after[3], poison.after[2])
    for before, after in ((1, 2), (3, 4), (4, 5)):
        assert not same_weights(poison.after[before], poison.after[after])
    assert all(torch.isfinite(value).all() for value in weights(tuner).values())


def test_the_tuner_is_usable_after_the_error() -> None:
    tuner = tuner_for(NAME, epochs=1, batch_size=8)
    with pytest.raises(SftlibError):
        tuner.fit(case_of(NAME).data(), callbacks=[PoisonGradient(3, math.nan)], progress=True)
    assert not tuner.model.training
    assert all(type(module).__module__.startswith(("torch.", "transformers.")) for module in tuner.model.modules())
    assert any(isinstance(module, nn.Dropout) for module in tuner.model.modules())
    assert 0 < tuner.predict("A film.").probability < 1
    tuner.fit(case_of(NAME).data(), progress=False)
    assert len(tuner.history.steps) == 4


def test_a_step_without_supervision_leaves_the_weights() -> None:
    """All rows of class 'good' weigh nothing: their gradient is zero and not even weight decay is due."""
    data = TaskDataset({"text": ["a film", "b film", "c film", "d film"], "label": ["bad", "good", "good", "good"]})
    recorder = PoisonGradient(0, 0.0)
    tuner = tuner_for(NAME, epochs=3, batch_size=1, class_weights={"bad": 1.0, "good": 0.0}, weight_decay=0.5)
    tuner.fit(data, callbacks=[recorder], progress=False)
    plan = ShuffledPlan(4, batch_size=1, seed=0)
    moved = [not same_weights(recorder.after[step], recorder.after[step + 1]) for step in range(12)]
    assert moved == [int(plan.rows(step)[0]) == 0 for step in range(12)]
