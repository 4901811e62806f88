"""Language models of every family: loss and every gradient of a run against a plain loop that is written down here.

The loop knows nothing of the library: it writes conversations out by hand, reads one row at a time without padding, by
the model's own attention, and makes the logits of every position. Weights that serve as embeddings and as output layer
are tied in GPT-2 and Gemma and are not in Llama and Qwen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor

from sftlib import FineTuner, TaskDataset
from sftlib.models.language.output_layers import Hidden
from sftlib.run.assemble import assemble
from sftlib.run.settle import settled
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.testing import tiny_config
from sftlib.train.plan import Budget, ShuffledPlan
from tests.chat_templates import FORMATS

BOUND = 1e-6  # of the largest gradient of the model; of the loss itself
FAMILIES = ("llama", "gpt2", "qwen2", "qwen3", "gemma", "gemma3_text")
TOKENIZER = FORMATS["chatml"].tokenizer()
ROWS: list[list[tuple[str, str]]] = [
    [("user", "Name a river."), ("assistant", "The Rhine.")],
    [
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "So."),
        ("user", "Really?"),
        ("assistant", "Yes, é and ü!"),
    ],
    [("user", "Count."), ("assistant", "one two three four five six seven eight nine ten " * 3 + "and so on")],
    [("user", "A question that is much longer than what is said to it, again and again. " * 2), ("assistant", "No")],
    [("user", "?"), ("assistant", "!")],
]


class Found(NamedTuple):
    """Of all rows, not divided."""

    loss: float
    count: int
    gradients: dict[str, Tensor]


def model_of(family: str, dropout: float) -> Any:
    config = tiny_config(family, dropout=dropout)
    config.vocab_size, config.max_position_embeddings = 300, 256
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(config)


def by_hand(turns: Sequence[tuple[str, str]], train_on: str) -> tuple[Tensor, Tensor]:
    """(T,) tokens of a conversation in ChatML, and whether each is learned."""
    last = max(i for i, (role, _) in enumerate(turns) if role == "assistant")
    ids: list[int] = []
    learned: list[bool] = []
    for i, (role, words) in enumerate(turns):
        answer = role == "assistant" and (train_on != "last" or i == last)
        for text, is_answer in ((f"<|im_start|>{role}\n", False), (f"{words}<|im_end|>", answer), ("\n", False)):
            part = TOKENIZER(text, add_special_tokens=False)["input_ids"]
            ids += part
            learned += [is_answer or train_on == "all"] * len(part)
    return torch.tensor(ids), torch.tensor(learned)


def plain(family: str, train_on: str = "completion", smoothing: float = 0.0) -> Found:
    """The loss of all logits, row by row."""
    model = model_of(family, dropout=0.0).eval()
    total, count = torch.zeros(()), 0
    for turns in ROWS:
        ids, learned = by_hand(turns, train_on)
        scores = model(input_ids=ids[None]).logits[0, :-1]  # (T - 1, V)
        logs = scores - scores.logsumexp(dim=1, keepdim=True)
        at_target = logs.gather(1, ids[1:, None])[:, 0]
        losses = -(1 - smoothing) * at_target - smoothing * logs.mean(dim=1)
        total = total + losses[learned[1:]].sum()
        count += int(learned[1:].sum())
    total.backward()
    return Found(float(total.detach()), count, gradients_of(model))


def gradients_of(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(found) == len(list(model.parameters())), "every weight has a gradient"
    return found


def of_a_run(family: str, *, padding_free: bool, dropout: float = 0.0, cut: int = 8, **options: Any) -> Found:
    """What a training step of the library adds up before it divides."""
    data = TaskDataset({"messages": [[{"role": r, "content": c} for r, c in turns] for turns in ROWS]})
    given = {"tokenizer": TOKENIZER, "precision": "fp32", "device": "cpu", "padding_free": padding_free}
    tuner = FineTuner(model_of(family, dropout), **given)
    fitted = assemble(tuner._arguments, tuner._source, CausalLM(**options).learned_from(data))
    encoded = fitted.encode(data)
    fitted = settled(fitted, encoded)
    forward = fitted.forward()
    assert fitted.settings["layout"].startswith("padding-free" if padding_free else "padded")
    loss, count = 0.0, 0
    fitted.model.train()
    plan = ShuffledPlan(len(encoded), batch_size=len(encoded), seed=0)
    feed = fitted.feed(encoded, Budget(cut, 2**62), plan=plan)
    with forward.prepared():
        for batch in feed.step(0):
            outputs = forward.train(batch, step=0)
            assert isinstance(outputs, Hidden), "no logits of the whole"
            part, learned = fitted.task.loss(outputs, batch)
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
            count += int(learned)
    return Found(loss, count, gradients_of(fitted.model))


def hold(found: Found, expected: Found) -> None:
    """Hold loss and every gradient to the bound."""
    assert found.count == expected.count
    assert found.loss == pytest.approx(expected.loss, rel=BOUND)
    assert found.gradients.keys() == expected.gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
    apart = {name: float((found.gradients[name] - g).abs().max()) / largest for name, g in expected.gradients.items()}
    assert max(apart.values()) <= BOUND, apart


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_every_gradient_are_those_of_all_logits(family: str, padding_free: bool) -> None:
    hold(of_a_run(family, padding_free=padding_free), plain(family))


@pytest.mark.parametrize("options", [{"train_on": "last"}, {"train_on": "all"}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("family", ["qwen2", "gemma"])
def test_so_they_are_with_options(family: str, options: Mapping[str, Any]) -> None:
    expected = plain(family, str(options.get("train_on", "completion")), float(options.get("label_smoothing", 0.0)))
    hold(of_a_run(family, padding_free=True, **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_padded(family: str) -> None:
    """Dropout on: a mask is a function of the row and the position, not of the layout."""
    padded = of_a_run(family, padding_free=False, dropout=0.1)
    hold(of_a_run(family, padding_free=True, dropout=0.1), padded)
    hold(of_a_run(family, padding_free=True, dropout=0.1, cut=2), padded)
    with pytest.raises(AssertionError):
        hold(of_a_run(family, padding_free=True), padded)  # without dropout
