"""The rule that chooses a number format: by what processor and model are, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sftlib.models.precision import resolve_precision
from sftlib.models.sizes import NARROW
from sftlib.testing import tiny_model

WIDE, THIN = nn.Linear(2 * NARROW, NARROW), nn.Linear(2 * NARROW, NARROW - 1)


def chosen(model: nn.Module, device: str = "cpu", name: str = "auto") -> tuple[str, str]:
    found = resolve_precision(name, device=torch.device(device), model=model)
    return found.name, found.reason


def processor(monkeypatch: pytest.MonkeyPatch, **features: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **features}, raising=False)


@pytest.mark.parametrize(
    ("features", "expected", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16", "AMX"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16", "AVX512-BF16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, "fp32", "no instructions"),
        ({}, "fp32", "no instructions"),
    ],
    ids=["amx", "avx512-bf16", "avx512", "avx2"],
)
def test_of_processors(features: dict[str, bool], expected: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, **features)
    name, why = chosen(WIDE)
    assert name == expected
    assert reason in why
    narrow, _ = chosen(THIN)
    assert narrow == "fp32"


def test_a_torch_that_cannot_tell_takes_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert chosen(WIDE)[0] == "fp32"


def test_the_width_is_that_of_most_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head of two outputs, or one narrow layer, decides nothing."""
    processor(monkeypatch, avx512_bf16=True)
    assert chosen(nn.Sequential(WIDE, nn.Linear(NARROW, NARROW), nn.Linear(NARROW, 2)))[0] == "bf16"
    name, why = chosen(tiny_model("bert"))
    assert name == "fp32"
    assert f"narrower than {NARROW}" in why


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_of_cuda_devices(capability: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert chosen(THIN, "cuda")[0] == expected


def test_other_devices_take_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, amx_bf16=True)
    assert chosen(WIDE, "mps")[0] == "fp32"


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch)
    for name in ("fp32", "bf16", "fp16"):
        assert chosen(THIN, name=name) == (name, "as asked")
