"""Budgets from the memory of the device, and what `plan` says of it."""

from __future__ import annotations

import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.models.memory import memory_limit, tokens_of_a_pass
from tests.gpu.conftest import ON_A_CARD
from tests.gpu.models import TEXTS, sized, texts


def test_the_limit_is_that_of_the_device(device: str) -> None:
    limit = memory_limit(torch.device(device))
    if device == "cuda":
        assert limit == torch.cuda.get_device_properties(0).total_memory
    assert limit > 2**28
    model, _ = sized("bert", layers=2, width=128)
    plain, twice = (tokens_of_a_pass(model, torch.device(device), checkpointing=on) for on in (False, True))
    assert 2**9 <= plain <= twice


class Peak(Callback):
    """The most that a card held during any step."""

    def on_step_end(self, training: object, record: object) -> None:
        self.bytes = torch.cuda.max_memory_allocated()


@ON_A_CARD
@pytest.mark.parametrize(
    ("family", "layers", "width"), [("bert", 12, 768), ("modernbert", 22, 768), ("llama", 16, 1024)]
)
def test_the_budget_of_a_real_size_fits(family: str, layers: int, width: int) -> None:
    """Automatic micro-batches of a batch far larger than a pass: nothing runs out, and at most the share is taken."""
    model, tokenizer = sized(family, layers=layers, width=width)
    rows = {"text": texts(512, 512), "label": [str(i % 2) for i in range(512)]}
    torch.cuda.reset_peak_memory_stats()
    peak = Peak()
    tuner = FineTuner(model, tokenizer=tokenizer, device="cuda", batch_size=512, max_steps=2, max_length=512)
    tuner.fit(TaskDataset(rows), callbacks=[peak], progress=False)
    assert peak.bytes <= 0.8 * memory_limit(torch.device("cuda"))


def test_a_plan_is_measured_on_the_device(device: str) -> None:
    model, tokenizer = sized("bert", layers=2, width=64)
    rows = {"text": TEXTS[:16], "label": [str(i % 2) for i in range(16)]}
    tuner = FineTuner(model, tokenizer=tokenizer, device=device, max_length=64, batch_size=4, epochs=2)
    plan = tuner.plan(TaskDataset(rows))
    assert plan.steps == 8
    for way in plan.ways:
        assert way.step_seconds > 0
        assert way.longest_step_seconds > 0
        assert way.peak_bytes > 0 or device == "cpu"
