"""The chunked loss is the plain one: value, every gradient, and what families do to their scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.models.language import chunked_loss
from sftlib.models.language.chunked_loss import OutputLayer

HIDDEN, VOCABULARY, POSITIONS = 8, 50, 37
LAYERS = ((1.0, None, 0.0, False), (0.25, None, 0.1, True), (1.0, 3.0, 0.0, True), (2.0, 3.0, 0.2, False))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "_SCORES", 10 * VOCABULARY)


def made(factor: float, cap: float | None, bias: bool, dtype: torch.dtype) -> tuple[OutputLayer, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=dtype)
        states = torch.randn(POSITIONS, HIDDEN, dtype=dtype).requires_grad_()
        targets = torch.randint(VOCABULARY, (POSITIONS,))
    return OutputLayer(linear, factor, cap), states, targets


def gradients(layer: OutputLayer, states: Tensor, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [states, *layer.linear.parameters()]))


@pytest.mark.parametrize(("factor", "cap", "smoothing", "bias"), LAYERS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(
    factor: float, cap: float | None, smoothing: float, bias: bool, dtype: torch.dtype, bound: float
) -> None:
    layer, states, targets = made(factor, cap, bias, dtype)
    found, correct = layer.loss(states, targets, smoothing=smoothing)
    scores = layer.scores(states)
    expected = functional.cross_entropy(scores, targets, label_smoothing=smoothing, reduction="sum")
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=bound)
    assert int(correct) == int((scores.argmax(1) == targets).sum())
    pairs = zip(gradients(layer, states, 3 * found), gradients(layer, states, 3 * expected), strict=True)
    for own, plain in pairs:
        assert float((own - plain).abs().max()) <= bound * max(1.0, float(plain.abs().max()))


@pytest.mark.parametrize(("factor", "cap", "smoothing", "bias"), LAYERS)
def test_gradcheck(factor: float, cap: float | None, smoothing: float, bias: bool) -> None:
    layer, states, targets = made(factor, cap, bias, torch.float64)

    def loss(states: Tensor, weight: Tensor) -> Tensor:
        none = None if layer.linear.bias is None else layer.linear.bias.detach()
        weights = torch.linspace(0, 1, 12, dtype=torch.float64) if cap is None else None
        arguments = (states, weight, none, targets[:12], weights, factor, cap, smoothing, torch.float64)
        return chunked_loss._ChunkedLoss.apply(*arguments)[0]

    assert torch.autograd.gradcheck(loss, (states[:12].detach().requires_grad_(), layer.linear.weight))


@pytest.mark.parametrize(("factor", "cap", "smoothing", "bias"), LAYERS)
def test_positions_that_count_in_part(factor: float, cap: float | None, smoothing: float, bias: bool) -> None:
    layer, states, targets = made(factor, cap, bias, torch.float64)
    weights = torch.arange(POSITIONS, dtype=torch.float64) % 5 / 4
    found, correct = layer.loss(states, targets, smoothing=smoothing, weights=weights)
    scores = layer.scores(states)
    each = functional.cross_entropy(scores, targets, label_smoothing=smoothing, reduction="none")
    expected = sum(weight * loss for weight, loss in zip(weights, each, strict=True))
    assert isinstance(expected, Tensor)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-13)
    assert int(correct) == int((scores.argmax(1) == targets).sum())
    for own, plain in zip(gradients(layer, states, found), gradients(layer, states, expected), strict=True):
        assert float((own - plain).abs().max()) <= 1e-13 * max(1.0, float(plain.abs().max()))


def test_each_position_by_itself() -> None:
    layer, states, targets = made(2.0, 3.0, True, torch.float64)
    losses, right = layer.judged(states, targets)
    scores = layer.scores(states)
    assert torch.allclose(losses, functional.cross_entropy(scores, targets, reduction="none"), atol=1e-12)
    assert torch.equal(right, scores.argmax(1) == targets)


def test_no_position_is_no_loss() -> None:
    layer, states, targets = made(1.0, None, False, torch.float32)
    loss, correct = layer.loss(states[:0], targets[:0])
    loss.backward()
    assert (float(loss.detach()), int(correct)) == (0.0, 0)


def test_products_in_bf16_stay_close() -> None:
    layer, states, targets = made(1.0, None, False, torch.float32)
    found, _ = layer.loss(states, targets, products=torch.bfloat16)
    expected, _ = layer.loss(states, targets)
    assert found.dtype == torch.float32
    assert float(found.detach()) != float(expected.detach())
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-2)
    losses, _ = layer.judged(states, targets, products=torch.bfloat16)
    assert float(losses.sum()) == pytest.approx(float(found.detach()), rel=1e-5), "judged as it is trained"


def test_scores_of_the_whole_are_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, states, targets = made(1.0, None, False, torch.float32)
    shapes: list[tuple[int, ...]] = []
    pieces = chunked_loss._pieces

    def watched(scores: Tensor, *more: object) -> object:
        shapes.append(tuple(scores.shape))
        return pieces(scores, *more)

    monkeypatch.setattr(chunked_loss, "_pieces", watched)
    layer.loss(states, targets)
    assert max(shapes) == (10, VOCABULARY)
    assert sum(rows for rows, _ in shapes) == POSITIONS
