"""The learning rate of those who name none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from sftlib import Callback, FineTuner, LoRA
from sftlib.errors import OptionError
from sftlib.models.structure import head_of
from sftlib.run.rates import DEEPER_HEAD, NARROW, NEW_HEAD, ONE_LAYER, WHOLE_MODEL, Rates, usual_rates
from sftlib.testing import tiny_image_model, tiny_model, tiny_tokenizer
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
    assert tuner.settings["head_learning_rate"] == expected, "its head was trained"
    assert f"peak rate {expected:.2g}\n" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("frozen", "expected"), [(None, NEW_HEAD * NARROW), (1, NEW_HEAD * NARROW), ("backbone", ONE_LAYER)]
)
def test_a_new_head_learns_faster(frozen: object, expected: float, capsys: pytest.CaptureFixture[str]) -> None:
    tuner = tuner_for(NAME, freeze=frozen, learning_rate=None, max_steps=1).set_params(model=tiny_model("bert", 7))
    tuner.fit(case_of(NAME).data(), progress=True)
    assert tuner.settings["head_learning_rate"] == pytest.approx(expected)
    said = "peak rate 0.0002 (0.002 of the head)\n" if frozen != "backbone" else "peak rate 0.01\n"
    assert said in "".join(capsys.readouterr())


def test_what_is_asked_for_is_kept() -> None:
    tuner = tuner_for(NAME, freeze="backbone", learning_rate=3e-4, max_steps=1).fit(
        case_of(NAME).data(), progress=False
    )
    assert tuner.settings["learning_rate"] == 3e-4


def body(model: nn.Module, *, adapted: bool = False, whole: float | None = None) -> float:
    """The rate of a model that has all of its weights."""
    found = usual_rates(model, adapted=adapted, whole=whole)
    assert found.head == found.body
    return found.body


def test_of_adapters_pictures_and_models_of_ones_own() -> None:
    assert body(tiny_model("bert", 2), adapted=True) == pytest.approx(1e-3)
    picture = tiny_image_model("vit", 2)
    picture.base_model.requires_grad_(False)
    assert body(picture) == ONE_LAYER
    assert body(nn.Linear(2, 2)) == WHOLE_MODEL
    own = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    own[0].requires_grad_(False)
    assert body(own) == WHOLE_MODEL
    own[1].requires_grad_(False)
    assert body(own) == ONE_LAYER
    assert body(own.requires_grad_(True), whole=3e-4) == 3e-4
    assert FineTuner("bert", adapter=LoRA()).get_params()["learning_rate"] is None


@pytest.mark.parametrize(("width", "expected"), [(64, NARROW), (384, 1e-4), (512, 7.5e-5), (768, 5e-5), (1024, 5e-5)])
def test_narrow_bodies_take_larger_steps(width: int, expected: float) -> None:
    config = BertConfig(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9
    )
    with torch.device("meta"):
        model = BertForSequenceClassification(config)
    assert usual_rates(model, adapted=False, drawn=["classifier.weight"]) == Rates(
        expected, pytest.approx(10 * expected)
    )


def test_a_head_that_was_trained_keeps_the_rate_of_its_body() -> None:
    data = case_of(NAME).data()
    first = tuner_for(NAME, learning_rate=None, max_steps=1).fit(data, progress=False)
    again = tuner_for(NAME, learning_rate=None, max_steps=1).set_params(model=first.model).fit(data, progress=False)
    assert again.settings["head_learning_rate"] == again.settings["learning_rate"] == first.settings["learning_rate"]


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_a_head_learns_at_its_own_rate(rate: float) -> None:
    """As two groups of torch's own AdamW, on the gradients of the whole batch."""
    data, options = case_of(NAME).data(), {"max_steps": 1, "batch_size": 8, "dropout": 0.0, "warmup": 0}
    before = tuner_for(NAME, learning_rate=0.0, **options).fit(data, progress=False).model.state_dict()
    tuned = tuner_for(NAME, learning_rate=rate, head_learning_rate=1e-2, **options).fit(data, progress=False)
    plain = tuner_for(NAME, learning_rate=1e-2, **options).fit(data, progress=False).model.state_dict()
    assert tuned.settings["head_learning_rate"] == 1e-2
    for name, after in tuned.model.state_dict().items():
        if name in head_of(tuned.model):
            torch.testing.assert_close(after, plain[name], rtol=0, atol=1e-6)
            assert not torch.equal(after, before[name])
        else:  # the first step of Adam is the rate itself, whatever the gradient; a tenth of it at a tenth of the rate
            torch.testing.assert_close(
                after - before[name], (plain[name] - before[name]) * rate * 100, rtol=0, atol=1e-6
            )


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head_learning_rate": -1.0}, "head_learning_rate=-1.0"),
        ({"head_learning_rate": "fast"}, "at least 0, or None"),
    ],
)
def test_rates_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        FineTuner("bert", **options)


def test_no_head_no_rate_of_it() -> None:
    with pytest.raises(OptionError, match="no body and head that can be told apart"):
        FineTuner(nn.Linear(2, 2), task="text-classification", tokenizer=tiny_tokenizer(), head_learning_rate=1e-3).fit(
            case_of(NAME).data(), progress=False
        )
