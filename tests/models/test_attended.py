"""Attention with many heads, written out: the same as torch's, and its dropout is ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.models.attended import many_heads
from sftlib.models.dropout import DropoutMasks, FunctionDropout

ROWS, PLACES, WIDTH, HEADS = 3, 5, 8, 2


def arguments(**more: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(PLACES, ROWS, WIDTH, dtype=torch.float64)
    weights = {name: torch.randn(WIDTH, WIDTH, dtype=torch.float64) for name in "qkv"}
    return {
        "query": x,
        "key": x,
        "value": x,
        "embed_dim_to_check": WIDTH,
        "num_heads": HEADS,
        "in_proj_weight": torch.cat(list(weights.values())),
        "in_proj_bias": torch.randn(3 * WIDTH, dtype=torch.float64),
        "bias_k": None,
        "bias_v": None,
        "add_zero_attn": False,
        "dropout_p": 0.0,
        "out_proj_weight": torch.randn(WIDTH, WIDTH, dtype=torch.float64),
        "out_proj_bias": torch.randn(WIDTH, dtype=torch.float64),
        "training": True,
        **more,
    }


def untouched(weights: Tensor, p: float) -> Tensor:
    assert p == 0.3
    assert weights.shape == (ROWS, HEADS, PLACES, PLACES)
    return weights


SHUT = torch.zeros(ROWS, PLACES, dtype=torch.bool)
SHUT[1, 3:] = True


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"key_padding_mask": SHUT},
        {"key_padding_mask": torch.zeros(ROWS, PLACES, dtype=torch.float64).masked_fill(SHUT, -torch.inf)},
        {"attn_mask": torch.ones(PLACES, PLACES, dtype=torch.bool).triu(1), "key_padding_mask": SHUT},
        {"attn_mask": torch.linspace(-2, 2, ROWS * HEADS * PLACES**2, dtype=torch.float64).view(-1, PLACES, PLACES)},
        {
            "use_separate_proj_weight": True,
            "in_proj_weight": torch.empty(0),
            **{f"{name}_proj_weight": torch.eye(WIDTH, dtype=torch.float64) * (i + 1) for i, name in enumerate("qkv")},
        },
        {"in_proj_bias": None, "out_proj_bias": None},
    ],
)
def test_it_is_that_of_torch(more: dict[str, Any]) -> None:
    expected = functional.multi_head_attention_forward(**arguments(**more))
    found = many_heads(untouched, **arguments(**more, dropout_p=0.3))
    assert found is not None
    assert torch.allclose(found[0], expected[0], atol=1e-12)
    assert (found[1] is None) == (expected[1] is None)
    if found[1] is not None and expected[1] is not None:
        assert torch.allclose(found[1], expected[1], atol=1e-12)


@pytest.mark.parametrize("more", [{"dropout_p": 0.0}, {"training": False}, {"add_zero_attn": True}])
def test_the_rest_is_left_to_torch(more: dict[str, Any]) -> None:
    assert many_heads(untouched, **arguments(**{"dropout_p": 0.3, **more})) is None


def test_a_row_loses_the_same_weights_in_any_batch() -> None:
    """Alone, among others, and with padding behind it; as `torch.nn.MultiheadAttention` calls it."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.5, batch_first=True).train()
    x = torch.randn(ROWS, PLACES, WIDTH)
    masks = DropoutMasks(3)

    def run(rows: list[int], places: int) -> Tensor:
        given = torch.zeros(len(rows), places, WIDTH)
        given[:, :PLACES] = x[rows]
        padding = torch.arange(places).ge(PLACES).expand(len(rows), -1)
        with masks.laid_out(7, torch.tensor(rows)), FunctionDropout(masks):
            found: Tensor = layer(given, given, given, key_padding_mask=padding)[0][:, :PLACES]
        return found

    together = run([0, 1, 2], PLACES)
    assert torch.allclose(run([1], PLACES), together[1:2], atol=1e-6)
    assert torch.allclose(run([2, 0], PLACES + 4), together[[2, 0]], atol=1e-6)
    assert not torch.allclose(layer.eval()(x, x, x)[0], together, atol=1e-2), "something is dropped"
