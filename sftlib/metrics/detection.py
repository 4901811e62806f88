"""Object detection: COCO's average precision and recall over boxes.

Letters: ``D`` detections of a picture, ``G`` its true objects, ``T`` = 10 thresholds of overlap, ``K`` labels, ``A``
bands of area.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
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
_EVERY = np.uint16(2 ** len(OVERLAPS) - 1)  # a bit for each threshold
_ANY, _ENDLESS = "any", 1e10
#: Band -> least and most pixels of area, both within it; pycocotools has the same numbers, and ends at 1e10 too.
_BANDS = {_ANY: (0.0, _ENDLESS), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, _ENDLESS)}


@final
@dataclass(frozen=True)
class _Picture:
    """What is kept of a picture.

    Attributes:
        codes: (D,) label of each detection; of each label in falling order of probability, the first hundred.
        scores: (D,) its probability.
        right: (D, A) a bit for each threshold at which it found an object.
        void: (D, A) a bit for each threshold at which it does not count: it lies in a crowd, or is of another band.
        true: (G,) label of each object that counts.
        within: (G, A) whether it counts in a band.
    """

    codes: NDArray[np.int32]
    scores: Floats
    right: NDArray[np.uint16]
    void: NDArray[np.uint16]
    true: NDArray[np.int32]
    within: NDArray[np.bool_]


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
    """Average precision and recall of boxes, as COCO computes them (pycocotools).

    References are a list of objects a row, mappings with ``label``, ``box`` and perhaps ``crowd``; predictions the same
    with ``probability`` (or ``score``), or predictions with ``.objects``, whose candidates below a threshold count too.
    A box is (x1, y1, x2, y2).

    A detection is right when it overlaps an object of its label, which no more probable one has found, by a threshold
    (intersection over union). Precision is taken at 101 recalls, and is the best of all that lie beyond. ``map`` is the
    mean over ten thresholds from 0.5 to 0.95 and over the labels that references have; ``map_50`` and ``map_75`` are of
    one threshold; ``mar_100`` is the mean of recall with at most 100 detections a picture and label. ``map_small``,
    ``map_medium`` and ``map_large`` are ``map`` over objects of at most 32 x 32, at most 96 x 96, and more pixels, by
    the area of their boxes in the picture: what lies in another band is neither missed nor wrong.

    Kept: for each detection its label, its probability and 20 bits for each band that is asked for, and the labels and
    bands of true objects.
    """

    title = "object detection"
    names = ("map", "map_50", "map_75", "mar_100", "map_small", "map_medium", "map_large")

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        self._names = tuple(names)
        self._index = LabelIndex(label_names or (), closed=label_names is not None)
        self._pictures: list[_Picture] = []
        self._kept: tuple[list[Any], list[Any]] = ([], [])
        self._keeps_rows = keep_rows
        self._bands = tuple(dict.fromkeys([_ANY, *map(_band_of, names)]))
        self._curves: dict[str, tuple[Floats, Floats]] = {}  # band -> worked out when first read, until rows come

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
        judged = [_judged(a, b, index, self._bands) for a, b in zip(found, true, strict=True)]
        self._pictures = self._moved(index)
        self._pictures.extend(judged)
        self._index = index
        self._curves = {}
        if self._keeps_rows:
            self._kept[0].extend(references)
            self._kept[1].extend(predictions)

    def merged(self, other: Self) -> Self:
        both = copy(self)
        both._index = self._index.merged(other._index)
        both._pictures = [*self._moved(both._index), *other._moved(both._index)]
        both._kept = (self._kept[0] + other._kept[0], self._kept[1] + other._kept[1])
        both._curves = {}
        return both

    def value(self, name: str) -> float:
        band = _band_of(name)
        if band not in self._curves:
            self._curves[band] = self._curves_of(self._pictures, band)
        return _value(name, *self._curves[band])

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        drawn = generator.integers(0, self.rows, self.rows)
        return _value(name, *self._curves_of([self._pictures[row] for row in drawn], _band_of(name)))

    def _curves_of(self, pictures: Sequence[_Picture], band: str) -> tuple[Floats, Floats]:
        return _curves(pictures, len(self._index), self._bands.index(band))

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[list[Any], list[Any]]:
        """References and predictions: two lists of N."""
        references, predictions = self._kept
        if index is None:
            return list(references), list(predictions)
        return [references[row] for row in index], [predictions[row] for row in index]

    def per_class(self) -> dict[Label, dict[str, float]]:
        """Average precision over all thresholds, at 0.5 and at 0.75, recall, and the number of true objects."""
        precision, recall = self._curves_of(self._pictures, _ANY)
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
        return [replace(one, codes=codes[one.codes], true=codes[one.true]) for one in self._pictures]


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


def _judged(found: _Things, true: _Things, index: LabelIndex, bands: Sequence[str]) -> _Picture:
    """Which detections are right at which thresholds, in each band."""
    codes, true_codes = index.encode(own_types(found.labels)), index.encode(own_types(true.labels))
    within, own = (_within(things.boxes, bands) for things in (true, found))
    parts: list[tuple[NDArray[Any], ...]] = []
    for code in np.unique(codes):
        of_label = np.flatnonzero(codes == code)
        order = of_label[np.argsort(-found.scores[of_label], kind="stable")][:_MOST]
        mine = np.flatnonzero(true_codes == code)
        overlaps = _overlaps(found.boxes[order], true.boxes[mine], true.crowd[mine])  # (D, G)
        marks = [
            _matched(overlaps, true.crowd[mine], within[mine, band], own[order, band]) for band in range(len(bands))
        ]
        right, void = (np.stack([mark[side] for mark in marks], axis=1) for side in (0, 1))
        parts.append((np.full(len(order), code), found.scores[order], right, void))
    nothing = np.empty((0, len(bands)))
    empty: tuple[NDArray[Any], ...] = (np.empty(0), np.empty(0), nothing, nothing)
    columns = [np.concatenate(column) for column in zip(*(parts or [empty]), strict=True)]
    return _Picture(
        columns[0].astype(np.int32),
        columns[1].astype(np.float64),
        columns[2].astype(np.uint16),
        columns[3].astype(np.uint16),
        true_codes[~true.crowd].astype(np.int32),
        within[~true.crowd],
    )


def _band_of(name: str) -> str:
    """The band that a metric is over."""
    last = name.rpartition("_")[2]
    return last if last in _BANDS else _ANY


def _within(boxes: Floats, bands: Sequence[str]) -> NDArray[np.bool_]:
    """(N, A) whether the area of a box lies in each band."""
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides[:, :1] * sides[:, 1:]  # (N, 1)
    least, most = np.array([_BANDS[band] for band in bands]).T
    within: NDArray[np.bool_] = (area >= least) & (area <= most)
    return within


def _matched(
    overlaps: Floats, crowd: NDArray[np.bool_], within: NDArray[np.bool_], own: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Two bits for each detection and threshold: whether it found an object, and whether it does not count.

    A detection takes the object of its band that it overlaps most, and that no more probable one has. Where there is
    none it may take one that does not count, a crowd as often as it likes; else it is wrong, or of another band itself.

    Args:
        overlaps: (D, G) of detections, the most probable first, with the true objects of their label.
        crowd: (G,) which are crowds.
        within: (G,) which are of the band.
        own: (D,) which detections are.
    """
    counts = within & ~crowd
    order = np.argsort(~counts, kind="stable")  # those that count first
    overlaps, crowd, plain = overlaps[:, order], crowd[order], int(counts.sum())
    right, void = np.zeros(len(own), np.uint16), np.where(own, np.uint16(0), _EVERY)
    if not overlaps.size:
        return right, void
    for number, threshold in enumerate(OVERLAPS):
        bit = np.uint16(1 << number)
        free = np.ones(len(crowd), bool)
        reach = overlaps >= min(threshold, 1 - 1e-10)  # (D, G)
        for row in np.flatnonzero(reach.any(1)).tolist():
            open_ones = reach[row] & (free | crowd)
            first = np.flatnonzero(open_ones[:plain])
            candidates = first if len(first) else np.flatnonzero(open_ones)
            if not len(candidates):
                continue
            # Of equal overlaps the last, as pycocotools has it.
            best = candidates[len(candidates) - 1 - int(np.argmax(overlaps[row, candidates][::-1]))]
            free[best] = False
            if len(first):
                right[row] |= bit
                void[row] &= ~bit
            else:
                void[row] |= bit
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


def _curves(pictures: Sequence[_Picture], labels: int, band: int) -> tuple[Floats, Floats]:
    """Average precision and recall (T, K) in a band, told by its place; nan of labels that no reference there has."""
    precision, recall = np.full((2, len(OVERLAPS), labels), math.nan)
    codes = np.concatenate([picture.codes for picture in pictures])
    scores = np.concatenate([picture.scores for picture in pictures])
    right = np.concatenate([picture.right[:, band] for picture in pictures])
    void = np.concatenate([picture.void[:, band] for picture in pictures])
    true = np.concatenate([picture.true[picture.within[:, band]] for picture in pictures])
    support = np.bincount(true, minlength=labels)
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
    return _mean({"map_50": precision[:1], "map_75": precision[5:6]}.get(name, precision))


def _mean(values: Floats) -> float:
    """The mean of what is defined; nan of nothing."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined.tolist()) / len(defined) if len(defined) else math.nan
