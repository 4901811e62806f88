"""The pictures that a model fails on, in its report: which rows, in which order, and nothing that is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner, Image, TaskDataset
from sftlib.cards.pictures import _faults, worst_pictures
from sftlib.tasks.image.detection import Detected, DetectedObject
from sftlib.tasks.image.segmentation import Plane, Segmented
from sftlib.tasks.single_label import Classification
from sftlib.testing import pictures, scenes, tiny_image_model, tiny_image_processor

pytest.importorskip("PIL")

SCENES = scenes(4, classes=2, seed=0)


def facts(data: TaskDataset, predictions: list[Any], references: Any, **more: Any) -> Any:
    task = SimpleNamespace(label_names=data.label_names)
    right = np.array([getattr(p, "label", None) == true for p, true in zip(predictions, references, strict=True)])
    return SimpleNamespace(
        test=data, predictions=predictions, references=references, task=task, right=right, one_label=False, **more
    )


def test_labels_taken_for_others() -> None:
    rows = pictures(6, classes=2)
    data = TaskDataset(rows)
    said = ["square", "square", "square", "circle", "circle", "square"]  # true: circle, square, circle, ...
    sure = [0.6, 0.9, 0.8, 0.7, 0.9, 0.9]
    found = [Classification(label, p, {label: p}) for label, p in zip(said, sure, strict=True)]
    given = facts(data, found, [row["label"] for row in rows])
    given.one_label = True
    part = worst_pictures(given)
    assert part is not None
    assert re.findall("<h3>(.*?)</h3>", part.body) == ["circle, taken for square (2)", "square, taken for circle (1)"]
    assert re.findall("<figcaption>row (.)", part.body) == ["2", "0", "3"]  # the surest first
    assert part.body.count("data:image/png;base64,") == 3
    given.right[:] = True
    assert worst_pictures(given) is None


def test_faults_of_a_detector_by_hand() -> None:
    true = [
        {"label": "a", "box": (0, 0, 10, 10)},
        {"label": "b", "box": (20, 0, 30, 10)},
        {"label": "a", "box": (0, 0, 40, 40), "crowd": True},
    ]
    found = [("a", 0.9, (1, 0, 10, 10)), ("a", 0.8, (0, 0, 10, 10)), ("a", 0.7, (20, 0, 30, 10)), ("b", 0.1, (0,) * 4)]
    assert _faults(Detected(0.5, tuple(DetectedObject(*thing) for thing in found)), true) == (1, 2)
    assert _faults(Detected(0.5, ()), []) == (0, 0)


def test_pictures_of_a_detector() -> None:
    data = TaskDataset({role: [row[role] for row in SCENES] for role in ("image", "objects")})
    true = data.column("objects")
    right = [Detected(0.5, tuple(DetectedObject(t["label"], 0.9, t["box"]) for t in row)) for row in true]
    assert worst_pictures(facts(data, right, true)) is None
    part = worst_pictures(facts(data, [*right[:2], Detected(0.5, ()), right[3]], true))
    assert part is not None
    missed = len(true[2])
    assert re.findall("<h3>(.*?)</h3>", part.body) == [f"row 2: {missed} not found, 0 where there are none"]
    assert part.body.count("<img") == 2


def test_pictures_of_a_segmenter() -> None:
    data = TaskDataset.from_masks([r["image"] for r in SCENES], [r["mask"] for r in SCENES], names=["no", "c", "s"])
    kind: Any = data.kinds["mask"]
    true = [kind.classes(mask) for mask in data.view("mask")]
    found = [Segmented(("no", "c", "s"), {}, Plane(mask.astype(np.uint8))) for mask in true]
    assert worst_pictures(facts(data, found, true)) is None
    found[1] = Segmented(("no", "c", "s"), {}, Plane(np.zeros_like(true[1], np.uint8)))
    part = worst_pictures(facts(data, found, true))
    assert part is not None
    assert f"row 1: {(true[1] > 0).mean():.1%} of its pixels are wrong" in part.body


def test_a_report_has_them(tmp_path: Path) -> None:
    data = TaskDataset(pictures(24, classes=3))
    reading = Image(processor=tiny_image_processor("vit"))
    tuner = FineTuner(tiny_image_model("vit", num_labels=3), inputs=reading, max_steps=1, batch_size=8)
    tuner.fit(data, progress=False)
    tuner.report_card(tmp_path / "report.html", test=data, explain=0)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Pictures taken for others" in text
    assert not re.search(r"(?:src|href)=\"(?!#|data:)|url\(|@import|https?://|<script", text)
    words = TaskDataset({"text": ["a", "b"], "label": ["x", "y"]})
    assert worst_pictures(facts(words, [object()], [None])) is None
