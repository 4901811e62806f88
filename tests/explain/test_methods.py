"""Integrated gradients against integrals that are known, and how often a model is asked."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from sftlib import FineTuner, TaskDataset
from sftlib.explain import explain
from sftlib.explain.dials import Dials
from sftlib.explain.methods import IntegratedGradients, Shared
from sftlib.testing import tiny_model, tiny_tokenizer


class Curve:
    """A function of dials that bends only with their weighted sum: every dial has its weight's share of what it adds.

    Args:
        steepness: of its one step.
    """

    def __init__(self, steepness: float) -> None:
        self.weights = torch.tensor([0.5, -0.2, 0.7], dtype=torch.float64)
        self.pieces, self.steepness = 3, steepness
        self.asked: list[float] = []

    def at(self, dials: Tensor) -> Tensor:
        return torch.sigmoid(self.steepness * (dials.double() @ self.weights - 0.3))

    def ends(self, read: Any) -> list[Tensor]:
        return [self.at(torch.stack([torch.ones(3), torch.zeros(3)]))]

    def gradients(self, dials: Tensor, read: Any) -> Tensor:
        self.asked += dials[:, 0].tolist()
        turned = dials.clone().requires_grad_(True)
        (found,) = torch.autograd.grad(self.at(turned).sum(), turned)
        return found.double()

    def share(self, steps: int) -> Shared:
        return IntegratedGradients(steps).share(cast(Dials, self), lambda outputs, _: outputs, np.eye(3))

    @property
    def known(self) -> Any:
        whole, empty = self.ends(None)[0].tolist()
        return self.weights.numpy() * (whole - empty)


@pytest.mark.parametrize(("steepness", "least"), [(1.0, 16), (40.0, 16), (150.0, 32), (400.0, 64)])
def test_steps_are_cut_until_the_scores_add_up(steepness: float, least: int) -> None:
    curve = Curve(steepness)
    found = curve.share(16)
    assert found.steps >= least
    assert found.gap <= 0.01
    np.testing.assert_allclose(found.scores, curve.known, rtol=0.011)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 16])
def test_every_slope_is_computed_once(steps: int) -> None:
    curve = Curve(150.0)
    found = curve.share(steps)
    assert found.steps > steps
    assert len(set(curve.asked)) == len(curve.asked) == found.steps
    at_once = Curve(150.0).share(found.steps)
    assert at_once.steps == found.steps
    np.testing.assert_allclose(found.scores, at_once.scores, rtol=1e-6)


def test_what_does_not_add_up_is_given_up_and_said() -> None:
    curve = Curve(1e5)
    found = curve.share(16)
    assert found.steps == 256
    assert found.gap > 0.01
    assert Curve(1e5).share(300).steps == 300


@pytest.mark.parametrize("power", [0, 1])
@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_of_a_parabola_any_number_of_steps_is_exact(power: int, steps: int) -> None:
    class Parabola(Curve):
        def at(self, dials: Tensor) -> Tensor:
            return (dials.double() @ self.weights) ** (power + 1)

    curve = Parabola(1.0)
    found = curve.share(steps)
    assert found.steps == steps
    np.testing.assert_allclose(found.scores, curve.known, rtol=1e-6)


@pytest.fixture(scope="module")
def tuner() -> FineTuner:
    rows = TaskDataset({"text": ["a joy to watch", "a pain to watch"] * 8, "label": ["yes", "no"] * 8})
    made = FineTuner(tiny_model(dropout=0.0), tokenizer=tiny_tokenizer(), max_steps=30, learning_rate=3e-3)
    return made.fit(rows, progress=False)


def test_a_model_is_asked_nothing_twice(tuner: FineTuner) -> None:
    """Every row that goes through a model: of dials as they stand, as the table of words is left."""
    seen: Counter[bytes] = Counter()
    passes = []

    def look(module: Any, args: Any, kwargs: Any) -> None:
        embedded = args[0] if args else kwargs["hidden_states"]
        passes.append(len(embedded))
        seen.update(row.detach().numpy().tobytes() for row in embedded)

    hook = tuner.model.bert.encoder.layer[0].register_forward_pre_hook(look, with_kwargs=True)
    try:
        why = explain(tuner, "a joy to watch every minute of it")
    finally:
        hook.remove()
    assert sum(passes) <= 2 + why.steps + 2 * 9
    beyond = sum(seen.values()) - len(seen)
    assert beyond <= 1, "only for the slope at the input itself, whose number is there already"


def test_the_model_is_left_as_it_was(tuner: FineTuner) -> None:
    frozen = next(iter(tuner.model.parameters()))
    frozen.requires_grad_(False)
    before = [weight.requires_grad for weight in tuner.model.parameters()]
    inside = []
    hook = tuner.model.register_forward_pre_hook(
        lambda module, _: inside.append(any(weight.requires_grad for weight in module.parameters()))
    )
    try:
        explain(tuner, "a joy to watch")
    finally:
        hook.remove()
    assert inside
    assert not any(inside)
    assert [weight.requires_grad for weight in tuner.model.parameters()] == before
    assert not frozen.requires_grad
    assert sum(before) == len(before) - 1
    assert all(weight.grad is None for weight in tuner.model.parameters())
    frozen.requires_grad_(True)
