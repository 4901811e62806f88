"""The learning rate of those who name none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from sftlib import Callback, FineTuner, LoRA
from sftlib.errors import OptionError
from sftlib.models.pyramid import PlaceSegmenter
from sftlib.run.rates import DEEPER_HEAD, NARROW, ONE_LAYER, WHOLE_MODEL, Rates, rates_of, usual_rate
from sftlib.testing import tiny_image_model, tiny_model
from tests.contracts.cases import case_of, tuner_for

NAME = "text-classification"


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("family", "frozen", "expected"),
    [
        ("bert", None, NARROW),
        ("bert", 1, NARROW),
        ("bert", "backbone", ONE_LAYER),
        ("gpt2", "backbone", ONE_LAYER),
        ("roberta", "backbone", DEEPER_HEAD),
        ("distilbert", "backbone", DEEPER_HEAD),
    ],
)
def test_it_follows_what_is_trained(
    family: str, frozen: object, expected: float, capsys: pytest.CaptureFixture[str]
) -> None:
    tuner = tuner_for(NAME, family, freeze=frozen, learning_rate=None, max_steps=1)
    tuner.fit(case_of(NAME).data(), progress=True)
    assert tuner.settings["learning_rate"] == expected
    assert tuner.history.steps[0]["learning_rate"] <= expected
    assert f"peak rate {expected:.2g}" in "".join(capsys.readouterr())


def test_what_is_asked_for_is_kept() -> None:
    tuner = tuner_for(NAME, freeze="backbone", learning_rate=3e-4, max_steps=1).fit(
        case_of(NAME).data(), progress=False
    )
    assert tuner.settings["learning_rate"] == 3e-4


def test_of_adapters_pictures_and_models_of_ones_own() -> None:
    assert usual_rate(tiny_model("bert", 2), adapted=True) == pytest.approx(1e-3)
    picture = tiny_image_model("vit", 2)
    picture.base_model.requires_grad_(False)
    assert usual_rate(picture, adapted=False) == ONE_LAYER
    assert usual_rate(nn.Linear(2, 2), adapted=False) == WHOLE_MODEL
    own = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    own[0].requires_grad_(False)
    assert usual_rate(own, adapted=False) == WHOLE_MODEL
    own[1].requires_grad_(False)
    assert usual_rate(own, adapted=False) == ONE_LAYER
    assert usual_rate(own.requires_grad_(True), adapted=False, whole=3e-4) == 3e-4
    assert FineTuner("bert", adapter=LoRA()).get_params()["learning_rate"] is None


def test_the_head_has_its_own_and_layers_have_less_the_lower_they_are() -> None:
    model = tiny_model("bert", 2)
    layers = len(model.bert.encoder.layer)
    found = rates_of(model, 1e-4, head=1e-3, decay=0.5).own
    assert found["classifier.weight"] == found["classifier.bias"] == 1e-3
    assert f"bert.encoder.layer.{layers - 1}.output.dense.weight" not in found  # the top layer has all of the rate
    assert found["bert.encoder.layer.0.output.dense.weight"] == pytest.approx(1e-4 * 0.5 ** (layers - 1))
    assert found["bert.embeddings.word_embeddings.weight"] == pytest.approx(1e-4 * 0.5**layers)
    assert rates_of(model, 1e-4).own == {} == rates_of(model, 1e-4, head=1e-4).own


def test_heads_of_pictures_are_faster_where_no_rate_is_named() -> None:
    picture, own = tiny_image_model("vit", 2), PlaceSegmenter(nn.Conv2d(3, 8, 4, stride=4), 2)
    new = ["classifier.weight", "classifier.bias"]
    found = rates_of(picture, None, new=new)
    assert (found.whole, found.head, found.own) == (NARROW, ONE_LAYER, dict.fromkeys(new, ONE_LAYER))
    assert rates_of(picture, None).own == {}  # a head that was trained already
    assert rates_of(picture, 1e-3, new=new).own == {}  # whoever names one gets that one
    assert rates_of(picture, None, new=new, adapted=True).head is None
    assert rates_of(own, None).head == PlaceSegmenter.usual_rate
    own.body.requires_grad_(False)
    found = rates_of(own, None)
    assert (found.whole, found.head) == (PlaceSegmenter.usual_rate, None)
    picture.base_model.requires_grad_(False)
    assert rates_of(picture, None, new=new).head is None


def test_parts_that_cannot_be_found_are_told() -> None:
    with pytest.raises(OptionError, match="head_learning_rate: body and head of Linear cannot be told apart"):
        rates_of(nn.Linear(2, 2), 1e-3, head=1e-2)
    with pytest.raises(OptionError, match=r"layer_decay=0\.5: the layers of Linear cannot be found"):
        rates_of(nn.Linear(2, 2), 1e-3, decay=0.5)
    with pytest.raises(OptionError, match="layer_decay=0: expected a number above 0"):
        FineTuner("bert", layer_decay=0)
    with pytest.raises(OptionError, match="head_learning_rate=-1"):
        FineTuner("bert", head_learning_rate=-1)


def test_a_run_moves_what_has_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    tuner = tuner_for(NAME, learning_rate=0.0, head_learning_rate=1e-2, max_steps=2, weight_decay=0.0)
    tuner.fit(case_of(NAME).data(), progress=True)
    one = tuner_for(NAME, learning_rate=0.0, max_steps=2, weight_decay=0.0).fit(case_of(NAME).data(), progress=False)
    before, after = (dict(found.model.named_parameters()) for found in (one, tuner))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith("bert.")}
    assert tuner.settings["head_learning_rate"] == 1e-2
    assert "(0.01 of the head)" in "".join(capsys.readouterr())


def test_lower_layers_move_less(tmp_path: Path) -> None:
    options = {"learning_rate": 1e-3, "layer_decay": 0.1, "max_steps": 1, "weight_decay": 0.0, "warmup": 0}
    start = tuner_for(NAME, **{**options, "learning_rate": 0.0}).fit(case_of(NAME).data(), progress=False)
    tuner = tuner_for(NAME, **options).fit(case_of(NAME).data(), output_dir=tmp_path, progress=False)
    apart = {
        name: float((one - other).detach().abs().max())
        for (name, one), other in zip(tuner.model.named_parameters(), start.model.parameters(), strict=True)
    }
    top = len(tuner.model.bert.encoder.layer) - 1
    steps = [apart["bert.embeddings.word_embeddings.weight"]]
    steps += [apart[f"bert.encoder.layer.{number}.output.dense.weight"] for number in range(top + 1)]
    assert steps == pytest.approx([1e-3 * 0.1 ** (top + 1 - number) for number in range(top + 2)], rel=0.05)


@pytest.mark.parametrize(("width", "expected"), [(64, NARROW), (384, 1e-4), (512, 7.5e-5), (768, 5e-5), (1024, 5e-5)])
def test_narrow_bodies_take_larger_steps(width: int, expected: float) -> None:
    config = BertConfig(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9
    )
    with torch.device("meta"):
        model = BertForSequenceClassification(config)
    found = rates_of(model, None, new=["classifier.weight"])
    assert found == Rates(expected, ONE_LAYER, {"classifier.weight": ONE_LAYER})
    assert rates_of(model, None, new=["classifier.weight"], whole=3e-4).whole == 3e-4


def test_a_head_that_was_trained_keeps_the_rate_of_its_body() -> None:
    data = case_of(NAME).data()
    first = tuner_for(NAME, learning_rate=None, max_steps=1).fit(data, progress=False)
    again = tuner_for(NAME, learning_rate=None, max_steps=1).set_params(model=first.model).fit(data, progress=False)
    assert again.settings["head_learning_rate"] is None
    assert again.settings["learning_rate"] == first.settings["learning_rate"]


def test_it_goes_on_with_both_rates(tmp_path: Path) -> None:
    data, options = case_of(NAME).data(), {"max_steps": 4, "batch_size": 8, "head_learning_rate": 1e-2}
    whole = tuner_for(NAME, **options).fit(data, progress=False)
    first = tuner_for(NAME, **options)
    with pytest.raises(KeyboardInterrupt):
        first.fit(data, callbacks=[StopAfter(3)], output_dir=tmp_path, save_every=1, progress=False)
    again = tuner_for(NAME, **options)
    again.fit(data, callbacks=[StopAfter(9)], output_dir=tmp_path, save_every=1, resume=True, progress=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize(("frozen", "expected"), [(None, ONE_LAYER), (1, ONE_LAYER), ("backbone", None)])
def test_a_new_head_learns_faster(frozen: object, expected: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    tuner = tuner_for(NAME, freeze=frozen, learning_rate=None, max_steps=1).set_params(model=tiny_model("bert", 7))
    tuner.fit(case_of(NAME).data(), progress=True)
    assert tuner.settings["head_learning_rate"] == expected
    said = "peak rate 0.0002 (0.01 of the head)\n" if frozen != "backbone" else "peak rate 0.05\n"  # in one step
    assert said in "".join(capsys.readouterr())
