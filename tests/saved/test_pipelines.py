"""A saved detector in transformers' own pipeline: the same labels, scores and boxes as `predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers

from sftlib import FineTuner, Image, TaskDataset
from sftlib.testing import DETECTORS, scenes, tiny_detector, tiny_image_processor

pil = pytest.importorskip("PIL.Image")

ROWS = scenes(6, classes=2, seed=0)
DATA = TaskDataset({role: [row[role] for row in ROWS] for role in ("image", "objects")})


@pytest.mark.parametrize("family", DETECTORS)
def test_the_pipeline_of_transformers_finds_the_same(family: str, tmp_path: Path) -> None:
    reading = Image(processor=tiny_image_processor(family), augment="none")
    tuner = FineTuner(
        tiny_detector(family, num_labels=2), inputs=reading, max_steps=3, batch_size=6, learning_rate=1e-3
    )
    tuner.fit(DATA, progress=False).save(tmp_path / "model")
    pipeline = transformers.pipeline("object-detection", model=str(tmp_path / "model"))
    for row in ROWS[:3]:
        picture = np.pad(row["image"], ((0, 0), (0, 11), (0, 0)))  # wider than high: both sides are scaled by their own
        mine = tuner.predict(picture)
        sure = [thing.probability for thing in mine.candidates][:10]
        gap = int(np.argmin(np.diff(sure)))  # where the threshold is far from any probability
        cut = (sure[gap] + sure[gap + 1]) / 2
        theirs = pipeline(pil.fromarray(picture), threshold=cut)
        expected = mine.above(cut)
        assert len(theirs) == len(expected) > 0
        theirs.sort(key=lambda thing: -thing["score"])
        for one, other in zip(theirs, expected, strict=True):
            assert one["score"] == pytest.approx(other.probability, abs=1e-5)
        # Scores of a model that hardly learned may be equal, so that boxes are compared as a set.
        ours = sorted((str(thing.label), *map(int, np.trunc(thing.box))) for thing in expected)
        found = sorted((thing["label"], *(thing["box"][edge] for edge in _EDGES)) for thing in theirs)
        assert [label for label, *_ in found] == [label for label, *_ in ours]
        assert np.abs(np.array([box for _, *box in found]) - np.array([box for _, *box in ours])).max() <= 1


_EDGES = ("xmin", "ymin", "xmax", "ymax")
