"""fp32, bf16 and fp16: the same start, losses that fall, a loss scale that follows overflows, and the finite gate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sftlib import FineTuner
from sftlib.models.precision import Fp16
from tests.contracts.cases import case_of, losses, tuner_for

NEAR = {"fp32": 1e-5, "bf16": 3e-2, "fp16": 5e-3}


def fitted(name: str, family: str, precision: str, device: str, **options: Any) -> FineTuner:
    given = {"max_steps": 8, "batch_size": 16, "learning_rate": 3e-3, "warmup": 0, **options}
    return tuner_for(name, family, precision=precision, device=device, **given).fit(
        case_of(name).data(), progress=False
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("name", "family"), [("text-classification", "bert"), ("causal-lm", "llama"), ("image-classification", "vit")]
)
def test_each_type_learns_and_starts_alike(name: str, family: str, precision: str, device: str) -> None:
    tuner, plain = fitted(name, family, precision, device), fitted(name, family, "fp32", "cpu")
    assert tuner.settings["precision"] == precision
    assert losses(tuner)[0] == pytest.approx(losses(plain)[0], rel=NEAR[precision])
    assert min(losses(tuner)[-3:]) < losses(tuner)[0]
    assert {value.dtype for value in tuner.model.parameters()} == {torch.float32}


def test_an_overflow_halves_the_loss_scale_and_leaves_the_weights(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, float]] = []

    def noted(self: Fp16, finite: bool) -> bool:
        harmless = heard(self, finite)
        seen.append((finite, self.loss_scale))
        return harmless

    heard = Fp16.after_step
    monkeypatch.setattr(Fp16, "after_step", noted)
    monkeypatch.setattr(Fp16, "scale", lambda self, total: total * (2.0**127 if len(seen) == 2 else self.loss_scale))
    tuner = fitted("text-classification", "bert", "fp16", device, max_steps=4)
    assert [finite for finite, _ in seen] == [True, True, False, True]
    assert [scale for _, scale in seen] == [2.0**12, 2.0**12, 2.0**11, 2.0**11]
    assert len(losses(tuner)) == 4


def test_what_auto_takes(device: str) -> None:
    """On a card the type of its units; either way a choice with a reason that is written down."""
    tuner = fitted("text-classification", "bert", "auto", device, max_steps=1)
    if device == "cuda":
        assert tuner.settings["precision"] == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16")
    else:
        assert tuner.settings["precision"] == "fp32"  # layers this narrow gain nothing
