"""23: running out of memory halves the micro-batch, repeats the step, and changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sftlib import FineTuner, TaskDataset
from sftlib.models.memory import is_out_of_memory, memory_limit, tokens_of_a_pass
from sftlib.testing import tiny_model, tiny_tokenizer
from sftlib.train.forward import Forward
from tests.contracts.cases import NAMES, case_of, tuner_for
from tests.trust.conftest import Figure

#: Of the weights as one vector: Adam divides tiny gradients by their own size, and their rounding with them.
BOUND = 1e-6
#: Of a model that finds answers: they add the same to the score of every token, so their gradient is only rounding.
SHIFTS = ("qa_outputs.bias", "encoder.layer.1.output.LayerNorm.bias")
LOSS = 1e-6  # relative, of each step

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
    assert_close(clean, hungry)


def assert_close(clean: FineTuner, hungry: FineTuner) -> float:
    """The same rows and losses at each step, and the weights within the bound; how far they are apart."""
    for expected, found in zip(clean.history.steps, hungry.history.steps, strict=True):
        assert found["rows"] == expected["rows"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=LOSS)
    before, after = (as_vector(tuner) for tuner in (clean, hungry))
    apart = float((after - before).norm() / before.norm())
    assert apart <= BOUND
    return apart


def as_vector(tuner: FineTuner) -> torch.Tensor:
    """(P,) the weights, in float64."""
    left_out = SHIFTS if tuner.task == "question-answering" else ()
    found = [value for name, value in tuner.model.state_dict().items() if not name.endswith(left_out)]
    return torch.cat([value.double().flatten() for value in found])


WORST: dict[str, float] = {}


@pytest.mark.parametrize("name", NAMES)
def test_23_every_task_takes_the_same_steps(name: str, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout on."""

    def run(most: int) -> tuple[FineTuner, list[int]]:
        refused: list[int] = []

        def train(self: Forward, batch: Any, *, step: int) -> Any:
            if not torch.is_grad_enabled():  # a coupled batch is first computed without
                return original(self, batch, step=step)
            done.append(step)
            if step >= 2 and done.count(step) % 2 == 0 and len(batch.cost) > most:  # when a part has a gradient already
                refused.append(step)
                raise MemoryError
            return original(self, batch, step=step)

        done: list[int] = []
        monkeypatch.setattr(Forward, "train", train)
        tuner = tuner_for(name, batch_size=8, micro_batch_size=4, max_steps=6)
        return tuner.fit(case_of(name).data(), progress=False), refused

    original = Forward.train
    clean, none = run(most=4)
    hungry, refused = run(most=1)
    assert none == []
    assert refused[:2] == [2, 2], "fours, then twos were too many; single rows fit, for good"
    WORST[name] = assert_close(clean, hungry)
    figure("memory out at step 3, weights against the clean run, relative, worst", f"{max(WORST.values()):.1e}")
    figure("tasks that run out of memory and go on", len(WORST))


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
