"""Heads of our own on bodies of any make: what they take, and that no picture depends on another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import Detection, FineTuner, Image, SemanticSegmentation, TaskDataset
from sftlib.errors import OptionError
from sftlib.models.detection.head import PlaceDetector
from sftlib.models.pyramid import PlaceSegmenter
from sftlib.testing import scenes, tiny_image_model

ROWS = scenes(24, classes=2, size=32, seed=0)
BOXES = TaskDataset({role: [row[role] for row in ROWS] for role in ("image", "objects")})
MASKS = TaskDataset({role: [row[role] for row in ROWS] for role in ("image", "mask")})


class Maps(nn.Module):
    """A body that hands out two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, stride=4)
        self.second = nn.Conv2d(8, 12, 2, stride=2)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = self.first(pixels).relu()
        return [fine, self.second(fine)]


BODIES = [Maps, lambda: tiny_image_model("mobilenet_v2", auto_class="AutoModel", dropout=0.0)]


@pytest.mark.parametrize("body", BODIES)
def test_a_picture_depends_on_no_other(body: Any) -> None:
    detector = PlaceDetector(body(), labels=2).eval()
    pixels = torch.randn(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = detector(pixels)
        alone = [detector(row[None]) for row in pixels]
    assert whole.logits.shape == (5, 2, 8, 12)
    assert torch.allclose(whole.logits, torch.cat([one.logits for one in alone]), atol=1e-5)
    assert torch.allclose(whole.pred_boxes, torch.cat([one.pred_boxes for one in alone]), atol=1e-5)
    assert (whole.pred_boxes > 0).all()


def test_equal_seeds_make_equal_heads() -> None:
    one, same, other = (PlaceSegmenter(nn.Conv2d(3, 8, 4, stride=4), 2, seed=seed).scores.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_bodies_and_numbers_that_will_not_do() -> None:
    with pytest.raises(OptionError, match="body=Flatten: it returned Tensor without a map of features"):
        PlaceDetector(nn.Flatten(), labels=2)
    with pytest.raises(OptionError, match="labels=0"):
        PlaceDetector(Maps(), labels=0)
    with pytest.raises(OptionError, match="channels=12: expected a multiple of 8"):
        PlaceSegmenter(Maps(), labels=2, channels=12)


@pytest.mark.parametrize("micro", [1, 5])
def test_a_run_does_not_depend_on_how_it_is_cut(micro: int) -> None:
    losses = []
    for size in (8, micro):
        tuner = FineTuner(
            seeded_detector(),
            task="object-detection",
            inputs=Image(size=32, augment="light"),
            max_steps=4,
            batch_size=8,
            micro_batch_size=size,
            learning_rate=1e-3,
            precision="fp32",
        )
        tuner.fit(BOXES, progress=False)
        losses.append([record["loss"] for record in tuner.history.steps])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def seeded_detector() -> PlaceDetector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PlaceDetector(Maps(), labels=2)


def test_shapes_are_found_after_a_while(tmp_path: Path) -> None:
    tuner = FineTuner(
        seeded_detector(),
        task=Detection(threshold=0.2),
        inputs=Image(size=64, augment="none"),
        max_steps=150,
        batch_size=12,
        learning_rate=5e-3,
        precision="fp32",
    )
    tuner.fit(BOXES, progress=False)
    assert tuner.evaluate(BOXES)["map_50"] > 0.8
    found = tuner.predict(ROWS[0]["image"])
    assert [thing.label for thing in found.objects] == [thing["label"] for thing in ROWS[0]["objects"]]
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model", model=seeded_detector())
    assert again.predict(ROWS[0]["image"]) == found


def test_pixels_are_labelled_after_a_while() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlaceSegmenter(Maps(), labels=3)
    options = {"max_steps": 100, "batch_size": 12, "learning_rate": 5e-3, "precision": "fp32"}
    tuner = FineTuner(model, task="semantic-segmentation", inputs=Image(size=64, augment="none"), **options)
    tuner.fit(MASKS, progress=False)
    assert tuner.evaluate(MASKS)["miou"] > 0.7


def test_a_model_of_other_labels_is_told() -> None:
    tuner = FineTuner(PlaceDetector(Maps(), labels=5), task="object-detection", inputs=Image(size=32), max_steps=1)
    with pytest.raises(OptionError, match=r"logits of shape \(1, 5, 8, 8\) .* needs \(1, queries, 2 or 3\)"):
        tuner.fit(BOXES, progress=False)


def test_rare_labels_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    masks = [np.zeros((32, 32), np.uint8) for _ in range(4)]
    for mask in masks:
        mask[:3, :3] = 1
    images = [np.full((32, 32, 3), 100, np.uint8) for _ in masks]
    data = TaskDataset.from_masks(images, masks, names=["ground", "pole"])
    said = []
    for weights in (None, "sqrt"):
        tuner = FineTuner(
            PlaceSegmenter(Maps(), labels=2),
            task=SemanticSegmentation(class_weights=weights),
            inputs=Image(size=32),
            max_steps=1,
        )
        tuner.fit(data, progress=True)
        said.append("".join(capsys.readouterr()))
    assert "fewer than 2% of the pixels are 'pole'" in said[0]
    assert "of the pixels are" not in said[1]


def test_a_body_is_frozen_under_a_head_of_our_own() -> None:
    body = tiny_image_model("mobilenet_v2", auto_class="AutoModel", dropout=0.0)
    model = PlaceSegmenter(body, labels=3, channels=16)
    tuner = FineTuner(model, task="semantic-segmentation", inputs=Image(size=32), max_steps=1, freeze="backbone")
    tuner.fit(MASKS, progress=False)
    assert isinstance(tuner.model, PlaceSegmenter)
    before, after = body.state_dict(), tuner.model.body.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(model.scores.weight, tuner.model.scores.weight)
    assert tuner.settings["learning_rate"] == PlaceSegmenter.usual_rate
