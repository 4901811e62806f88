"""Fused encoder layers against the layers they stand in for: scores, gradients, where they are used, what is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sftlib.models.layouts.bert import FusedLayer, parts_of
from sftlib.models.layouts.layout import Flat, Fused, Layout, Padded
from sftlib.models.layouts.stand_in import cast
from sftlib.models.outputs import logits
from sftlib.models.precision import Bf16
from sftlib.models.structure import layers_of
from sftlib.testing import tiny_model
from tests.models.layouts.rounding import require_rounding_of_autocast
from tests.models.layouts.test_layout import (
    LENGTHS,
    batch_of,
    fitting_layout,
    forward_of,
    model_of,
    scores_and_gradient,
)
from tests.versions import requires_flat

FUSED = ("bert", "roberta", "electra", "distilbert")
WAYS = [Fused(first_only=False), Fused(first_only=True)]


@pytest.mark.parametrize("layout", WAYS, ids=["all", "first"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("family", FUSED)
def test_scores_and_gradients_are_those_of_padded_layers(family: str, dropout: float, layout: Layout) -> None:
    requires_flat(family)
    model = model_of(family, dropout)
    batch = batch_of(model, LENGTHS)
    scores, gradient = scores_and_gradient(model, Padded(), batch)
    fused_scores, fused_gradient = scores_and_gradient(model, layout, batch)
    assert (fused_scores - scores).norm() <= 1e-6 * scores.norm()
    assert (fused_gradient - gradient).norm() <= 1e-6 * gradient.norm()


@pytest.mark.parametrize("layout", WAYS, ids=["all", "first"])
@pytest.mark.parametrize("family", FUSED)
def test_every_gradient_holds_by_itself_in_double_precision(family: str, layout: Layout) -> None:
    """A wrong gradient of a bias would not show in the norm of all of them."""
    requires_flat(family)
    found = []
    for way in (Padded(), layout):
        model = model_of(family, 0.2).double().train()
        forward = forward_of(model, way)
        with forward.prepared():
            logits(forward.train(batch_of(model, LENGTHS), step=5)).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    padded, fused = found
    assert padded.keys() == fused.keys()
    for name, gradient in padded.items():
        # A bias of keys shifts all scores of a query alike, so its gradient is nothing but rounding.
        assert (fused[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-15, name


@pytest.mark.parametrize("layout", WAYS, ids=["all", "first"])
def test_rounding_in_bf16_is_that_of_bf16(layout: Layout) -> None:
    requires_flat("bert")
    model = model_of("bert", 0.1)
    require_rounding_of_autocast(model, layout, batch_of(model, LENGTHS))


@pytest.mark.parametrize("layout", WAYS, ids=["all", "first"])
@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("number", [0, 1])
def test_a_layer_that_is_frozen_whole_is_fused(family: str, layout: Layout, number: int) -> None:
    requires_flat(family)
    found, fits = [], []
    for way in (Padded(), layout):
        model = model_of(family, 0.2).double().train()
        layer: Any = (layers_of(model) or [])[number]
        layer.requires_grad_(False)
        forward = forward_of(model, way)
        parts = parts_of(layer)
        assert parts is not None
        fits.append(FusedLayer(parts, first_only=False).fits)
        with forward.prepared():
            logits(forward.train(batch_of(model, LENGTHS), step=5)).square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    padded, fused = found
    assert all(fits)
    assert padded.keys() == fused.keys()
    for name, gradient in padded.items():
        assert (fused[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-15, name


class TestChoice:
    @pytest.mark.parametrize("family", FUSED)
    def test_heads_that_read_the_first_token_get_no_other(self, family: str) -> None:
        requires_flat(family)
        model = model_of(family)
        layout = fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True)
        assert isinstance(layout, Fused)
        assert layout.first_only

    def test_heads_that_read_every_token_get_all(self) -> None:
        requires_flat("bert")
        model = model_of("bert")
        head = nn.Linear(32, 2)

        class Mean(type(model)):  # type: ignore[misc]
            """Pools by the mean over positions."""

            def forward(self, **inputs: Any) -> Any:
                hidden = self.bert(**inputs).last_hidden_state
                return (head((hidden * inputs["attention_mask"][..., None]).mean(1)),)

        model.__class__ = Mean
        layout = fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True)
        assert isinstance(layout, Fused)
        assert not layout.first_only

    @pytest.mark.parametrize("family", ["albert", "modernbert", "gpt2"])
    def test_other_layers_are_left_alone(self, family: str) -> None:
        requires_flat(family)
        model = model_of(family)
        assert isinstance(fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True), Flat)

    def test_what_is_not_quite_such_a_layer(self) -> None:
        def change(part: str, to: Any) -> nn.Module:
            layer: Any = tiny_model("bert").bert.encoder.layer[0]
            parent, _, name = part.rpartition(".")
            setattr(layer.get_submodule(parent) if parent else layer, name, to)
            return layer  # type: ignore[no-any-return]

        class Adapted(nn.Linear):
            """Another layer's forward may do anything."""

        assert parts_of(change("attention.self.is_causal", False)) is not None
        assert parts_of(change("attention.self.is_causal", True)) is None
        assert parts_of(change("attention.self.is_decoder", True)) is None
        assert parts_of(change("attention.self.query", Adapted(32, 32))) is None
        assert parts_of(change("intermediate.intermediate_act_fn", nn.ReLU())) is None
        assert parts_of(change("intermediate.intermediate_act_fn", nn.GELU(approximate="tanh"))) is None
        assert parts_of(change("output.LayerNorm", nn.Identity())) is None
        assert parts_of(change("output.dropout", nn.AlphaDropout(0.1))) is None
        assert parts_of(nn.Linear(2, 2)) is None


class TestWhileItRuns:
    @pytest.mark.parametrize("fails", [False, True])
    def test_layers_are_the_models_own_between_passes(self, fails: bool) -> None:
        requires_flat("bert")
        model = model_of("bert")
        layers: Any = layers_of(model)
        own, names = list(layers), list(model.state_dict())
        forward = forward_of(model, WAYS[1])
        inside: list[type] = []
        looks = model.bert.embeddings.register_forward_hook(lambda *_: inside.extend(type(x) for x in layers))
        with forward.prepared():
            if fails:
                own[0].attention.self.query.weight.data = torch.zeros(3, 3)
                with pytest.raises(RuntimeError):
                    forward.train(batch_of(model, LENGTHS), step=0)
            else:
                forward.train(batch_of(model, LENGTHS), step=0)
            assert list(layers) == own
            assert list(model.state_dict()) == names
        looks.remove()
        assert inside == [FusedLayer, FusedLayer]
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    def test_a_layer_that_somebody_listens_to_runs_itself(self) -> None:
        requires_flat("bert")
        model = model_of("bert").eval()
        batch, forward = batch_of(model, LENGTHS), forward_of(model, WAYS[1])
        heard = []
        with torch.no_grad(), forward.prepared():
            expected = logits(forward(batch))
            for layer in layers_of(model) or []:
                hook = layer.attention.output.register_forward_hook(lambda *_: heard.append(1))  # type: ignore[union-attr, operator]
                found = logits(forward(batch))
                hook.remove()
                assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
        assert len(heard) == 2

    def test_a_layer_of_which_a_part_is_frozen_runs_itself(self) -> None:
        requires_flat("bert")
        found = []
        for way in (Padded(), *WAYS):
            model = model_of("bert")
            model.bert.encoder.layer[0].output.dense.weight.requires_grad_(False)
            found.append(scores_and_gradient(model, way, batch_of(model, LENGTHS))[1])
        for gradient in found[1:]:
            assert gradient.shape == found[0].shape
            assert (gradient - found[0]).norm() <= 1e-6 * found[0].norm()

    def test_layers_that_are_to_be_computed_twice_run_themselves(self) -> None:
        requires_flat("bert")
        found = []
        for checkpointing in (True, False):
            model = model_of("bert").train()
            inside: list[type] = []
            layers: Any = layers_of(model)
            looks = model.bert.embeddings.register_forward_hook(
                lambda *_, layers=layers, inside=inside: inside.extend(type(x) for x in layers)
            )
            forward = forward_of(model, WAYS[1], checkpointing=checkpointing)
            with forward.prepared():
                scores = logits(forward.train(batch_of(model, LENGTHS), step=5))
                scores.square().sum().backward()
            looks.remove()
            assert (FusedLayer in inside) is not checkpointing
            found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        assert (found[0] - found[1]).norm() <= 1e-6 * found[1].norm()

    def test_a_body_that_is_switched_meanwhile_switches_its_layers(self) -> None:
        """As frozen layers are, by a hook on what holds them."""
        layer: Any = tiny_model("bert").bert.encoder.layer[0]
        parts = parts_of(layer)
        assert parts is not None
        nn.ModuleList([FusedLayer(parts, first_only=False)]).eval()
        assert not layer.attention.self.dropout.training
        nn.ModuleList([FusedLayer(parts, first_only=False)]).train()
        assert layer.attention.self.dropout.training

    def test_evaluating_before_training_leaves_weights_that_can_be_trained(self) -> None:
        """Casts that are made in inference mode must be of use outside it."""
        requires_flat("bert")
        model = model_of("bert")
        forward = forward_of(model, WAYS[1], Bf16())
        with forward.prepared():
            with torch.inference_mode():
                forward(batch_of(model, LENGTHS))
            model.train()
            logits(forward.train(batch_of(model, LENGTHS), step=0)).sum().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.1)
            logits(forward.train(batch_of(model, LENGTHS), step=1)).sum().backward()


def test_weights_are_cast_in_every_pass() -> None:
    """A fused optimizer changes weights without a trace; every pass has to see what they are now."""
    requires_flat("bert")
    model = model_of("bert", 0.0)
    batch = batch_of(model, LENGTHS)
    forward = forward_of(model, WAYS[0], Bf16())
    optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if "query.weight" in n], lr=0.5, fused=True)
    with forward.prepared():
        before = logits(forward.train(batch, step=0))
        before.square().sum().backward()
        optimizer.step()
        after = logits(forward.train(batch, step=0))
    assert (before - after).norm() > 1e-3 * before.norm()


def test_several_parameters_lie_one_below_the_other() -> None:
    first, second = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(1, 3))
    made = cast(torch.bfloat16, first, second)
    assert torch.equal(made, torch.cat([first, second]).detach().bfloat16())
    assert not made.requires_grad
    assert cast(torch.float32, first).data_ptr() == first.data_ptr(), "nothing is copied that need not be"
