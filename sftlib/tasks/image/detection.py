"""Object detection: a label and a box for each object of a picture.

Letters: ``B`` rows, ``K`` labels, ``Q`` queries of a picture, ``L`` true objects of the fullest row, ``h`` and ``w``
places of a heat map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.data.look.showing import boxes_of
from sftlib.data.pixels import Pixels, decode
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.image.places import moved_boxes
from sftlib.errors import LabelError, OptionError
from sftlib.metrics import Detection as DetectionMetrics
from sftlib.models.detection.boxes import edges_of
from sftlib.models.detection.places import edges_around, heat_sums, peaks
from sftlib.models.detection.sets import Answer, Recipe, Sums, Truth, recipe_of
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.canvas import Box as DrawnBox
from sftlib.support.canvas import Drawn, drawn
from sftlib.support.checking import checked_fields, is_number, real_number
from sftlib.support.display import counted
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.image.placed import Moves, PlacedTask
from sftlib.tasks.labels import Labels, check_labels

Box = tuple[float, float, float, float]

_MOST = 100  # candidates of a heat map


@final
@dataclass(frozen=True)
class DetectedObject:
    """An object, and how sure the model is.

    Attributes:
        label: of the labels' own type.
        probability: 0 to 1.
        box: left, upper, right and lower edge, in pixels of the picture.
    """

    label: Label
    probability: float
    box: Box

    def __repr__(self) -> str:
        edges = ", ".join(f"{edge:.1f}" for edge in self.box)
        return f"DetectedObject(label={self.label!r}, probability={self.probability:.4g}, box=({edges}))"


@final
@dataclass(frozen=True)
class Detected:
    """The objects of a picture.

    Attributes:
        threshold: that the probability of an object must exceed.
        candidates: all that the model thought of, the most probable first.
    """

    threshold: float
    candidates: tuple[DetectedObject, ...] = field(repr=False)

    @property
    def objects(self) -> tuple[DetectedObject, ...]:
        """Those whose probability exceeds the threshold, the most probable first."""
        return self.above(self.threshold)

    def draw(self, picture: Any, *, threshold: float | None = None) -> Drawn:
        """The objects on their picture: a notebook shows it, ``.save("found.png")`` writes it.

        Args:
            picture: that the prediction is of, as `predict` took it.
            threshold: that a probability must exceed to be drawn; the prediction's own when None.
        """
        found = self.above(self.threshold if threshold is None else threshold)
        names = sorted({thing.label for thing in self.candidates}, key=lambda name: (str(type(name)), name))
        return drawn(decode(picture), caption=counted(len(found), "object"), boxes=boxes_of(found, names))

    def above(self, threshold: float) -> tuple[DetectedObject, ...]:
        """Those whose probability exceeds another threshold."""
        return tuple(found for found in self.candidates if found.probability > threshold)

    def __repr__(self) -> str:
        return f"Prediction(objects={self.objects!r})"


@final
@dataclass(frozen=True, kw_only=True)
class Seen(Labels):
    """What training data decided.

    Attributes:
        usual: objects of a picture, on average.
        most: objects of the fullest picture.
    """

    usual: float
    most: int

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        if not is_number(self.usual) or not 0 < self.usual < float("inf"):
            yield f"usual={self.usual!r:.60}: expected a number above 0"
        if not isinstance(self.most, int) or self.most < 1:
            yield f"most={self.most!r:.60}: expected a whole number of at least 1"


@final
@dataclass(frozen=True)
class Found:
    """What a detector answered of a batch, and how it is trained.

    Attributes:
        logits: (B, Q, K or K + 1) of a set, or (B, K, h, w) of places.
        boxes: (B, Q, 4) middles, widths and heights, or (B, 4, h, w) distances to edges; in shares of the picture.
        earlier: what earlier layers answered, which is learned too.
        config: of the model, or None.
    """

    logits: Tensor
    boxes: Tensor
    earlier: tuple[Answer, ...] = ()
    config: Any = None


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class Detection(PlacedTask):
    """A label and a box for each object.

    Detectors of two kinds are learned. Those that answer a *set* (``logits`` (B, Q, K) or (B, Q, K + 1), ``pred_boxes``
    (B, Q, 4)), such as DETR and its kin, are matched one to one with the true objects of each picture, and trained as
    their config says. Those that answer for *places* (``logits`` (B, K, h, w), ``pred_boxes`` (B, 4, h, w)), such as
    `sftlib.models.detection.head.PlaceDetector`, learn a heat map of middles and the distances to the edges.

    The loss is divided by the number of true objects of the step; the class part of detectors with a class for "no
    object" by the sum of the weights of its queries. In evaluation the latter is that of a usual picture of the
    training data, so that it does not depend on what is judged together.

    Args:
        threshold: what the probability of an object must exceed to be among ``objects``; never looked at in evaluation.
        least_visible: the share of a box that an augmentation must leave of it; of others nothing is learned.
        learned: labels, and how many objects there are; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Detection(threshold=0.3)
        Detection(threshold=0.3)
    """

    name = "object-detection"
    head_alone = False  # classes are one of several layers above the body, and boxes keep theirs
    usual_metrics = ("map", "map_50", "map_75", "mar_100")
    auto_class = "AutoModelForObjectDetection"
    family = DetectionMetrics

    threshold: float = 0.5
    least_visible: float = 0.3
    learned: Seen | None = None

    def problems(self) -> Iterable[Problem]:
        return [
            real_number(name, getattr(self, name), 0, 1, expected="a number from 0 to 1")
            for name in ("threshold", "least_visible")
        ]

    def learned_from(self, data: TaskDataset) -> Self:
        counts = [sum(not thing.get("crowd") for thing in row) for row in data.view("objects")]
        if not any(counts):
            raise LabelError(
                f"column {data.roles['objects']!r}: no picture of {len(data):,} has an object: nothing to learn"
            )
        seen = Seen(label_names=data.label_names or (), usual=sum(counts) / len(counts), most=max(counts))
        return replace(self, learned=seen)

    # The model.

    @property
    def head(self) -> Head:
        names = self.known.label_names
        return Head(auto_class=self.auto_class, outputs=len(names), labels=tuple(str(name) for name in names))

    def check_model(self, model: nn.Module, name: str) -> None:
        config = getattr(model, "config", None)
        queries = [getattr(config, option, None) for option in ("num_queries", "num_detection_tokens")]
        most = next((number for number in queries if isinstance(number, int)), None)
        if most is not None and self.known.most > most:
            raise OptionError(
                f"model={name}: it finds {most} objects in a picture at most, and one of the training data has "
                f"{self.known.most}; take a model with more queries, or drop the fullest pictures"
            )

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Found:
        answered = call(model, inputs)
        boxes = _part(answered, "pred_boxes", 1)
        try:
            scores = logits(answered)
        except (TypeError, IndexError):
            scores = None
        if scores is None or boxes is None:
            raise OptionError(
                f"the model returned {type(answered).__name__}; {self.name} needs something with .logits and "
                ".pred_boxes, or a pair of both"
            )
        config = getattr(model, "config", None)
        return Found(scores, boxes.to(scores.dtype), _earlier(answered, config, scores.dtype), config)

    # Rows.

    def check_rows(self, data: TaskDataset) -> None:
        if data.is_labelled:
            found = [[thing["label"] for thing in row] for row in data.view("objects")]
            check_labels(found, self.known.label_names, column=data.roles["objects"])

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        return found.with_targets(self._targets(data) if data.is_labelled else {})

    def _targets(self, data: TaskDataset) -> dict[str, Any]:
        """Labels (N, L) and edges in pixels (N, L, 4) of each row, and how many there are (N,)."""
        number = {name: code for code, name in enumerate(self.known.label_names)}
        rows = [[thing for thing in row if not thing.get("crowd")] for row in data.view("objects")]
        counts = np.array([len(row) for row in rows], np.int64)
        edges = np.array([thing["box"] for row in rows for thing in row], np.float64).reshape(-1, 4)
        labels = Ragged.from_lists([[number[thing["label"]] for thing in row] for row in rows])
        return {"labels": labels, "edges": Ragged(edges, offsets_of(counts)), "count": counts}

    def put(self, batch: Batch, encoded: Encoded, size: tuple[int, int], moved: Moves) -> Batch:
        labels, edges = batch.targets["labels"].clone(), batch.targets["edges"].numpy()
        found = np.stack(
            [moved_boxes(row, one, size, least=self.least_visible) for row, one in zip(edges, moved, strict=True)]
        ).reshape(edges.shape)
        labels[torch.from_numpy(np.isnan(found).any(-1))] = IGNORED  # moved out of the picture, or so far
        placed = torch.from_numpy(np.nan_to_num(found).astype(np.float32))
        return replace(batch, targets={**batch.targets, "labels": labels, "edges": placed})

    def drawn(self, pixels: Pixels, batch: Batch, when: str) -> Drawn:
        (truth,), (height, width), names = _truths(batch), pixels.shape[:2], self.known.label_names
        edges = (truth.edges * torch.tensor([width, height, width, height])).tolist()
        codes = truth.labels.tolist()
        boxes = [DrawnBox((*box,), str(names[code]), code) for box, code in zip(edges, codes, strict=True)]
        lost = int(batch.targets["count"][0]) - len(boxes)
        gone = f", {lost} of them moved out of sight" if lost else ""
        return drawn(pixels, caption=f"{when}: {counted(len(boxes) + lost, 'object')}{gone}", boxes=boxes)

    def counts(self, encoded: Encoded, rows: NDArray[np.int64]) -> Mapping[str, float]:
        counts = encoded.targets["count"]
        assert isinstance(counts, np.ndarray)
        return {"objects": float(counts[rows].sum()), "pictures": float(len(rows))}

    # Learning.

    def loss(self, outputs: Found, batch: Batch) -> LossSum:
        """The loss summed over the pictures; the count is how many true objects they have.

        A step without any object is divided by 1, as transformers does it.
        """
        scores = outputs.logits
        truths = _truths(batch)
        self._check_shapes(outputs, len(truths))
        objects = batch.targets["count"].sum().to(scores.dtype)
        step = batch.of_step.get("objects")
        if step == 0:
            objects = scores.new_full((), len(truths) / batch.of_step["pictures"])
        if scores.ndim == 4:
            sums = heat_sums(scores, outputs.boxes, truths)
            return LossSum(sums.classes + sums.boxes, objects)
        recipe = self._recipe(outputs)
        sums = recipe.sums([Answer(scores, outputs.boxes), *outputs.earlier], truths)
        return LossSum(self._whole(sums, recipe, batch, queries=scores.shape[1]), objects)

    def _whole(self, sums: Sums, recipe: Recipe, batch: Batch, *, queries: int) -> Tensor:
        """Both parts, scaled so that one division is right for each."""
        objects = batch.of_step.get("objects", self.known.usual)
        pictures = batch.of_step.get("pictures", 1.0)
        divisor = recipe.classes.divisor(min(objects, queries * pictures), queries * pictures)
        share = 1.0 if divisor is None else (objects or 1.0) / divisor
        return sums.classes * share + sums.boxes

    def _recipe(self, outputs: Found) -> Recipe:
        return recipe_of(outputs.config, no_object=outputs.logits.shape[-1] == len(self.known.label_names) + 1)

    def _check_shapes(self, outputs: Found, rows: int) -> None:
        """Refuse answers of other shapes.

        Raises:
            OptionError: saying which would do.
        """
        labels, found, boxes = len(self.known.label_names), tuple(outputs.logits.shape), tuple(outputs.boxes.shape)
        of_set = len(found) == 3 and found[2] in (labels, labels + 1) and boxes == (*found[:2], 4)
        of_places = len(found) == 4 and found[1] == labels and boxes == (found[0], 4, *found[2:])
        if found[0] != rows or not (of_set or of_places):
            raise OptionError(
                f"the model returned logits of shape {found} and boxes of shape {boxes}; {self.name} on this data "
                f"needs ({rows}, queries, {labels} or {labels + 1}) and ({rows}, queries, 4), or "
                f"({rows}, {labels}, h, w) and ({rows}, 4, h, w)"
            )

    # Answers.

    def decode(self, outputs: Found, batch: Batch) -> list[Detected]:
        self._check_shapes(outputs, len(batch.rows))
        scores, codes, edges = self._candidates(outputs)
        height, width = batch.notes["size"].to(edges.device).to(edges.dtype).unbind(1)
        edges = edges * torch.stack([width, height, width, height], dim=1)[:, None]
        rows = zip(scores.tolist(), codes.tolist(), edges.tolist(), strict=True)
        return [self._detected(*row) for row in rows]

    def _detected(self, scores: list[float], codes: list[int], boxes: list[list[float]]) -> Detected:
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        names = self.known.label_names
        found = [DetectedObject(names[codes[i]], scores[i], (*boxes[i],)) for i in order]  # type: ignore[arg-type]
        return Detected(self.threshold, tuple(found))

    def _candidates(self, outputs: Found) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities, numbers of labels, and edges in shares of the picture: (B, n), (B, n) and (B, n, 4)."""
        if outputs.logits.ndim == 4:
            scores, codes, places = peaks(outputs.logits, _MOST)
            edges = edges_around(outputs.boxes).flatten(2).transpose(1, 2)  # (B, h * w, 4)
            return scores, codes, edges.gather(1, places[..., None].expand(-1, -1, 4))
        recipe, edges = self._recipe(outputs), edges_of(outputs.boxes)
        probabilities = recipe.classes.probabilities(outputs.logits)  # (B, Q, K)
        if recipe.classes.most is None:
            scores, codes = probabilities.max(-1)
            return scores, codes, edges
        flat = probabilities.flatten(1)
        scores, places = flat.topk(min(recipe.classes.most, flat.shape[1]), dim=1)
        labels = probabilities.shape[-1]
        return scores, places % labels, edges.gather(1, (places // labels)[..., None].expand(-1, -1, 4))

    def references(self, data: TaskDataset) -> Sequence[Any]:
        objects: Sequence[Any] = data.column("objects")
        return objects


def _truths(batch: Batch) -> list[Truth]:
    labels, edges = batch.targets["labels"], batch.targets["edges"]
    return [Truth(row[row != IGNORED], own[row != IGNORED]) for row, own in zip(labels, edges, strict=True)]


def _part(answered: Any, name: str, place: int) -> Tensor | None:
    """A part of what a model returned, by its name or its place."""
    found = answered.get(name) if isinstance(answered, Mapping) else getattr(answered, name, None)
    if found is None and isinstance(answered, tuple) and len(answered) > place:
        found = answered[place]
    return found if isinstance(found, Tensor) else None


def _earlier(answered: Any, config: Any, dtype: torch.dtype) -> tuple[Answer, ...]:
    """What earlier layers, and the choice of queries, answered, where the model hands that out (RT-DETR)."""
    if not getattr(config, "auxiliary_loss", False):
        return ()
    parts = [_part(answered, name, 99) for name in ("intermediate_logits", "intermediate_reference_points")]
    chosen = [_part(answered, name, 99) for name in ("enc_topk_logits", "enc_topk_bboxes")]
    pairs: list[tuple[Tensor, Tensor]] = []
    if parts[0] is not None and parts[1] is not None:
        pairs += zip(parts[0].unbind(1)[:-1], parts[1].unbind(1)[:-1], strict=True)
    if chosen[0] is not None and chosen[1] is not None:
        pairs.append((chosen[0], chosen[1]))
    return tuple(Answer(scores.to(dtype), boxes.to(dtype)) for scores, boxes in pairs)
