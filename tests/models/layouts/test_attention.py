"""The library's way through a model against the model's own way, for every family; and nothing of it remains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.testing import FAMILIES, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights

NAME = "text-classification"
LAYOUTS = [True, False]


def scores_of(tuner: FineTuner, texts: list[str], pairs: list[str] | None = None, attention: str | None = None) -> Any:
    """(B, K) probabilities of a plain padded call of the tuned model."""
    model: Any = tuner.model
    family = model.config.model_type
    tokenizer = tiny_tokenizer(family)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    before = model.config._attn_implementation
    if attention is not None:
        model.set_attn_implementation(attention)
    inputs = tokenizer(texts, pairs, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**inputs).logits.softmax(-1).tolist()
    model.set_attn_implementation(before)
    return found


@pytest.mark.parametrize("padding_free", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_are_those_of_the_models_own_attention(family: str, padding_free: bool) -> None:
    tuner = tuner_for(NAME, family, max_steps=8, learning_rate=1e-2, padding_free=padding_free)
    tuner.fit(case_of(NAME).data(), progress=False)
    texts = [*case_of(NAME).columns["text"], "a long story and every minute of it " * 9]
    found = [list(p.probabilities.values()) for p in tuner.predict(texts)]
    for attention in (None, *([] if family in ("mpnet", "deberta-v2") else ["eager"])):
        assert found == [pytest.approx(row, abs=2e-6) for row in scores_of(tuner, texts, attention=attention)]


@pytest.mark.parametrize("padding_free", LAYOUTS)
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "gpt2"])
def test_pairs(family: str, padding_free: bool) -> None:
    texts = case_of(NAME).columns["text"]
    pairs = list(reversed(texts))
    data = TaskDataset({"text": texts, "text_pair": pairs, "label": case_of(NAME).columns["label"]})
    tuner = tuner_for(NAME, family, max_steps=8, learning_rate=1e-2, padding_free=padding_free)
    tuner.fit(data, progress=False)
    found = [list(p.probabilities.values()) for p in tuner.predict(list(zip(texts, pairs, strict=True)))]
    assert found == [pytest.approx(row, abs=2e-6) for row in scores_of(tuner, texts, pairs)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layout_decides_nothing(family: str) -> None:
    """Dropout on, long rows beside short ones, and more than one length of window: the same losses and gradients."""
    words = "the music and every actor in it are warm and funny from start to end of this quiet film".split()
    texts = [" ".join((words * 4)[i % 7 : i % 7 + 1 + (i * 17) % 58]) for i in range(32)]
    data = TaskDataset({"text": texts, "label": case_of(NAME).columns["label"]})
    runs = []
    for padding_free, cut in ((False, 32), (True, 32), (True, 3)):
        tuner = tuner_for(NAME, family, max_steps=6, padding_free=padding_free, micro_batch_size=cut)
        runs.append(tuner.fit(data, progress=False))
    for other in runs[1:]:
        assert losses(other) == pytest.approx(losses(runs[0]), rel=1e-5)
        norms = [[record["grad_norm"] for record in run.history.steps] for run in (runs[0], other)]
        assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-5)


@pytest.mark.parametrize("padding_free", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_made_of_its_own_parts_afterwards(family: str, padding_free: bool, tmp_path: Path) -> None:
    original = tiny_model(family, 3)
    tuner = tuner_for(NAME, family, max_steps=1, padding_free=padding_free)
    tuner.fit(case_of(NAME).data(), case_of(NAME).data(3), progress=False)
    tuner.predict("A film.")
    model: Any = tuner.model
    assert [type(module) for module in model.modules()] == [type(module) for module in original.modules()]
    rates = [[m.p for m in each.modules() if isinstance(m, nn.Dropout)] for each in (model, original)]
    assert rates[0] == rates[1]
    assert model.config._attn_implementation == original.config._attn_implementation
    hooked = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert len(hooked) == len([m for m in original.modules() if m._forward_hooks or m._forward_pre_hooks])
    assert weights(tuner).keys() == original.state_dict().keys()
    assert all(p.grad is None for p in model.parameters())
    tuner.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "sftlib" not in json.dumps(config)
    assert not {key for key in config if key.startswith("_attn")}
    assert config["architectures"] == [type(original).__name__]


@pytest.mark.parametrize("padding_free", LAYOUTS)
def test_predicting_while_training_is_possible_in_every_layout(padding_free: bool) -> None:
    expected = tuner_for(NAME, max_steps=3, padding_free=padding_free).fit(case_of(NAME).data(), progress=False)
    tuner = tuner_for(NAME, max_steps=3, padding_free=padding_free)

    class Looks(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            tuner.predict(["A film.", "?"])
            tuner.evaluate(case_of(NAME).data(4))

    tuner.fit(case_of(NAME).data(), callbacks=[Looks()], progress=False)
    assert losses(tuner) == losses(expected)
    assert same_weights(weights(tuner), weights(expected))


def test_the_first_prediction_does_not_decide_the_later_ones(tmp_path: Path) -> None:
    """A loaded model meets one row first, and many afterwards: the same answers as the other way round."""
    tuner = tuner_for(NAME, max_steps=4, padding_free=True).fit(case_of(NAME).data(), progress=False)
    tuner.save(tmp_path / "model")
    texts = case_of(NAME).columns["text"]
    one_first, many_first = FineTuner.load(tmp_path / "model"), FineTuner.load(tmp_path / "model")
    one = one_first.predict(texts[3])
    many = many_first.predict(texts)
    assert one_first.predict(texts) == many
    assert many[3].probability == pytest.approx(one.probability, abs=1e-6)
