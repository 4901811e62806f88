"""Average precision of boxes, beside pycocotools."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sftlib.errors import DataError, LabelError
from sftlib.metrics import Metrics
from tests.metrics.coco import average_precisions

NAMES = ["map", "map_50", "map_75", "mar_100"]
BANDS = ["map_small", "map_medium", "map_large"]
LABELS = ("cat", "dog", "cow")


def objects(numbers: np.random.Generator, most: int, *, crowds: bool = False) -> list[dict[str, Any]]:
    made = []
    for _ in range(int(numbers.integers(most + 1))):
        left, upper = numbers.uniform(0, 60, 2)
        width, height = numbers.uniform(1, 40, 2)
        crowd = {"crowd": True} if crowds and numbers.random() < 0.2 else {}
        box = (left, upper, left + width, upper + height)
        made.append({"label": str(numbers.choice(LABELS)), "box": box, **crowd})
    return made


def guesses(numbers: np.random.Generator, true: list[dict[str, Any]], *, rounded: bool) -> list[dict[str, Any]]:
    """Some true boxes moved a little, some of another label, some out of the air."""
    found = []
    for thing in [*true, *true, *objects(numbers, 4)]:
        if numbers.random() < 0.3:
            continue
        moved = np.array(thing["box"]) + numbers.normal(0, 3, 4)
        box = (*np.minimum(moved[:2], moved[2:]), *np.maximum(moved[:2], moved[2:]))
        label = thing["label"] if numbers.random() < 0.8 else str(numbers.choice(LABELS))
        score = float(numbers.random())
        found.append({"label": label, "box": box, "probability": round(score, 1) if rounded else score})
    return found


SEEDS = [*range(60), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(60, 1000))]


@pytest.mark.parametrize("seed", SEEDS)
def test_it_agrees_with_pycocotools(seed: int) -> None:
    """In pictures of three sizes, so that boxes of all bands come, and some whose area is just the edge of one."""
    numbers = np.random.default_rng(seed)
    true = [objects(numbers, 6, crowds=seed % 3 == 0) for _ in range(12)]
    if not any(not thing.get("crowd") for row in true for thing in row):
        pytest.skip("nothing is there")
    found = [guesses(numbers, row, rounded=seed % 2 == 0) for row in true]
    for row in (*true, *found):
        scale = float(numbers.choice([1.0, 4.0, 8.0]))
        for number, thing in enumerate(row):
            left, upper, right, lower = (edge * scale for edge in thing["box"])
            on_edge = seed % 5 == 0 and number % 2
            side = float(numbers.choice([32, 96]))
            left, upper = (round(left), round(upper)) if on_edge else (left, upper)
            right, lower = (left + side, upper + side) if on_edge else (right, lower)
            thing["box"] = (left, upper, right, lower)
    metrics = Metrics([*NAMES, *BANDS])
    for start in range(0, len(true), 5):
        metrics.update(found[start : start + 5], true[start : start + 5])
    expected = average_precisions(true, found)
    assert dict(metrics) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_bands_are_computed_where_they_are_asked_for() -> None:
    """And they do not change what is computed without them."""
    numbers = np.random.default_rng(3)
    true = [objects(numbers, 6, crowds=True) for _ in range(12)]
    found = [guesses(numbers, row, rounded=False) for row in true]
    plain, more = Metrics(NAMES).update(found, true), Metrics([*BANDS, *NAMES]).update(found, true)
    assert {name: more[name] for name in NAMES} == dict(plain)
    parts = Metrics(BANDS).update(found[:4], true[:4]) + Metrics(BANDS).update(found[4:], true[4:])
    assert dict(parts) == pytest.approx({name: more[name] for name in BANDS}, nan_ok=True)
    low, high = more.interval("map_small")
    assert low <= more["map_small"] <= high


def test_more_than_a_hundred_guesses_do_not_count() -> None:
    numbers = np.random.default_rng(0)
    true = [[thing for thing in objects(numbers, 6) if thing["label"] == "cat"] for _ in range(4)]
    found = [[one for _ in range(40) for one in guesses(numbers, row, rounded=False)] for row in true]
    assert max(map(len, found)) > 100
    expected = average_precisions(true, found)
    assert dict(Metrics([*NAMES, *BANDS]).update(found, true)) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_parts_add_up() -> None:
    numbers = np.random.default_rng(1)
    true = [objects(numbers, 5) for _ in range(10)]
    found = [guesses(numbers, row, rounded=False) for row in true]
    whole = Metrics(NAMES, label_names=LABELS).update(found, true)
    parts = Metrics(NAMES).update(found[:3], true[:3]) + Metrics(NAMES).update(found[3:], true[3:])
    assert dict(parts) == dict(whole)
    assert parts.rows == 10
    assert parts.per_class()["cat"] == whole.per_class()["cat"]


def test_by_hand() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    true = [[{"label": "cat", "box": box}], [{"label": "cat", "box": box}]]
    found = [[{"label": "cat", "box": box, "probability": 0.9}], []]
    metrics = Metrics(NAMES).update(found, true)
    assert metrics["map"] == pytest.approx(51 / 101)  # precision is 1 up to a recall of one half
    assert metrics["mar_100"] == 0.5
    assert metrics.per_class() == {
        "cat": {"map": metrics["map"], "map_50": metrics["map"], "map_75": metrics["map"], "mar_100": 0.5, "support": 2}
    }
    low, high = metrics.interval("map")
    assert low == 0.0
    assert high == 1.0


def test_without_a_true_object_nothing_is_defined() -> None:
    metrics = Metrics(NAMES).update([[{"label": "cat", "box": (0, 0, 1, 1), "score": 1.0}]], [[]])
    assert all(math.isnan(value) for value in metrics.values())


def test_what_is_wrong_is_told_with_its_row() -> None:
    good = [{"label": "cat", "box": (0, 0, 1, 1), "probability": 0.5}]
    with pytest.raises(DataError, match="predictions, row 1: expected objects with label, box and probability"):
        Metrics(NAMES).update([good, [{"label": "cat", "box": (0, 0, 1)}]], [[], []])
    with pytest.raises(DataError, match="references, row 0: expected a list of objects"):
        Metrics(NAMES).update([good], ["cat"])
    with pytest.raises(LabelError, match="references, row 0: unknown label 'cow'"):
        Metrics(NAMES, label_names=("cat",)).update([[]], [[{"label": "cow", "box": (0, 0, 1, 1)}]])
