"""A last layer that learns in units of its own: what it begins with, what is left of it, what it never touches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sftlib.models.output_scale import scale_output
from sftlib.models.units import make_plain, plain_weights
from sftlib.testing import tiny_model

MEANS, DEVIATIONS = [300.0, -2.0], [25.0, 0.5]


def answers(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[2, 7, 8, 3], [2, 9, 3, 3]])).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_a_fresh_layer_answers_in_the_units_of_the_data(family: str) -> None:
    model = tiny_model(family, 2, dropout=0.0)
    before = answers(model)  # its bias is 0
    assert scale_output(model, DEVIATIONS, MEANS)
    expected = before * torch.tensor(DEVIATIONS) + torch.tensor(MEANS)
    assert torch.allclose(answers(model), expected, rtol=1e-5)


def test_a_trained_layer_goes_on_where_it_stood() -> None:
    model = tiny_model("bert", 2, dropout=0.0)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([290.0, -1.0]))  # type: ignore[union-attr, operator]
    before = answers(model)
    scale_output(model, DEVIATIONS, MEANS)
    assert torch.allclose(answers(model), before, rtol=1e-5)


def test_what_is_left_is_a_plain_layer_with_the_same_bits() -> None:
    model = tiny_model("bert", 2, dropout=0.0)
    names = list(model.state_dict())
    scale_output(model, DEVIATIONS, MEANS)
    answered, written = answers(model), plain_weights(model)
    assert set(written) == set(names)
    make_plain(model)
    assert torch.equal(answers(model), answered)
    assert set(model.state_dict()) == set(names)
    assert all(torch.equal(weight, written[name]) for name, weight in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    make_plain(model)  # once more is nothing


def test_the_step_of_the_layer_does_not_know_the_units() -> None:
    """Adam's first step has one size for every weight: in the units of the layer, so in deviations of the data."""
    moved = []
    for deviations in ([1.0, 1.0], [1000.0, 0.01]):
        model = tiny_model("bert", 2, dropout=0.0)
        scale_output(model, deviations, [0.0, 0.0])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        scale = torch.tensor(deviations)
        start = answers(model) / scale
        ((model(input_ids=torch.tensor([[2, 7, 8, 3]])).logits / scale - 1) ** 2).sum().backward()
        optimizer.step()
        moved.append(answers(model) / scale - start)
    assert torch.allclose(moved[0], moved[1], atol=1e-4)


def test_other_models_are_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    assert not scale_output(module, DEVIATIONS, MEANS)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert not scale_output(tiny_model("bert", 3), DEVIATIONS, MEANS)
    assert np.isfinite(answers(tiny_model("bert", 3)).numpy()).all()
