"""Previews show what the model will see, and predictions draw themselves."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import FineTuner, Image, ImageEmbedding, TaskDataset
from sftlib.encoders.draws import Draw
from sftlib.encoders.image.encoder import PIXELS, ImageEncoder
from sftlib.support.canvas import colour_of
from sftlib.tasks.image.detection import Detected, DetectedObject
from sftlib.tasks.image.pictures import told
from sftlib.tasks.image.segmentation import Plane, Segmented
from sftlib.testing import (
    pictures,
    scenes,
    tiny_detector,
    tiny_image_model,
    tiny_image_processor,
    tiny_segmenter,
)

pil = pytest.importorskip("PIL.Image")

ROWS = pictures(6, classes=3)
SCENES = scenes(6, classes=2, seed=1)


@pytest.mark.parametrize("family", ["vit", "resnet", "segformer", "mobilenet_v2"])
def test_pixels_are_those_that_were_normalised(family: str) -> None:
    """What the processor did is undone, to the rounding of a pixel."""
    encoder = ImageEncoder(tiny_image_processor(family))
    noise = np.random.default_rng(0).integers(0, 256, (*encoder.size, 3), dtype=np.uint8)
    values = torch.from_numpy(encoder._processed(noise, fits=True)[0])
    assert np.abs(encoder.pixels(values).astype(int) - noise.astype(int)).max() <= 1


def classifier(**options: Any) -> FineTuner:
    reading = Image(processor=tiny_image_processor("vit"), **options)
    return FineTuner(tiny_image_model("vit", num_labels=3), inputs=reading, seed=3)


def test_a_preview_is_what_training_sees() -> None:
    """The very rows that the feed hands out: those of the seed, the epoch and the number of the row."""
    data = TaskDataset(ROWS)
    shown = classifier(augment="light").preview(data, 4)
    assert [picture.caption.partition(":")[0] for picture in shown] == [
        "in evaluation",
        *(f"epoch {epoch}" for epoch in range(1, 6)),
    ]
    assert all(picture.caption.endswith(ROWS[4]["label"]) for picture in shown)
    tuner = classifier(augment="light")
    tuner.fit(data, progress=False)
    fitted = tuner._fitted
    assert fitted is not None
    encoded = fitted.task.encode(data, fitted.encoder)
    batch = fitted.task.collate(encoded, np.array([4]), fitted.encoder, partial(Draw, 3, 1))
    pixels = fitted.encoder.pixels(batch.inputs[PIXELS][0])
    scale = shown[2].pixels.shape[0] // pixels.shape[0]
    assert (shown[2].pixels[::scale, ::scale] == pixels).all()


def test_without_augmentation_there_is_one_look() -> None:
    assert len(classifier(augment="none").preview(TaskDataset(ROWS), 0)) == 1


def test_mixtures_name_both_labels() -> None:
    shown = classifier(mixup=1.0).preview(TaskDataset(ROWS), 0)
    assert any(", " in picture.caption for picture in shown[1:])
    assert told(torch.zeros(2), ["a", "b"]) == "no label"


def test_boxes_and_masks_are_drawn_where_they_came_to_lie() -> None:
    boxes = TaskDataset({role: [row[role] for row in SCENES] for role in ("image", "objects")})
    reading = Image(processor=tiny_image_processor("deformable_detr"), augment="light")
    detector = FineTuner(tiny_detector("deformable_detr", num_labels=2), inputs=reading)
    shown = detector.preview(boxes, 2)
    assert len(shown) == 6
    number = sorted({"circle", "square"}).index(SCENES[2]["objects"][0]["label"])
    assert (shown[0].pixels == colour_of(number)).all(-1).any()
    masks = TaskDataset.from_masks([r["image"] for r in SCENES], [r["mask"] for r in SCENES], names=["no", "c", "s"])
    reading = Image(processor=tiny_image_processor("segformer"), augment="light")
    shown = FineTuner(tiny_segmenter("segformer", num_labels=3), inputs=reading).preview(masks, 2)
    assert shown[0].caption == "in evaluation: 100% of the pixels count"
    assert len(shown) == 6


def test_pictures_of_identities() -> None:
    data = TaskDataset(ROWS, task="image-embedding")
    reading = Image(processor=tiny_image_processor("resnet"), augment="none")
    tuner = FineTuner(tiny_image_model("resnet", auto_class="AutoModel"), inputs=reading, task=ImageEmbedding())
    (one,) = tuner.preview(data, 1)
    assert one.caption == f"in evaluation: label {ROWS[1]['label']}"


def test_predictions_draw_themselves() -> None:
    picture = np.zeros((100, 120, 3), np.uint8)
    found = Detected(
        0.5, (DetectedObject("cat", 0.9, (20.0, 40.0, 60.0, 80.0)), DetectedObject("dog", 0.4, (0.0, 0.0, 9.0, 9.0)))
    )
    assert found.draw(picture).caption == "1 object"
    assert found.draw(picture, threshold=0.3).caption == "2 objects"
    assert (found.draw(picture).pixels[100, 40] == colour_of(0)).all()
    mask = np.zeros((100, 120), np.uint8)
    mask[:60] = 1
    painted = Segmented(("ground", "sky"), {}, Plane(mask))
    assert painted.draw(picture).caption == "sky: 60.0% of the picture"
    assert painted._repr_png_().startswith(b"\x89PNG")
