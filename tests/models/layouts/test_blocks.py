"""Attention in blocks is attention: of rows of any length, padded, at the ends, and backwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import ModernBertConfig, ModernBertForTokenClassification

from sftlib.models.layouts import attention
from sftlib.models.layouts.attention import PADDED, attend_padded
from sftlib.models.layouts.blocks import attend_in_blocks, block_of

FAR = torch.finfo(torch.float32).min


def numbers(length: int, lengths: list[int], window: int, causal: bool, seed: int = 0) -> dict[str, Any]:
    """Random queries, keys and values, and a mask of rows of ``lengths``."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(len(lengths), 2, length, 4, generator=generator) for _ in range(3))
    place = torch.arange(length)
    far = (place[:, None] - place).abs() >= window
    far = far | (place > place[:, None]) if causal else far
    hidden = far[None] | (place[None, None] >= torch.tensor(lengths)[:, None, None])
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, FAR)[:, None]  # (B, 1, T, T)
    return {"query": query, "key": key, "value": value, "attention_mask": mask}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "window"), [(160, 9), (161, 9), (191, 32), (200, 33), (400, 65)])
def test_it_is_attention_to_near_tokens(length: int, window: int, causal: bool) -> None:
    given = numbers(length, [length, length - 37, 3], window, causal)
    for x in ("query", "key", "value"):
        given[x].requires_grad_(True)
    size = block_of(given["query"], given["key"], given["attention_mask"], window)
    assert size == max(32, window)
    found, _ = attend_padded(nn.Identity(), **given, sliding_window=window)
    expected, _ = attend_padded(nn.Identity(), **given)
    real = (
        torch.arange(length)[None, :] < torch.tensor([length, length - 37, 3])[:, None]
    )  # (B, T); padding sees anything
    assert torch.allclose(found[real], expected[real], atol=1e-6)
    slopes = [
        torch.autograd.grad((x[real] ** 2).sum(), [given[n] for n in ("query", "key", "value")])
        for x in (found, expected)
    ]
    for ours, plain in zip(*slopes, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)


def test_only_where_it_is_worth_it_and_the_same() -> None:
    given = numbers(160, [160], 9, False)
    query, key, mask = given["query"], given["key"], given["attention_mask"]
    assert block_of(query, key, mask, 9) == 32
    assert block_of(query, key, mask, None) is None, "every token is seen"
    assert block_of(query, key, None, 9) is None, "nobody says what is hidden"
    assert block_of(query, key, mask, 33) is None, "the row is short"
    assert block_of(query[:, :, :1], key, mask[:, :, :1], 9) is None, "what was written before is kept"


def test_weights_that_are_dropped_are_those_of_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend_in_blocks", None)  # must not be called
    given, module = numbers(160, [160], 9, False), nn.Identity()
    attend_padded(module.train(), **given, dropout=0.5, sliding_window=9)


def test_a_model_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        local_attention=16,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    )
    model = ModernBertForTokenClassification(config).eval()
    ids = torch.randint(5, 30, (3, 230))
    seen = (torch.arange(230)[None] < torch.tensor([230, 180, 20])[:, None]).long()
    with torch.inference_mode(), attention.attention(model, "eager"):
        expected = model(input_ids=ids, attention_mask=seen).logits
    calls: list[int] = []

    def counted(*args: Any) -> Any:
        calls.append(args[-1])
        return attend_in_blocks(*args)

    monkeypatch.setattr(attention, "attend_in_blocks", counted)
    with torch.inference_mode(), attention.attention(model, PADDED):
        found = model(input_ids=ids, attention_mask=seen).logits
    assert torch.allclose(found[seen.bool()], expected[seen.bool()], atol=1e-5)
    assert calls == [32, 32], "two layers of three see near tokens"
