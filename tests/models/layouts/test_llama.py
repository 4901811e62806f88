"""Fused decoder layers against the layers they stand in for: scores, every gradient, and where they are not used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoConfig

from sftlib.models.layouts.layout import Flat, Fused, Layout, Padded
from sftlib.models.layouts.llama import FusedDecoderLayer, parts_of
from sftlib.models.outputs import logits
from sftlib.models.structure import layers_of
from tests.models.layouts.rounding import require_rounding_of_autocast
from tests.models.layouts.test_layout import (
    LENGTHS,
    batch_of,
    fitting_layout,
    forward_of,
    scores_and_gradient,
)
from tests.versions import layers_give_tensors, requires_flat

FUSED = ("llama", "mistral", "qwen2")
WAY = Fused(first_only=False)
LANGUAGE_MODEL = "AutoModelForCausalLM"


def made(family: str, auto_class: str = "AutoModelForSequenceClassification", **options: Any) -> Any:
    """With twice as many heads as keys, scales of norms that are not 1, and biases that are not 0."""
    sizes = {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 66,
        "pad_token_id": 0,
        "sliding_window": None,
    }
    config = AutoConfig.for_model(family, **{**sizes, **options})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = getattr(transformers, auto_class).from_config(config)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("family", FUSED)
def test_scores_and_gradients_are_those_of_padded_layers(family: str) -> None:
    requires_flat("llama")
    model = made(family)
    batch = batch_of(model, LENGTHS)
    scores, gradient = scores_and_gradient(model, Padded(), batch)
    fused_scores, fused_gradient = scores_and_gradient(model, WAY, batch)
    assert (fused_scores - scores).norm() <= 1e-6 * scores.norm()
    assert (fused_gradient - gradient).norm() <= 1e-6 * gradient.norm()


def _norm_in_double(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What transformers computes in fp32 whatever it is given."""
    scale = torch.rsqrt(hidden.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * (hidden * scale)  # type: ignore[no-any-return]


@pytest.mark.parametrize("frozen", [(), (0,), (1,)], ids=["all learn", "first frozen", "last frozen"])
@pytest.mark.parametrize("family", FUSED)
def test_every_gradient_of_a_language_model_holds_by_itself_in_double_precision(
    family: str, frozen: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    requires_flat("llama")
    found = []
    norm: Any = type(made(family).model.norm)
    monkeypatch.setattr(norm, "forward", _norm_in_double)
    for way in (Padded(), WAY):
        model = made(family, LANGUAGE_MODEL).double().train()
        for number in frozen:
            model.model.layers[number].requires_grad_(False)
            parts = parts_of(model.model.layers[number])
            assert parts is not None
            assert FusedDecoderLayer(parts).fits
        batch = batch_of(model, LENGTHS)
        forward = forward_of(model, way)
        with forward.prepared():
            scores = logits(forward.train(batch, step=5))
            scores[batch.inputs["attention_mask"].bool()].square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    padded, fused = found
    assert padded.keys() == fused.keys()
    for name, gradient in padded.items():
        assert (fused[name] - gradient).norm() <= 1e-12 * gradient.norm(), name


def test_rounding_in_bf16_is_that_of_bf16() -> None:
    requires_flat("llama")
    model = made("llama")
    require_rounding_of_autocast(model, WAY, batch_of(model, LENGTHS))


class TestChoice:
    @pytest.mark.parametrize("family", FUSED)
    def test_layers_of_that_kind_are_fused(self, family: str) -> None:
        requires_flat("llama")
        model = made(family, LANGUAGE_MODEL)
        layout = fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True)
        assert isinstance(layout, Fused)
        inside: list[type] = []
        layers: Any = layers_of(model)
        look = model.base_model.embed_tokens.register_forward_hook(lambda *_: inside.extend(type(x) for x in layers))
        forward = forward_of(model, layout)
        with forward.prepared():
            forward.train(batch_of(model, LENGTHS), step=0)
        look.remove()
        assert set(inside) == {FusedDecoderLayer}
        assert FusedDecoderLayer not in {type(layer) for layer in layers}

    @pytest.mark.parametrize("family", ["gemma", "gemma2", "qwen3", "olmo"])
    def test_other_layers_are_left_alone(self, family: str) -> None:
        requires_flat("llama")
        model = made(family, LANGUAGE_MODEL, sliding_window=16)
        assert isinstance(fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True), Flat)

    @pytest.mark.parametrize(
        "options", [{"attention_dropout": 0.1}, {"attention_bias": True}, {"mlp_bias": True}, {"hidden_act": "gelu"}]
    )
    def test_what_is_not_quite_such_a_layer(self, options: dict[str, Any]) -> None:
        assert parts_of(_first_layer(made("llama"))) is not None
        assert parts_of(_first_layer(made("llama", **options))) is None

    def test_sums_that_are_weighted_are_seen_by_the_trial(self) -> None:
        """Granite's layers are made of the same parts; what it does with them cannot be seen from outside."""
        requires_flat("llama")
        for factor, expected in ((1.0, layers_give_tensors("granite")), (0.5, False)):
            model = made("granite", LANGUAGE_MODEL, residual_multiplier=factor)
            layout = fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True)
            assert isinstance(layout, Fused) is expected

    @pytest.mark.parametrize("part", ["self_attn.q_proj", "mlp.up_proj", "input_layernorm"])
    def test_parts_that_somebody_exchanged(self, part: str) -> None:
        class Adapted(nn.Linear):
            """Another layer's forward may do anything."""

        layer = _first_layer(made("llama"))
        parent, _, name = part.rpartition(".")
        setattr(layer.get_submodule(parent) if parent else layer, name, Adapted(32, 32))
        assert parts_of(layer) is None

    def test_a_sliding_window_is_seen_through_the_fall_back(self) -> None:
        """Layers that see only so far back give the padded model's scores, by themselves."""
        requires_flat("llama")
        model = made("mistral", sliding_window=4)
        assert parts_of(_first_layer(model)) is None
        batch = batch_of(model, LENGTHS)
        layout: Layout = fitting_layout(model, [batch], padding_free=True)
        assert not isinstance(layout, Fused)
        scores, gradient = scores_and_gradient(model, Padded(), batch)
        found, found_gradient = scores_and_gradient(model, layout, batch)
        assert (found - scores).norm() <= 1e-6 * scores.norm()
        assert (found_gradient - gradient).norm() <= 1e-6 * gradient.norm()


def _first_layer(model: Any) -> Any:
    return (layers_of(model, headless=True) or [None])[0]
