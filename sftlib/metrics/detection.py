"""Object detection: COCO's average precision and recall over boxes.

Letters: ``D`` detections of a picture, ``G`` its true objects, ``T`` = 10 thresholds of overlap, ``K`` labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.metrics.base import Family
from sftlib.metrics.labels import Label, LabelIndex, own_types
from sftlib.metrics.summed import raise_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

OVERLAPS: Floats = np.linspace(0.5, 0.95, 10)
_RECALLS: Floats = np.linspace(0.0, 1.0, 101)
_MOST = 100  # detections of a label in a picture that count
_SHIFTS = np.arange(len(OVERLAPS), dtype=np.uint16)


@final
@dataclass(frozen=True)
class _Picture:
    """What is kept of a picture.

    Attributes:
        codes: (D,) label of each detection; of each label in falling order of probability, the first hundred.
        scores: (D,) its probability.
        right: (D,) a bit for each threshold at which it found an object.
        void: (D,) a bit for each threshold at which it lies in a crowd, and does not count.
        true: (G,) label of each object that counts.
    """

    codes: NDArray[np.int32]
    scores: Floats
    right: NDArray[np.uint16]
    void: NDArray[np.uint16]
    true: NDArray[np.int32]


@final
@dataclass(frozen=True)
class _Things:
    """Objects of a picture, found or true.

    Attributes:
        labels: of each.
        boxes: (N, 4) left, upper, right, lower edge.
        scores: (N,) probability of what was found; 1 of what is true.
        crowd: (N,) whether it is a region of many.
    """

    labels: list[Any]
    boxes: Floats
    scores: Floats
    crowd: NDArray[np.bool_]


class Detection(Family):
    """Average precision and recall of boxes, as COCO computes them (pycocotools, areas of any size).

    References are a list of objects a row, mappings with ``label``, ``box`` and perhaps ``crowd``; predictions the same
    with ``probability`` (or ``score``), or predictions with ``.objects``, whose candidates below a threshold count too.
    A box is (x1, y1, x2, y2).

    A detection is right when it overlaps an object of its label, which no more probable one has found, by a threshold
    (intersection over union). Precision is taken at 101 recalls, and is the best of all that lie beyond. ``map`` is the
    mean over ten thresholds from 0.5 to 0.95 and over the labels that references have; ``map_50`` and ``map_75`` are of
    one threshold; ``mar_100`` is the mean of recall with at most 100 detections a picture and label.

    Kept: for each detection its label, its probability and 20 bits, and the labels of true objects.
    """

    title = "object detection"
    names = ("map", "map_50", "map_75", "mar_100")

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        self._names = tuple(names)
        self._index = LabelIndex(label_names or (), closed=label_names is not None)
        self._pictures: list[_Picture] = []
        self._kept: tuple[list[Any], list[Any]] = ([], [])
        self._keeps_rows = keep_rows
        self._curves: tuple[Floats, Floats] | None = None  # worked out when first read, until rows come

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        rows = [row for row in references if isinstance(row, list | tuple) and row]
        return bool(rows) and all(isinstance(thing, Mapping) and "box" in thing for row in rows for thing in row)

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names)

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._pictures)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._index.names

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        problems: list[str] = []
        found = [_things(row, _candidates(row), True, n, problems) for n, row in enumerate(predictions)]
        true = [_things(row, row, False, n, problems) for n, row in enumerate(references)]
        raise_rows(problems)
        columns = {"references": true, "predictions": found}
        index = self._index.including(
            {what: ((n, own_types(part.labels)) for n, part in enumerate(rows)) for what, rows in columns.items()}
        )
        judged = [_judged(a, b, index) for a, b in zip(found, true, strict=True)]
        self._pictures = self._moved(index)
        self._pictures.extend(judged)
        self._index = index
        self._curves = None
        if self._keeps_rows:
            self._kept[0].extend(references)
            self._kept[1].extend(predictions)

    def merged(self, other: Self) -> Self:
        both = copy(self)
        both._index = self._index.merged(other._index)
        both._pictures = [*self._moved(both._index), *other._moved(both._index)]
        both._kept = (self._kept[0] + other._kept[0], self._kept[1] + other._kept[1])
        both._curves = None
        return both

    def value(self, name: str) -> float:
        if self._curves is None:
            self._curves = _curves(self._pictures, len(self._index))
        return _value(name, *self._curves)

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        drawn = generator.integers(0, self.rows, self.rows)
        return _value(name, *_curves([self._pictures[row] for row in drawn], len(self._index)))

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[list[Any], list[Any]]:
        """References and predictions: two lists of N."""
        references, predictions = self._kept
        if index is None:
            return list(references), list(predictions)
        return [references[row] for row in index], [predictions[row] for row in index]

    def per_class(self) -> dict[Label, dict[str, float]]:
        """Average precision over all thresholds, at 0.5 and at 0.75, recall, and the number of true objects."""
        precision, recall = _curves(self._pictures, len(self._index))
        support = np.bincount(
            np.concatenate([picture.true for picture in self._pictures]), minlength=len(self._index)
        ).tolist()
        return {
            label: {
                "map": _mean(precision[:, code]),
                "map_50": _mean(precision[:1, code]),
                "map_75": _mean(precision[5:6, code]),
                "mar_100": _mean(recall[:, code]),
                "support": float(support[code]),
            }
            for code, label in enumerate(self._index.names)
        }

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_values

        return draw_values({name: self.value(name) for name in self._names}, self.rows, axes)

    def _moved(self, index: LabelIndex) -> list[_Picture]:
        """What is kept, under the codes of an index that has all these labels and perhaps more."""
        if index == self._index or not self._pictures:
            return self._pictures
        codes = self._index.moved(index).astype(np.int32)
        return [_Picture(codes[one.codes], one.scores, one.right, one.void, codes[one.true]) for one in self._pictures]


def _candidates(prediction: Any) -> Any:
    """All that was found, however improbable."""
    found = getattr(prediction, "candidates", None)
    return getattr(prediction, "objects", prediction) if found is None else found


def _things(given: Any, objects: Any, found: bool, row: int, problems: list[str]) -> _Things:
    """The objects of a row; what is wrong is noted."""
    what = "predictions" if found else "references"
    wanted = "objects with label, box and probability" if found else "objects with label and box"
    labels, boxes, scores, crowd = [], [], [], []
    if not isinstance(objects, list | tuple):
        problems.append(f"{what}, row {row}: expected a list of {wanted}, got {given!r:.50}")
        objects = ()
    for thing in objects:
        label, box = _part(thing, "label"), _part(thing, "box")
        score = _part(thing, "probability", "score") if found else 1.0
        try:
            edges, probability = [float(edge) for edge in box], float(score)
        except (TypeError, ValueError):
            edges, probability = [], math.nan
        if label is None or len(edges) != 4 or not all(map(math.isfinite, [*edges, probability])):
            problems.append(f"{what}, row {row}: expected {wanted}, got {thing!r:.80}")
            continue
        labels.append(label)
        boxes.append(edges)
        scores.append(probability)
        crowd.append(bool(_part(thing, "crowd")))
    return _Things(labels, np.array(boxes, np.float64).reshape(-1, 4), np.array(scores), np.array(crowd, bool))


def _part(thing: Any, *names: str) -> Any:
    for name in names:
        value = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
        if value is not None:
            return value
    return None


def _judged(found: _Things, true: _Things, index: LabelIndex) -> _Picture:
    """Which detections are right at which thresholds."""
    codes, true_codes = index.encode(own_types(found.labels)), index.encode(own_types(true.labels))
    parts: list[tuple[NDArray[Any], ...]] = []
    for code in np.unique(codes):
        of_label = np.flatnonzero(codes == code)
        order = of_label[np.argsort(-found.scores[of_label], kind="stable")][:_MOST]
        mine = np.flatnonzero(true_codes == code)
        mine = mine[np.argsort(true.crowd[mine], kind="stable")]  # those that count first
        right, void = _matched(found.boxes[order], true.boxes[mine], true.crowd[mine])
        parts.append((np.full(len(order), code), found.scores[order], right, void))
    empty: tuple[NDArray[Any], ...] = (np.empty(0),) * 4
    columns = [np.concatenate(column) for column in zip(*(parts or [empty]), strict=True)]
    return _Picture(
        columns[0].astype(np.int32),
        columns[1].astype(np.float64),
        columns[2].astype(np.uint16),
        columns[3].astype(np.uint16),
        true_codes[~true.crowd].astype(np.int32),
    )


def _matched(found: Floats, true: Floats, crowd: NDArray[np.bool_]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Two bits for each detection and threshold: whether it found an object, and whether it lies in a crowd.

    Args:
        found: (D, 4) boxes, the most probable first.
        true: (G, 4) boxes, crowds last.
        crowd: (G,) which are crowds.
    """
    right, void = np.zeros(len(found), np.uint16), np.zeros(len(found), np.uint16)
    if not len(found) or not len(true):
        return right, void
    overlaps = _overlaps(found, true, crowd)  # (D, G)
    plain = int((~crowd).sum())
    for number, threshold in enumerate(OVERLAPS):
        free = np.ones(plain, bool)
        for row, own in enumerate(overlaps):
            least = min(threshold, 1 - 1e-10)
            candidates = np.flatnonzero(free & (own[:plain] >= least))
            if len(candidates):  # of equal overlaps the last, as pycocotools has it
                best = candidates[len(candidates) - 1 - int(np.argmax(own[candidates][::-1]))]
                free[best] = False
                right[row] |= np.uint16(1 << number)
            elif (own[plain:] >= least).any():
                void[row] |= np.uint16(1 << number)
    return right, void


def _overlaps(found: Floats, true: Floats, crowd: NDArray[np.bool_]) -> Floats:
    """(D, G) intersection over union; in a crowd, over the area of the detection."""
    sides, true_sides = found[:, 2:] - found[:, :2], true[:, 2:] - true[:, :2]  # (D, 2), (G, 2)
    # As pycocotools, which adds a side to a corner again: what differs in the last bit may be on the other side.
    ends, true_ends = found[:, :2] + sides, true[:, :2] + true_sides
    shared = np.minimum(ends[:, None], true_ends) - np.maximum(found[:, None, :2], true[:, :2])  # (D, G, 2)
    both = np.where((shared > 0).all(-1), shared[..., 0] * shared[..., 1], 0.0)
    area, true_area = sides[:, 0] * sides[:, 1], true_sides[:, 0] * true_sides[:, 1]
    whole = np.where(crowd, area[:, None], area[:, None] + true_area - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=both > 0)


def _curves(pictures: Sequence[_Picture], labels: int) -> tuple[Floats, Floats]:
    """Average precision and recall (T, K); nan of labels that no reference has."""
    precision, recall = np.full((2, len(OVERLAPS), labels), math.nan)
    codes = np.concatenate([picture.codes for picture in pictures])
    scores = np.concatenate([picture.scores for picture in pictures])
    right = np.concatenate([picture.right for picture in pictures])
    void = np.concatenate([picture.void for picture in pictures])
    support = np.bincount(np.concatenate([picture.true for picture in pictures]), minlength=labels)
    for code in np.flatnonzero(support):
        of_label = np.flatnonzero(codes == code)
        order = of_label[np.argsort(-scores[of_label], kind="stable")]
        hits = (right[order, None] >> _SHIFTS) & 1  # (D, T)
        counts = hits | ~((void[order, None] >> _SHIFTS) & 1) & 1
        for threshold in range(len(OVERLAPS)):
            precision[threshold, code], recall[threshold, code] = _averages(
                hits[:, threshold], counts[:, threshold], int(support[code])
            )
    return precision, recall


def _averages(hits: NDArray[Any], counts: NDArray[Any], support: int) -> tuple[float, float]:
    """Average precision, and recall, of one label at one threshold.

    Args:
        hits: (D,) 1 where a detection is right, the most probable first.
        counts: (D,) 1 where it counts.
        support: how many true objects there are.
    """
    if not len(hits):
        return 0.0, 0.0
    right, all_of_them = np.cumsum(hits, dtype=np.float64), np.cumsum(counts, dtype=np.float64)
    recalls = right / support
    precisions = right / (all_of_them + np.spacing(1))
    best = np.maximum.accumulate(precisions[::-1])[::-1]  # of all that lie beyond
    places = np.searchsorted(recalls, _RECALLS, side="left")
    found = np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0)
    return float(found.mean()), float(recalls[-1])


def _value(name: str, precision: Floats, recall: Floats) -> float:
    if name == "mar_100":
        return _mean(recall)
    return _mean({"map": precision, "map_50": precision[:1], "map_75": precision[5:6]}[name])


def _mean(values: Floats) -> float:
    """The mean of what is defined; nan of nothing."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined.tolist()) / len(defined) if len(defined) else math.nan
