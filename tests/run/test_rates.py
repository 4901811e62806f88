"""The learning rate of those who name none."""

import pytest
from torch import nn

from sftlib import FineTuner, LoRA
from sftlib.run.rates import DEEPER_HEAD, ONE_LAYER, WHOLE_MODEL, usual_rate
from sftlib.testing import tiny_image_model, tiny_model
from tests.contracts.cases import case_of, tuner_for

NAME = "text-classification"


@pytest.mark.parametrize(
    ("family", "frozen", "expected"),
    [
        ("bert", None, WHOLE_MODEL),
        ("bert", 1, WHOLE_MODEL),
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
