"""Trust 19: NaN or infinity in an input, a loss or a gradient never reaches the weights, nor a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sftlib import Callback, FineTuner
from sftlib.errors import NonFiniteError
from sftlib.testing import tiny_tokenizer
from tests.trust.conftest import Figure
from tests.trust.runs import assert_same, data, newest_step, raising, result

AT = 4  # the step that is poisoned


class Fragile(nn.Module):
    """A small model with a place to poison: its inputs, its scores (and so the loss), or one gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(512, 16)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(16, 3)
        self.where, self.value, self.on = "", 0.0, False

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        inputs = self._poisoned("input", self.table(input_ids))
        mean = (inputs * attention_mask[:, :, None]).sum(1) / attention_mask.sum(1, keepdim=True)
        hidden = self.drop(mean)
        if self.on and self.where == "gradient" and hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient * self.value)
        return self._poisoned("loss", self.head(hidden))

    def _poisoned(self, where: str, x: Tensor) -> Tensor:
        if not (self.on and self.where == where):
            return x
        mask = torch.zeros(len(x), *[1] * (x.dim() - 1))
        mask[0] = self.value  # one row of the batch
        return x + mask


class Poison(Callback):
    """Switches the poison on for one step; without it, only the type is the same."""

    def __init__(self, where: str, value: float) -> None:
        self.where = where
        self.value = value
        self.before: dict[str, Tensor] = {}

    def on_step_end(self, training: Any, record: Any) -> None:
        model = training.model
        model.where, model.value, model.on = self.where, self.value, bool(self.where) and training.step == AT - 1
        if training.step == AT - 1:
            self.before = {name: value.clone() for name, value in model.state_dict().items()}


def run(poison: Poison, **saving: Any) -> FineTuner:
    torch.manual_seed(0)
    tuned = FineTuner(Fragile(), tokenizer=tiny_tokenizer(), epochs=2, batch_size=4, learning_rate=1e-2, device="cpu")
    try:
        tuned.fit(*data(), callbacks=[poison], progress=False, **saving)
    except NonFiniteError as error:
        error.tuned = tuned  # type: ignore[attr-defined]
        raise
    return tuned


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["input", "loss", "gradient"])
def test_19_poison_at_a_step(where: str, value: float, tmp_path: Path, figure: Figure) -> None:
    expected = result(run(Poison("", 0.0)))
    poison = Poison(where, value)
    with raising(NonFiniteError) as caught:
        run(poison, output_dir=tmp_path / "run", save_every=1)

    error: Any = caught[0]
    assert error.step == AT
    assert error.rows, "the rows of the step are named"
    assert set(error.rows) <= set(range(len(data()[0])))
    assert f"step {AT}" in str(error)
    weights, history = result(error.tuned)
    assert all(torch.equal(weights[name], poison.before[name]) for name in weights), "weights before = after"
    last = [record for record in history if record["kind"] == "step"][-1]
    assert last["step"] == AT
    assert not math.isfinite(last["loss"]) or not math.isfinite(last["grad_norm"]), "the log shows it"
    assert last["loss"] != 0.0

    assert newest_step(tmp_path / "run") == AT - 1
    again = run(Poison("", 0.0), output_dir=tmp_path / "run", save_every=1, resume=True)
    assert_same(again, expected)
    figure("poisoned steps refused, checkpoint before them resumed bit-equal", "9 of 9")
