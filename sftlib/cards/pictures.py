"""The part of a report that shows the pictures a model fails on, with what is true and what it said drawn on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.cards.page import Part
from sftlib.cards.parts import Facts
from sftlib.data.look.showing import boxes_of
from sftlib.data.pixels import decode
from sftlib.support.canvas import Drawn, Plane, drawn
from sftlib.support.display import counted
from sftlib.tasks.image.detection import Detected
from sftlib.tasks.image.segmentation import Segmented

_PAIRS, _EACH, _ROWS = 8, 4, 8
_OVERLAP = 0.5  # of a true box and a found one of its label, from which on it is found


def worst_pictures(facts: Facts) -> Part | None:
    """The pictures that it is most wrong about; None of rows without pictures, and where nothing is wrong."""
    if facts.test.inputs != ("image",) or not facts.predictions:
        return None
    if facts.one_label:
        return _confused(facts)
    if isinstance(facts.predictions[0], Detected):
        return _missed(facts)
    return _painted(facts) if isinstance(facts.predictions[0], Segmented) else None


def _confused(facts: Facts) -> Part | None:
    """Pictures of one label that are taken for another: the pairs with most rows, and of each the surest."""
    wrong = np.flatnonzero(~facts.right).tolist()
    pairs = Counter((facts.references[row], facts.predictions[row].label) for row in wrong)
    if not pairs:
        return None
    body = []
    for (true, said), count in pairs.most_common(_PAIRS):
        rows = [row for row in wrong if (facts.references[row], facts.predictions[row].label) == (true, said)]
        rows.sort(key=lambda row: -facts.predictions[row].probability)
        shown = [
            drawn(_pixels(facts, row), caption=f"row {row}: {facts.predictions[row].probability:.2f} sure")
            for row in rows[:_EACH]
        ]
        body.append(f"<h3>{escape(str(true))}, taken for {escape(str(said))} ({count})</h3>{_beside(shown)}")
    return Part("Pictures taken for others", "".join(body), "The surest of each pair of labels come first.")


def _missed(facts: Facts) -> Part | None:
    """Pictures with most objects that are not found, or found where there are none."""
    names = facts.task.label_names or ()
    amounts = [_faults(found, true) for found, true in zip(facts.predictions, facts.references, strict=True)]
    worst = _worst([missed + false for missed, false in amounts])
    if not worst:
        return None
    body = []
    for row in worst:
        missed, false = amounts[row]
        pixels, true = _pixels(facts, row), facts.references[row]
        said = facts.predictions[row].objects
        sides = [
            drawn(pixels, caption=f"true: {counted(len(true), 'object')}", boxes=boxes_of(true, names)),
            drawn(pixels, caption=f"found: {counted(len(said), 'object')}", boxes=boxes_of(said, names)),
        ]
        body.append(f"<h3>row {row}: {missed} not found, {false} where there are none</h3>{_beside(sides)}")
    lead = f"An object is found by a box of its label that overlaps it by {_OVERLAP:.0%}; thresholds as in predictions."
    return Part("Pictures with most faults", "".join(body), lead)


def _painted(facts: Facts) -> Part | None:
    """Pictures of which most pixels have another label."""
    names = tuple(facts.task.label_names or ())
    wrong = [_wrong_share(found.mask, true) for found, true in zip(facts.predictions, facts.references, strict=True)]
    worst = _worst(wrong)
    if not worst:
        return None
    body = []
    for row in worst:
        pixels = _pixels(facts, row)
        sides = [
            drawn(pixels, caption="true", mask=Plane(facts.references[row], names)),
            drawn(pixels, caption="said", mask=Plane(facts.predictions[row].mask, names)),
        ]
        body.append(f"<h3>row {row}: {wrong[row]:.1%} of its pixels are wrong</h3>{_beside(sides)}")
    return Part("Pictures with most faults", "".join(body), "Of pixels that count.")


def _pixels(facts: Facts, row: int) -> NDArray[np.uint8]:
    return decode(facts.test.view("image")[row])


def _worst(amounts: Sequence[float]) -> list[int]:
    """Rows with the largest amounts above 0, the largest first."""
    order = np.argsort(-np.array(amounts), kind="stable")[:_ROWS]
    return [row for row in order.tolist() if amounts[row] > 0]


def _wrong_share(found: NDArray[Any], true: NDArray[Any]) -> float:
    counts = true >= 0
    return float((found[counts] != true[counts]).mean()) if counts.any() else 0.0


def _faults(found: Detected, true: Sequence[Any]) -> tuple[int, int]:
    """How many objects are not found, and how many that were found are none."""
    left = [thing for thing in true if not thing.get("crowd")]
    false = 0
    for thing in found.objects:
        overlaps = [_overlap(thing.box, other["box"]) if other["label"] == thing.label else 0.0 for other in left]
        best = int(np.argmax(overlaps)) if overlaps else 0
        if overlaps and overlaps[best] >= _OVERLAP:
            del left[best]
        else:
            false += 1
    return len(left), false


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(across, 0.0) * max(down, 0.0)
    whole = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both
    return both / whole if whole > 0 else 0.0


def _beside(shown: Sequence[Drawn]) -> str:
    figures = "".join(
        f'<div style="flex:0 1 {picture.pixels.shape[1]}px">{picture.figure()}</div>' for picture in shown
    )
    return f'<div class="beside">{figures}</div>'
