"""Turns that count in part: their weights are weights of the loss, whatever rows are cut into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import FineTuner, TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError
from sftlib.models.language.output_layers import Hidden
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.testing import LANGUAGE_MODELS, tiny_model
from tests.chat_templates import FORMATS
from tests.contracts.cases import encoder_for, losses, tuner_for

CAUSAL = "AutoModelForCausalLM"
Weights = Sequence[float | None]


def talk(number: int, weights: Weights, key: str = "weight") -> list[dict[str, Any]]:
    """Questions with an answer for each weight."""
    turns: list[dict[str, Any]] = []
    for k, weight in enumerate(weights):
        turns.append({"role": "user", "content": f"Say {number} and {k}."})
        said = {"role": "assistant", "content": f"It is {number} {'red ' * (k + 1)}{k}."}
        turns.append(said if weight is None else said | {key: weight})
    return turns


def data_of(weights: Sequence[Weights]) -> TaskDataset:
    return TaskDataset({"messages": [talk(i, row) for i, row in enumerate(weights)]})


GIVEN: list[Weights] = [(0.25, 1.0), (None, 0.5), (0.0, 0.1), (0.75,), (1, 0, 0.3), (None,)]


def columns(weights: Sequence[Weights], task: CausalLM, encoder: TextEncoder) -> dict[str, list[list[float]]]:
    data = data_of(weights)
    encoded = task.learned_from(data).encode(data, encoder)
    return {name: [part[i].tolist() for i in range(len(part))] for name, part in encoded.targets.items()}  # type: ignore[index, arg-type]


def chatml() -> TextEncoder:
    return TextEncoder(FORMATS["chatml"].tokenizer(), 512)


@pytest.mark.parametrize("train_on", ["completion", "last", "all"])
def test_every_token_has_the_weight_of_its_turn(train_on: str) -> None:
    """Against rows of which one turn alone is learned and the others are only read."""
    task, encoder = CausalLM(train_on=train_on), chatml()
    found = columns(GIVEN, task, encoder)
    for row, weights in enumerate(GIVEN):
        ones = talk_columns([1.0] * len(weights), task, encoder, number=row)
        expected = (ones != -100).astype(float)
        for k, weight in enumerate(weights):
            alone = talk_columns([float(j == k) for j in range(len(weights))], CausalLM(), encoder, number=row) != -100
            expected[alone & (ones != -100)] = 1.0 if weight is None else weight
        learned = np.array(found["tokens"][row]) != -100
        assert learned.tolist() == (expected > 0).tolist()
        assert np.array(found["weights"][row])[learned] == pytest.approx(expected[learned], rel=1e-6)


def talk_columns(weights: Weights, task: CausalLM, encoder: TextEncoder, *, number: int) -> np.ndarray[Any, Any]:
    """(T,) The targets of one conversation."""
    data = TaskDataset({"messages": [talk(number, weights)]})
    return np.asarray(task.learned_from(data).encode(data, encoder).targets["tokens"][0])  # type: ignore[index]


def batch_of(family: str) -> tuple[CausalLM, Batch]:
    data, encoder = data_of(GIVEN), encoder_for(family)
    task = CausalLM().learned_from(data)
    return task, task.collate(task.encode(data, encoder), np.arange(len(GIVEN)), encoder)


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_the_loss_is_that_of_a_plain_loop_over_tokens(family: str, smoothing: float) -> None:
    """Value, count and every gradient, through the layer that is looked at in parts and through plain scores."""
    task, batch = batch_of(family)
    task = CausalLM(label_smoothing=smoothing, learned=task.learned)
    model = tiny_model(family, dropout=0.0, auto_class=CAUSAL)
    outputs = task.ask(model, lambda module, inputs: module(**inputs), batch.inputs)
    assert isinstance(outputs, Hidden)
    scores = torch.log_softmax(model(**batch.inputs).logits, dim=-1)
    total, count = torch.zeros(()), 0.0
    for i, row in enumerate(batch.targets["tokens"].tolist()):
        for t, token in enumerate(row[1:]):
            if token != -100:
                weight = float(batch.targets["weights"][i, t + 1])
                total -= weight * ((1 - smoothing) * scores[i, t, token] + smoothing * scores[i, t].mean())
                count += weight
    for seen in (outputs, model(**batch.inputs)):
        found = task.loss(seen, batch)
        assert float(found.total.detach()) == pytest.approx(float(total.detach()), rel=1e-5)
        assert float(found.count) == pytest.approx(count, rel=1e-6)
        own = gradients(model, found.total)
        again = task.ask(model, lambda module, inputs: module(**inputs), batch.inputs)
        assert float(task._judged(again, batch)[0].total.detach()) == pytest.approx(float(total.detach()), rel=1e-5)
        scores = torch.log_softmax(model(**batch.inputs).logits[:, :-1], dim=-1)
        learned = batch.targets["tokens"][:, 1:]
        mask = batch.targets["weights"][:, 1:] * (learned != -100)
        picked = scores.gather(2, learned.clamp(min=0)[..., None])[..., 0]
        plain = -(((1 - smoothing) * picked + smoothing * scores.mean(dim=2)) * mask).sum()
        for left, right in zip(own, gradients(model, plain), strict=True):
            assert float((left - right).abs().max()) <= 1e-6 * max(1.0, float(right.abs().max()))


def test_equal_weights_change_nothing_but_the_count() -> None:
    task, encoder = CausalLM(), encoder_for("llama")
    model = tiny_model("llama", dropout=0.0, auto_class=CAUSAL)

    def of(weight: float | None) -> tuple[float, float, Mapping[str, Any]]:
        data = data_of([(weight, weight), (weight,)])
        known = task.learned_from(data)
        batch = known.collate(known.encode(data, encoder), np.arange(2), encoder)
        loss = known.loss(known.ask(model, lambda module, inputs: module(**inputs), batch.inputs), batch)
        return float(loss.total.detach()), float(loss.count), batch.targets

    total, count, plain = of(None)
    assert set(plain) == {"tokens"}, "no column of weights where none is needed"
    assert of(1)[:2] == (total, count)
    half = of(0.5)
    assert half[0] == pytest.approx(total / 2, rel=1e-6)
    assert half[1] == count / 2


@pytest.mark.parametrize("options", [{"micro_batch_size": 1}, {"padding_free": False}], ids=str)
def test_how_rows_are_cut_changes_nothing(options: dict[str, Any]) -> None:
    data = data_of(GIVEN * 3)
    settings = {"max_steps": 4, "batch_size": 9, "precision": "fp32"}
    whole, cut = (
        tuner_for("causal-lm", "llama", **settings, **more).fit(data, progress=False)
        for more in ({"micro_batch_size": 9, "padding_free": True}, options)
    )
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5)
    norms = [run.history.steps[0]["grad_norm"] for run in (whole, cut)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert cut.evaluate(data, batch_size=2)["loss"] == pytest.approx(whole.evaluate(data)["loss"], rel=1e-4)


def test_windows_of_a_long_row_count_what_the_row_counts() -> None:
    data, counts = data_of(GIVEN), []
    tokenizer = FORMATS["chatml"].tokenizer()
    for task, limit in ((CausalLM(), 512), (CausalLM(over_long="split"), 24)):
        known, encoder = task.learned_from(data), TextEncoder(tokenizer, limit)
        encoded = known.encode(data, encoder)
        batch = known.collate(encoded, np.arange(len(encoded)), encoder)
        learned = batch.targets["tokens"][:, 1:] != -100
        counts.append(float(batch.targets["weights"][:, 1:][learned].sum()))
    assert counts[1] == pytest.approx(counts[0], rel=1e-6)


def test_what_is_evaluated_is_the_weighted_mean(tmp_path: Path) -> None:
    apart: list[Weights] = [(1.0, 0.0), (0.0, 1.0)]
    same = [talk(0, row) for row in apart]
    tuner = tuner_for("causal-lm", "llama", max_steps=2, precision="fp32").fit(data_of(GIVEN), progress=False)
    first, second = (tuner.evaluate(TaskDataset({"messages": [row]}))["loss"] for row in same)
    sizes = [
        sum(piece.tokens for piece in tuner.preview(TaskDataset({"messages": [row]}), 0) if piece.learned)
        for row in same
    ]
    mixed = TaskDataset({"messages": [talk(0, (0.2, 0.6))]})
    expected = (0.2 * sizes[0] * first + 0.6 * sizes[1] * second) / (0.2 * sizes[0] + 0.6 * sizes[1])
    assert tuner.evaluate(mixed)["loss"] == pytest.approx(expected, rel=1e-5)
    tuner.save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").evaluate(mixed)["loss"] == tuner.evaluate(mixed)["loss"]


def test_rows_from_arrow_and_several_keys_say_the_same() -> None:
    datasets = pytest.importorskip("datasets")
    rows = [talk(0, (0.25, None)), talk(1, (None, None))]
    for given in (datasets.Dataset.from_dict({"messages": rows}), {"messages": rows}):
        data = TaskDataset(given)
        task = CausalLM().learned_from(data)
        encoded = task.encode(data, chatml())
        assert sorted({round(float(w), 6) for w in encoded.targets["weights"][0]}) == [0.0, 0.25, 1.0]  # type: ignore[index]
    both = talk(0, (0.5,), key="train")
    both[1]["weight"] = 0.25
    assert max(columns([(0.25,)], CausalLM(), chatml())["weights"][0]) == 0.25
    data = TaskDataset({"messages": [both]})
    assert max(CausalLM().learned_from(data).encode(data, chatml()).targets["weights"][0]) == 0.25  # type: ignore[index, type-var]


@pytest.mark.parametrize("weight", [-0.1, 1.01, 2, float("inf"), "0.5", [0.5]])
def test_what_is_no_share_is_refused_with_its_row_and_turn(weight: Any) -> None:
    with pytest.raises(DataError, match=r"no number from 0 to 1: row 1 \(.*turn 3: weight\)"):
        TaskDataset({"messages": [talk(0, (1,)), talk(1, (1, weight))]})
    assert len(TaskDataset({"messages": [talk(0, (1,)), talk(1, (1, weight))]}, on_invalid="drop")) == 1
