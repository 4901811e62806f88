"""Regressions answer in fp32, whatever the other layers compute in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sftlib import TextRegression
from sftlib.testing import tiny_model

INPUTS = {"input_ids": torch.arange(5, 53).view(8, 6) % 50, "attention_mask": torch.ones(8, 6, dtype=torch.long)}


def call(model: Any, inputs: Any) -> Any:
    return model(**inputs)


def test_numbers_far_from_zero_keep_their_digits_in_bf16() -> None:
    model: Any = tiny_model("bert", 1).eval()
    with torch.no_grad():
        model.classifier.bias.fill_(1001.0)
        exact = call(model, INPUTS).logits
        with torch.autocast("cpu", torch.bfloat16):
            coarse = call(model, INPUTS).logits
            found = TextRegression().ask(model, call, INPUTS).logits
    assert coarse.dtype == torch.bfloat16  # which has no number between 1,000 and 1,004
    assert len(set(coarse.flatten().tolist())) == 1
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == pytest.approx(exact.flatten().tolist(), abs=0.05)
    assert len(set(found.flatten().tolist())) == 8


def test_in_fp32_nothing_changes() -> None:
    model: Any = tiny_model("bert", 1).eval()
    with torch.no_grad():
        plain, found = call(model, INPUTS).logits, TextRegression().ask(model, call, INPUTS).logits
    assert torch.equal(plain, found)
    assert not model.classifier._forward_hooks
