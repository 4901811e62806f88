"""COCO's own numbers, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def average_precisions(references: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """All that `sftlib.metrics.Detection` computes, of true and found objects of pictures; nan where COCO says -1."""
    labels = sorted(
        {thing["label"] for row in references for thing in row} | {_of(f, "label") for r in found for f in r}
    )
    number = {label: code for code, label in enumerate(labels, 1)}
    truth = COCO()
    annotations = [
        {
            "id": 0,
            "image_id": row,
            "category_id": number[thing["label"]],
            "bbox": _sides(thing["box"]),
            "area": _sides(thing["box"])[2] * _sides(thing["box"])[3],
            "iscrowd": int(thing.get("crowd", False)),
        }
        for row, things in enumerate(references)
        for thing in things
    ]
    for place, annotation in enumerate(annotations, 1):
        annotation["id"] = place
    truth.dataset = {
        "images": [{"id": row} for row in range(len(references))],
        "categories": [{"id": code} for code in number.values()],
        "annotations": annotations,
        "info": {},
    }
    results = [
        {
            "image_id": row,
            "category_id": number[_of(thing, "label")],
            "bbox": _sides(_of(thing, "box")),
            "score": _of(thing, "probability"),
        }
        for row, things in enumerate(found)
        for thing in things
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answers = truth.loadRes(results) if results else COCO()
        if not results:
            answers.dataset = {**truth.dataset, "annotations": []}
            answers.createIndex()
        judged = COCOeval(truth, answers, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    places = {"map": 0, "map_50": 1, "map_75": 2, "map_small": 3, "map_medium": 4, "map_large": 5, "mar_100": 8}
    return {name: math.nan if (value := float(judged.stats[place])) == -1 else value for name, place in places.items()}


def _of(thing: Any, name: str) -> Any:
    return thing[name] if isinstance(thing, dict) else getattr(thing, name)


def _sides(box: Sequence[float]) -> list[float]:
    left, upper, right, lower = box
    return [left, upper, right - left, lower - upper]
