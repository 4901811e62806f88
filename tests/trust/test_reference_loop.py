"""14: `FineTuner` against a loop of forty lines that anybody would write in plain PyTorch.

Where both lay rows out alike (padded: models that the library calls as they are) the weights are the same bit by bit.
Where the library lays rows end to end, sums are added in another order: the losses agree to 1e-5, and the weights as
closely as AdamW lets them, which divides by the gradient's own size and so magnifies rounding where that is small.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib import FineTuner
from sftlib.testing import FAMILIES, tiny_model, tiny_tokenizer
from sftlib.train.plan import ShuffledPlan
from sftlib.train.schedules import SCHEDULES
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights

STEPS, BATCH, RATE, DECAY = 20, 8, 2e-3, 0.1
LOSSES = {
    "text-classification": functional.cross_entropy,
    "multi-label-classification": functional.binary_cross_entropy_with_logits,
    "text-regression": functional.mse_loss,
}


class Plain(nn.Module):
    """A model that the library knows nothing about, and so calls on padded rows as it is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        scores: Tensor = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
        return scores


def network(name: str, family: str) -> Any:
    """A tiny model without dropout, and with the attention that everybody can read."""
    model = tiny_model(family, case_of(name).outputs, dropout=0.0)
    if family not in ("mpnet", "deberta-v2"):  # these know one attention only
        model.set_attn_implementation("eager")
    return model


def factor(schedule: str, step: int, warmup: int) -> float:
    """The learning rate's factor at a step from 0, written down once more."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (STEPS - warmup)
    return {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "constant": 1.0}[schedule]


def targets_of(name: str) -> torch.Tensor:
    columns = case_of(name).columns
    if name == "text-classification":
        return torch.tensor([sorted(set(columns["label"])).index(label) for label in columns["label"]])
    if name == "text-regression":
        return torch.tensor(columns["target"])[:, None]
    return torch.tensor([[float(label in row) for label in ("fun", "long", "sad")] for row in columns["labels"]])


def plain_loop(name: str, family: str, *, schedule: str, warmup: int, clip: float | None) -> tuple[Any, list[float]]:
    texts, targets = case_of(name).columns["text"], targets_of(name)
    model, tokenizer = network(name, family), tiny_tokenizer(family)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    plan, seen = ShuffledPlan(len(texts), batch_size=BATCH, seed=0), []
    model.train()
    for step in range(STEPS):
        rows = sorted(plan.rows(step).tolist(), key=lambda row: -len(tokenizer(texts[row])["input_ids"]))
        inputs = tokenizer([texts[row] for row in rows], padding=True, return_tensors="pt")
        total = LOSSES[name](model(**inputs).logits, targets[rows], reduction="sum")
        total.backward()
        count = targets[rows].numel()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= count
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([*matrices, *vectors], clip)
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor(schedule, step, warmup)
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(total.detach()) / count)
    return dict(model.state_dict()), seen


def tuned(name: str, family: str, *, wrap: bool, schedule: str, warmup: int, clip: float | None) -> FineTuner:
    model, tokenizer = network(name, family), tiny_tokenizer(family)
    if wrap and tokenizer.pad_token is None:
        model.config.pad_token_id = tokenizer.eos_token_id
    tuner = FineTuner(
        Plain(model) if wrap else model,
        tokenizer=tokenizer,
        max_steps=STEPS,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        learning_rate=RATE,
        weight_decay=DECAY,
        schedule=schedule,
        warmup=warmup,
        max_grad_norm=clip,
        precision="fp32",
        device="cpu",
    )
    return tuner.fit(case_of(name).data(), progress=False)


def assert_bit_equal(name: str, family: str, *, schedule: str, warmup: int, clip: float | None) -> None:
    expected, expected_losses = plain_loop(name, family, schedule=schedule, warmup=warmup, clip=clip)
    tuner = tuned(name, family, wrap=True, schedule=schedule, warmup=warmup, clip=clip)
    found = {key.removeprefix("inner."): value for key, value in weights(tuner).items()}
    assert losses(tuner) == pytest.approx(expected_losses, rel=1e-6)
    assert same_weights(found, expected)
    if clip is not None:  # else the clip would not have been tried
        assert max(record["grad_norm"] for record in tuner.history.steps) > clip


@pytest.mark.parametrize("clip", [None, 0.5], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_14_every_schedule_and_clip(schedule: str, clip: float | None) -> None:
    assert_bit_equal("text-classification", "distilbert", schedule=schedule, warmup=3, clip=clip)


@pytest.mark.parametrize("name", LOSSES)
def test_14_every_task(name: str) -> None:
    assert_bit_equal(name, "electra", schedule="linear", warmup=0, clip=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_14_every_family_in_the_librarys_own_layout(family: str) -> None:
    options: dict[str, Any] = {"schedule": "cosine", "warmup": 2, "clip": 0.3}
    expected, expected_losses = plain_loop("text-classification", family, **options)
    tuner = tuned("text-classification", family, wrap=False, **options)
    assert losses(tuner) == pytest.approx(expected_losses, rel=1e-5)
    found = weights(tuner)
    assert found.keys() == expected.keys()
    apart = torch.cat([(found[key] - expected[key]).abs().flatten() for key in found])
    assert float(apart.mean()) < 1e-4 * RATE
    assert float(apart.max()) < 0.05 * RATE


@pytest.mark.parametrize(
    ("given", "steps_of_warmup"), [(0.1, 2), (0.26, 6), (0.0, 0), (1.0, 20), (0, 0), (7, 7), (1, 1), (50, 20)]
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_14_learning_rates(schedule: str, given: float | int, steps_of_warmup: int) -> None:
    made = SCHEDULES[schedule](STEPS, given)
    for step in range(STEPS):
        assert made.factor(step) == pytest.approx(factor(schedule, step, steps_of_warmup), abs=1e-12)
        assert 0 < made.factor(step) <= 1  # no step is wasted on a rate of zero


def test_14_the_history_tells_the_rates_that_were_used() -> None:
    tuner = tuner_for("text-classification", max_steps=10, warmup=4, learning_rate=1e-3)
    tuner.fit(case_of("text-classification").data(), progress=False)
    rates = [record["learning_rate"] for record in tuner.history.steps]
    assert rates == pytest.approx([1e-3 * f for f in (0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)])
