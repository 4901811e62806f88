"""What is frozen stays as it is to the bit and runs without dropout; what cannot be frozen is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sftlib import Callback, FineTuner
from sftlib.errors import OptionError
from sftlib.models.frozen.freezing import body_of, freeze, layers_of
from sftlib.models.sizes import count_parameters
from sftlib.run import settle
from sftlib.testing import FAMILIES, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights

NAME = "text-classification"
WITH_LAYERS = tuple(family for family in FAMILIES if family != "albert")  # whose layers share one set of weights


def look_at(model: Any) -> Callable[[], object]:
    """Calls a model on a small row."""
    ids = torch.tensor([[3, 4]])
    return lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids))


def frozen_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_backbone_is_everything_but_the_head(family: str) -> None:
    model = tiny_model(family)
    freeze(model, "backbone", look_at(model))
    body = body_of(model)
    assert body is not None
    assert not any(parameter.requires_grad for parameter in body.parameters())
    assert 0 < count_parameters(model)[0] < count_parameters(model)[1] / 5


@pytest.mark.parametrize("family", WITH_LAYERS)
def test_a_number_is_the_lowest_layers_and_all_they_depend_on(family: str) -> None:
    model = tiny_model(family)
    layers, embeddings = layers_of(model), model.get_input_embeddings()
    assert layers is not None
    for count in (0, 1, 2):
        model.requires_grad_(True)
        freeze(model, count, look_at(model))
        assert not embeddings.weight.requires_grad
        for number, layer in enumerate(layers):
            trained = {parameter.requires_grad for parameter in layer.parameters()}
            assert trained == {number >= count}, (count, number)


def test_shared_positions_are_frozen_with_the_layers_below() -> None:
    """Both families add one table to the attention of every layer: training it would change what lies below."""
    for family, name in [("mpnet", "relative_attention_bias"), ("deberta-v2", "rel_embeddings")]:
        model = tiny_model(family)
        freeze(model, 1, look_at(model))
        assert any(name in frozen for frozen in frozen_names(model))
        assert any("classifier" in name for name in set(dict(model.named_parameters())) - frozen_names(model))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.LayerNorm.bias"], {"bert.embeddings.LayerNorm.bias"}),
        (["bert.embeddings"], {"bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.weight"}),
        (["*.layer.[0-1]", "bert.pooler.*"], {"bert.encoder.layer.1.output.dense.bias", "bert.pooler.dense.bias"}),
        (("bert.pooler.dense.bias",), {"bert.pooler.dense.bias"}),
    ],
)
def test_patterns_name_parameters_or_modules(patterns: Any, expected: set[str]) -> None:
    model = tiny_model("bert")
    freeze(model, patterns, look_at(model))
    assert expected <= frozen_names(model)
    assert "classifier.weight" not in frozen_names(model)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", ["backbone", 1])
def test_frozen_weights_stay_and_the_others_move(family: str, what: Any) -> None:
    if family == "albert" and what == 1:
        pytest.skip("shares its layers")
    before = tiny_model(family, 3).state_dict()
    tuner = tuner_for(NAME, family, freeze=what, max_steps=3, padding_free=False)
    tuner.fit(case_of(NAME).data(), progress=False)
    frozen = frozen_names(tuner.model)
    assert frozen
    for name, value in tuner.model.named_parameters():
        if name in frozen:
            assert torch.equal(value, before[name]), name
    assert not all(torch.equal(value, before[name]) for name, value in tuner.model.named_parameters())
    assert list(tuner.model.state_dict()) == list(before)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_only_the_constant_part_runs_without_dropout(family: str) -> None:
    data = case_of(NAME).data()
    modes: dict[str, set[bool]] = {}

    tuner = tuner_for(NAME, family, freeze=1, max_steps=2)

    class Look(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            layers = layers_of(training.model)
            assert layers is not None
            modes.setdefault("lower", set()).add(layers[0].training)
            modes.setdefault("upper", set()).add(layers[1].training)

    with pytest.MonkeyPatch.context() as patch:  # else the lower layer would not run at all
        patch.setattr(settle, "try_recall", lambda *_: "this is a test")
        tuner.fit(data, callbacks=[Look()], progress=False)
    assert modes == {"lower": {False}, "upper": {True}}


def test_the_dropout_of_a_head_on_a_frozen_body_stays() -> None:
    data = case_of(NAME).data()
    runs = [tuner_for(NAME, freeze="backbone", dropout=rate, max_steps=1) for rate in (0.0, 0.5)]
    found = [losses(run.fit(data, progress=False))[0] for run in runs]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("body", "freeze='body': expected 'backbone'"),
        (-1, "freeze=-1: expected 'backbone'"),
        (True, "freeze=True: expected 'backbone'"),
        (1.5, "freeze=1.5: expected 'backbone'"),
        ([], "list of patterns"),
        ([1], "list of patterns"),
    ],
)
def test_values_that_cannot_be(what: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tuner_for(NAME, freeze=what)


@pytest.mark.parametrize(
    ("family", "what", "message"),
    [
        ("bert", 3, "this model has 2 layers"),
        ("albert", 1, "cannot be found, or share their weights; use freeze='backbone'"),
        ("bert", ["bert.embedings"], r"no parameter matches 'bert.embedings'; did you mean 'bert.embeddings'\?"),
        ("bert", ["*.gate", "*.pooler", "*.up"], r"matches '\*.gate'.*\n.*matches '\*.up'"),
        ("bert", ["*"], "nothing is left to train"),
    ],
)
def test_parts_that_a_model_does_not_have(family: str, what: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tuner_for(NAME, family, freeze=what).fit(case_of(NAME).data(), progress=False)


class Plain(nn.Module):
    """A model of no known kind."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(300, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.head((self.table(input_ids) * attention_mask[..., None]).sum(1))


@pytest.mark.parametrize("what", ["backbone", 1])
def test_any_other_module_is_frozen_by_names(what: Any) -> None:
    data = case_of(NAME).data()
    with pytest.raises(OptionError, match=r"(Plain.*\n?.*)freeze=\['table.weight', ...\]"):
        FineTuner(Plain(), tokenizer=tiny_tokenizer(), freeze=what).fit(data, progress=False)
    module = Plain()
    tuner = FineTuner(module, tokenizer=tiny_tokenizer(), freeze=["table"], max_steps=2, learning_rate=0.1)
    tuner.fit(data, progress=False)
    assert torch.equal(tuner.model.table.weight, module.table.weight)
    assert not torch.equal(tuner.model.head.weight, module.head.weight)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_start_up_lines_count_and_tell(capsys: pytest.CaptureFixture[str]) -> None:
    tuner_for(NAME, freeze="backbone", max_steps=1).fit(case_of(NAME).data())
    printed = capsys.readouterr()
    assert "99 of " in printed.out + printed.err
    assert "frozen layers are computed once for each row" in printed.out + printed.err
    tuner_for(NAME, freeze=0, max_steps=1).fit(case_of(NAME).data())
    printed = capsys.readouterr()
    assert "computed anew in every step: no layer is constant" in printed.out + printed.err


def test_options_come_back_from_a_saved_folder(tmp_path: Any) -> None:
    patterns = ["*.embeddings", "*.layer.0"]
    tuner = tuner_for(NAME, freeze=patterns, max_steps=1).fit(case_of(NAME).data(), progress=False)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert again.get_params()["freeze"] == patterns
    assert same_weights(weights(again), weights(tuner))
    assert copy.deepcopy(tuner).predict("A film.") == tuner.predict("A film.")


def test_users_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    tuner_for(NAME, freeze=1, max_steps=1).fit(case_of(NAME).data(), progress=False)
    assert torch.equal(torch.get_rng_state(), before)
