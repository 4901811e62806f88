"""23: running out of memory halves the micro-batch, repeats the step, and changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sftlib import FineTuner, TaskDataset
from sftlib.models.memory import is_out_of_memory, memory_limit, tokens_of_a_pass
from tests.tiny import tiny_model, tiny_tokenizer

ROWS = [{"text": f"film {'good ' * (i % 7)}number {i}", "label": i % 2} for i in range(24)]


class Hungry(torch.nn.Module):
    """A classifier that cannot take more than a number of rows at once; counts how often it was asked."""

    def __init__(self, body: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.body = body
        self.most = most
        self.refused = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        if self.training and len(input_ids) > self.most:
            self.refused += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return self.body(input_ids=input_ids, attention_mask=attention_mask)


def fitted(most: int) -> FineTuner:
    model = Hungry(tiny_model("mpnet", dropout=0.1), most)  # MPNet: all of its dropout is made of modules
    tuner = FineTuner(model, tokenizer=tiny_tokenizer(), batch_size=8, max_steps=6, learning_rate=1e-3, warmup=0)
    return tuner.fit(TaskDataset(ROWS), progress=False)


def test_23_halves_and_repeats_the_step() -> None:
    clean, hungry = fitted(most=8), fitted(most=3)
    assert hungry.model.refused == 2, "8 rows, then 4 were too many; 2 fit, for good"
    assert clean.model.refused == 0
    for expected, found in zip(clean.history.steps, hungry.history.steps, strict=True):
        assert found["rows"] == expected["rows"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for (name, expected), found in zip(
        clean.model.state_dict().items(), hungry.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5, msg=name)


def test_23_gives_up_at_single_rows() -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        fitted(most=0)


def test_23_other_errors_are_not_mistaken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_23_budget_is_bounded() -> None:
    device = torch.device("cpu")
    assert memory_limit(device) > 2**20
    assert 2**9 <= tokens_of_a_pass(tiny_model("bert"), device) <= 2**14
