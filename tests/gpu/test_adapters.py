"""Adapters on a card: trained, merged, saved and opened; on bases in 8 and 4 bits too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftlib import FineTuner, LoRA, Pretrained
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights
from tests.gpu.conftest import ON_A_CARD

peft = pytest.importorskip("peft", reason="peft is not installed here")

NAME = "text-classification"
SAME = 1e-5


def probabilities(tuner: FineTuner) -> list[float]:
    return [one.probability for one in tuner.predict(list(case_of(NAME).columns["text"][:12]))]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_an_adapter_is_merged_saved_and_opened(family: str, device: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"adapter": LoRA(r=4, dropout=0.1), "max_steps": 6, "learning_rate": 1e-2}
    tuner = tuner_for(NAME, family, device=device, **options).fit(case_of(NAME).data(), progress=False)
    expected = probabilities(tuner)
    again = tuner_for(NAME, family, device=device, **options).fit(case_of(NAME).data(), progress=False)
    assert same_weights(weights(again), weights(tuner))
    merged = tuner.merge()
    assert probabilities(merged) == pytest.approx(expected, abs=SAME)
    merged.save(tmp_path / "merged")
    assert probabilities(FineTuner.load(tmp_path / "merged")) == pytest.approx(expected, abs=SAME)


@ON_A_CARD
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantised_base_is_tuned_and_its_adapter_fits_the_whole_one(
    bits: str, bert_folder: str, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed here")
    data = case_of(NAME).data()
    tuner = FineTuner(
        Pretrained(bert_folder, quantize=bits), adapter=LoRA(r=4), max_steps=12, learning_rate=1e-2, warmup=0
    )
    tuner.fit(data, progress=False)
    assert min(losses(tuner)[-3:]) < losses(tuner)[0]
    expected = probabilities(tuner)
    tuner.save(tmp_path / "adapter")
    whole = FineTuner.load(tmp_path / "adapter", model=bert_folder)
    assert probabilities(whole) == pytest.approx(expected, abs=0.1)
