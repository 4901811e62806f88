"""Heads of our own on a body of transformers: a saved folder needs nothing else to be opened, and is not believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from sftlib import FineTuner, Image, TaskDataset
from sftlib.errors import ArtifactError
from sftlib.models.detection.head import PlaceDetector
from sftlib.models.embedder import PlaceEmbedder
from sftlib.models.pyramid import PlaceSegmenter
from sftlib.saved import artifact
from sftlib.support import storage
from sftlib.testing import pictures, scenes, tiny_image_model

pytest.importorskip("PIL")

ROWS = scenes(8, classes=2, seed=0)
BOXES = TaskDataset({role: [row[role] for row in ROWS] for role in ("image", "objects")})
MASKS = TaskDataset.from_masks([r["image"] for r in ROWS], [r["mask"] for r in ROWS], names=["no", "circle", "square"])
BODIES = ("mobilenet_v2", "resnet")


def body(family: str = "mobilenet_v2") -> nn.Module:
    return tiny_image_model(family, auto_class="AutoModel")


def tuned(model: nn.Module, data: TaskDataset) -> FineTuner:
    tuner = FineTuner(model, task=data.task, inputs=Image(size=64), max_steps=1, batch_size=4, learning_rate=1e-3)
    return tuner.fit(data, progress=False)


@pytest.mark.parametrize("family", BODIES)
def test_a_detector_opens_alone(family: str, tmp_path: Path) -> None:
    tuner = tuned(PlaceDetector(body(family), labels=2, stride=8, channels=16), BOXES)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert isinstance(again.model, PlaceDetector)
    images = [row["image"] for row in ROWS]
    for one, other in zip(tuner.predict(images), again.predict(images), strict=True):
        assert one.candidates == other.candidates
    assert again.evaluate(BOXES)["map"] == tuner.evaluate(BOXES)["map"]


def test_a_segmenter_opens_alone_and_learns_on(tmp_path: Path) -> None:
    tuner = tuned(PlaceSegmenter(body(), labels=3, channels=16), MASKS)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    found = again.predict(ROWS[0]["image"])
    assert np.array_equal(found.mask, tuner.predict(ROWS[0]["image"]).mask)
    assert not (tmp_path / "model" / "config.json").exists()  # transformers would take it for the body
    assert "library_name: sftlib" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    again.fit(MASKS, progress=False)


def test_an_embedder_opens_alone(tmp_path: Path) -> None:
    faces = TaskDataset(pictures(8, classes=2), task="image-embedding")
    tuner = tuned(PlaceEmbedder(body(), width=16, rows=2, columns=3), faces)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    for row in faces:
        assert np.array_equal(again.predict(row["image"]).embedding, tuner.predict(row["image"]).embedding)


def test_a_body_of_another_make_is_asked_for(tmp_path: Path) -> None:
    model = PlaceDetector(nn.Conv2d(3, 8, 4, stride=4), labels=2, channels=8)
    tuned(model, BOXES).save(tmp_path / "model")
    with pytest.raises(ArtifactError, match="pass an instance to fill as model="):
        FineTuner.load(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model", model=model).task == "object-detection"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heads") / "model"
    tuned(PlaceDetector(body(), labels=2, stride=8, channels=16), BOXES).save(path)
    return path


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        for name in path[:-1]:
            settings = settings[name]
        settings[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("head", value="PlaceDestroyer"), "expected head"),
        (_set("more", value=1), "expected head"),
        (_set("options", "labels", value=3), "does not have the 2 outputs of the task"),
        (_set("options", "channels", value=2**30), "channels=1073741824: expected a whole number"),
        (_set("options", "channels", value=4096), "far more|more weights, or larger ones|does not fit|another shape"),
        (_set("options", "stride", value="8"), "stride='8': expected a whole number"),
        (_set("options", "speed", value=8), "cannot be used"),
        (_set("body", "model_type", value="nothing"), "model_type 'nothing', which transformers does not know"),
        (_set("body", "auto_map", value={"AutoModel": "x.Y"}), "auto_map, which is not allowed here"),
        (_set("body", "_name_or_path", value="/etc"), "which is not allowed here"),
        (_set("body", "model_type", value="resnet"), "head.json cannot be used|does not fit|another"),
        (_set("body", "num_channels", value=2**40), "far more than"),
    ],
)
def test_what_a_folder_says_is_not_believed(
    change: Callable[[dict[str, Any]], None], said: str, folder: Path, tmp_path: Path
) -> None:
    """With a manifest that is right, as whoever made such a folder would write it."""
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "head.json").read_text())
    change(settings)
    (copy / "head.json").write_text(json.dumps(settings))
    (copy / storage.MANIFEST).unlink()
    storage.write_manifest(copy, kind=artifact._KIND, free=["README.md"], libraries={})
    with pytest.raises(ArtifactError, match=said):
        FineTuner.load(copy)
