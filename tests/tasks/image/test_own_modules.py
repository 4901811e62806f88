"""Modules that are not of transformers: their output layer is replaced when told, or when it is certain which it is."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import FineTuner, Image, ImageClassification, ImageRegression, MultiLabelImageClassification, TaskDataset
from sftlib.errors import ArtifactError, OptionError
from sftlib.testing import pictures, tiny_image_model

pytest.importorskip("PIL")

ROWS = pictures(12, classes=3)
DATA = TaskDataset(ROWS)
READING = Image(size=16, mean=0.5, std=0.25, augment="none")


class Body(nn.Module):
    """Convolutions and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.narrow = nn.Conv2d(8, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.narrow(torch.relu(self.first(x)))).mean((2, 3))


def sequential(classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(body=Body(), hidden=nn.Linear(10, 10), act=nn.ReLU(), fc=nn.Linear(10, classes)))


class Pooled(nn.Module):
    """As SqueezeNet: the last convolution has the classes, and a mean comes behind it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, padding=1)
        self.classifier = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.classifier(torch.relu(self.features(x)))).mean((2, 3))


class Timm(nn.Module):
    """The protocol of timm's models."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(10, classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(10, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        return found


class Two(nn.Module):
    """Two layers of one width whose outputs are added: it cannot be told which is the last."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.left, self.right = nn.Linear(10, 7), nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.body(x)
        found: Tensor = self.left(seen) + self.right(seen)
        return found


def fitted(model: nn.Module, data: TaskDataset = DATA, **options: Any) -> FineTuner:
    more: dict[str, Any] = {"max_steps": 2, "batch_size": 6, "inputs": READING, "device": "cpu", **options}
    return FineTuner(model, **more).fit(data, progress=False)


@pytest.mark.parametrize(
    ("make", "layer"),
    [(sequential, "fc"), (lambda: Pooled(1000), "classifier"), (lambda: Timm(21_843), "head")],
)
def test_a_layer_that_is_certain_is_replaced_and_said(
    make: Any, layer: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with caplog.at_level(logging.WARNING, "sftlib"):
        tuner = fitted(model)
    assert "is replaced by a new one of 3" in caplog.text
    assert "reset_classifier" in caplog.text if isinstance(model, Timm) else f"layer {layer!r}" in caplog.text
    new = tuner.model.get_submodule(layer)
    assert next(new.parameters()).shape[0] == 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "it was handed in"
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model", model=make())
    assert again.predict(ROWS[0]["image"]) == tuner.predict(ROWS[0]["image"])
    with pytest.raises(ArtifactError, match="pass an instance to fill"):
        FineTuner.load(tmp_path / "model")


def test_nothing_is_replaced_where_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    model = sequential(3)
    tuner = fitted(model, learning_rate=1e-9, weight_decay=0.0)
    assert torch.allclose(tuner.model.get_submodule("fc").weight, model.fc.weight, atol=1e-6)  # type: ignore[arg-type]
    assert "replaced" not in caplog.text


def test_what_is_not_certain_is_asked_for() -> None:
    with pytest.raises(OptionError, match=r"cannot be told \(may be 'left', 'right'\): name it in the task"):
        fitted(Two())
    with pytest.raises(OptionError, match="output_layer='fcc': Sequential has no linear layer.*did you mean 'fc'"):
        fitted(sequential(), task=ImageClassification(output_layer="fcc"))
    with pytest.raises(OptionError, match="output_layer=3: expected the name of a layer"):
        ImageClassification(output_layer=3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="is of transformers, which makes its output layer by itself"):
        fitted(tiny_image_model("resnet", 3), task=ImageClassification(output_layer="classifier"))


def test_a_named_layer_is_replaced_whatever_comes_behind_it(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(body=Body(), fc=nn.Linear(10, 5), soft=nn.Softplus()))
    task = ImageClassification(output_layer="fc")
    tuner = fitted(model, task=task)
    assert tuner.model.get_submodule("fc").out_features == 3
    tuner.save(tmp_path / "model")
    blank = nn.Sequential(OrderedDict(body=Body(), fc=nn.Linear(10, 5), soft=nn.Softplus()))
    again = FineTuner.load(tmp_path / "model", model=blank)
    assert again.get_params()["task"] == task
    assert again.predict([row["image"] for row in ROWS]) == tuner.predict([row["image"] for row in ROWS])


def test_other_tasks_have_as_many_outputs_as_they_need() -> None:
    images = [row["image"] for row in ROWS]
    several = TaskDataset({"image": images, "labels": [["a"], ["b", "a"]] * 6})
    assert (
        len(fitted(sequential(), several, task=MultiLabelImageClassification()).predict(images[0]).probabilities) == 2
    )
    numbers = TaskDataset({"image": images, "target": np.linspace(0, 1, 12).tolist()})
    assert isinstance(fitted(sequential(), numbers, task=ImageRegression()).predict(images[0]).value, float)


def test_of_many_labels_the_first_five_are_looked_at() -> None:
    many = TaskDataset(pictures(12, classes=6))
    tuner = fitted(sequential(6), many)
    found = tuner.evaluate(many)
    ranks = [
        sorted(p.probabilities, key=lambda name: -p.probabilities[name]).index(label)
        for p, label in zip(tuner.predict(many), many.column("label"), strict=True)
    ]
    assert found["top_5_accuracy"] == pytest.approx(np.mean([rank < 5 for rank in ranks]))
    assert "top_5_accuracy" not in fitted(sequential(3)).evaluate(DATA)


def test_mean_and_deviation_are_those_that_were_asked_for() -> None:
    """(x - 127) / 128 of pixels from 0 to 255, as EfficientNet-lite wants them."""
    seen: list[Tensor] = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            found: Tensor = self.fc(x.mean((2, 3)))
            return found

    reading = Image(size=32, mean=127 / 255, std=(128 / 255,) * 3, augment="none")
    tuner = fitted(Looking(), inputs=reading)
    seen.clear()
    picture = pictures(1, classes=1, size=32)[0]["image"]
    tuner.predict(picture)
    expected = (torch.from_numpy(picture).permute(2, 0, 1).float() - 127) / 128
    assert torch.allclose(seen[-1][0], expected, atol=1e-5)
    for wrong in ({"std": 0}, {"mean": "0.5"}, {"mean": (0.5, 0.5)}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            Image(**wrong)
