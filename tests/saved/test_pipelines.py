"""A saved detector in transformers' own pipeline: the same labels, scores and boxes as `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from sftlib import FineTuner, Image, TaskDataset
from sftlib.tasks.image.detection import DetectedObject
from sftlib.testing import DETECTORS, scenes, tiny_detector, tiny_image_processor

pil = pytest.importorskip("PIL.Image")

ROWS = scenes(6, classes=2, seed=0)
DATA = TaskDataset({role: [row[role] for row in ROWS] for role in ("image", "objects")})


def alike(theirs: dict[str, Any], mine: DetectedObject) -> bool:
    """Whether label, score and box are the same; the pipeline cuts edges to whole pixels."""
    edges = np.array([theirs["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")])
    near = bool(np.abs(edges - np.array(mine.box)).max() <= 1 + 1e-3)
    return near and theirs["label"] == mine.label and abs(theirs["score"] - mine.probability) < 1e-5


@pytest.mark.parametrize("family", DETECTORS)
def test_the_pipeline_of_transformers_finds_the_same(family: str, tmp_path: Path) -> None:
    """All candidates, whose probabilities may be equal in a model that hardly learned: each has its like."""
    reading = Image(processor=tiny_image_processor(family), augment="none")
    tuner = FineTuner(
        tiny_detector(family, num_labels=2), inputs=reading, max_steps=3, batch_size=6, learning_rate=1e-3
    )
    tuner.fit(DATA, progress=False).save(tmp_path / "model")
    pipeline = transformers.pipeline("object-detection", model=str(tmp_path / "model"))
    for row in ROWS[:3]:
        picture = np.pad(row["image"], ((0, 0), (0, 11), (0, 0)))  # wider than high: both sides are scaled by their own
        mine = tuner.predict(picture).candidates
        theirs = pipeline(pil.fromarray(picture), threshold=0.0)
        assert 0 < len(theirs) <= len(mine)  # RT-DETR's pipeline stops at one for each query
        assert all(any(alike(one, other) for other in mine) for one in theirs)
        least = min(one["score"] for one in theirs)
        sure = [other for other in mine if other.probability > least + 1e-5]
        assert len(theirs) == len(mine) or len(sure) < len(theirs)
        assert all(any(alike(one, other) for one in theirs) for other in sure)
