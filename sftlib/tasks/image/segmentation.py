"""Semantic segmentation: one of ``K`` labels for each pixel of a picture.

Letters: ``B`` rows, ``K`` labels, ``H`` and ``W`` pixels of what the model sees, ``h`` and ``w`` of its scores.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.kinds.masks import NO_CLASS, MaskRole
from sftlib.data.pixels import Pixels, decode
from sftlib.data.problems import listed
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Filed
from sftlib.encoders.image.places import moved_mask
from sftlib.errors import LabelError, OptionError
from sftlib.metrics import Segmentation
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.canvas import Drawn, drawn
from sftlib.support.canvas import Plane as DrawnPlane
from sftlib.support.checking import checked_fields, is_number, share
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum
from sftlib.tasks.image.placed import Moves, PlacedTask
from sftlib.tasks.labels import ClassWeights, WeightedLabels, check_labels, label_weights, weights_problems
from sftlib.tasks.vector import as_tensor

_RARE = 0.02  # share of the pixels


@final
@dataclass(frozen=True, eq=False)
class Plane:
    """An array that equals another one where all of it does."""

    values: NDArray[Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plane) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())


@final
@dataclass(frozen=True)
class Segmented:
    """The label of each pixel of a picture.

    Attributes:
        label_names: the labels; a number in ``mask`` is the place of one among them.
        probabilities: label -> its mean probability over the picture, summing to 1.
    """

    label_names: tuple[Label, ...]
    probabilities: Mapping[Label, float] = field(repr=False, compare=False)
    _mask: Plane = field(repr=False)

    @property
    def mask(self) -> NDArray[np.integer[Any]]:
        """(H, W) numbers of labels, as high and as wide as the picture."""
        return self._mask.values

    @property
    def areas(self) -> dict[Label, int]:
        """Label -> how many pixels have it, of those that occur; the largest first."""
        numbers, counts = np.unique(self.mask, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.label_names[int(numbers[i])]: int(counts[i]) for i in order}

    def draw(self, picture: Any = None) -> Drawn:
        """The labels as colours, over their picture: a notebook shows it, ``.save("found.png")`` writes it.

        Args:
            picture: that the prediction is of, as `predict` took it; None for the colours alone.
        """
        height, width = self.mask.shape
        pixels = np.full((height, width, 3), 255, np.uint8) if picture is None else decode(picture)
        largest = next(iter(self.areas))
        caption = f"{largest}: {self.areas[largest] / self.mask.size:.1%} of the picture"
        return drawn(pixels, caption=caption, mask=DrawnPlane(self.mask, self.label_names))

    def _repr_png_(self) -> bytes:
        return self.draw().png()

    def __repr__(self) -> str:
        height, width = self.mask.shape
        shares = ", ".join(f"{label!r}: {count / self.mask.size:.1%}" for label, count in [*self.areas.items()][:4])
        return f"Prediction(mask=<{height} x {width}>, areas={{{shares}{', ...' if len(self.areas) > 4 else ''}}})"


@final
class _Classes(Sequence[NDArray[np.int16]]):
    """The masks of a data set as numbers of the model's labels, read when they are asked for."""

    def __init__(self, data: TaskDataset, names: Sequence[Label]) -> None:
        kind = data.kinds["mask"]
        assert isinstance(kind, MaskRole)
        self._kind = kind
        self._masks = data.view("mask")
        number = {name: code for code, name in enumerate(names)}
        codes = [number.get(name, NO_CLASS) for name in data.label_names or ()]
        self._codes = np.array([*codes, NO_CLASS], np.int16)  # `NO_CLASS` itself finds the last

    def __len__(self) -> int:
        return len(self._masks)

    @overload
    def __getitem__(self, row: int) -> NDArray[np.int16]: ...
    @overload
    def __getitem__(self, row: slice) -> list[NDArray[np.int16]]: ...
    def __getitem__(self, row: int | slice) -> NDArray[np.int16] | list[NDArray[np.int16]]:
        if isinstance(row, slice):
            return [self[one] for one in range(len(self))[row]]
        found: NDArray[np.int16] = self._codes[self._kind.classes(self._masks[row])]
        return found


@final
@dataclass(frozen=True, kw_only=True)
class SegmentedLabels(WeightedLabels):
    """Labels of pixels.

    Attributes:
        shares: of the pixels that count in the training data, what each label has; None in folders of before.
    """

    shares: tuple[float, ...] | None = None

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        shares, count = self.shares, len(self.label_names) if isinstance(self.label_names, tuple) else 0
        good = isinstance(shares, tuple) and len(shares) == count
        if shares is not None and not (good and all(is_number(one) and 0 <= one <= 1 for one in shares)):
            yield f"shares: expected null, or a number from 0 to 1 for each of {count:,} labels"


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class SemanticSegmentation(PlacedTask):
    """One of ``K`` labels for each pixel, by cross-entropy over all pixels that count.

    Scores are brought to the size of what the model sees, bilinearly; a mask is moved along with its picture, and each
    pixel takes the nearest number. Predictions have the size of the picture.

    A sum over pixels hardly sees what is thin or far away. ``class_weights="sqrt"`` lets it count: on streets that is
    what decides whether poles, signs and people are learned at all (docs/benchmarks.md).

    Args:
        class_weights: ``"sqrt"`` (one over the root of how often a label is, by pixels), ``"balanced"`` (one over how
            often), or label -> weight: how much the pixels of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        learned: labels and weights; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> SemanticSegmentation(class_weights="balanced")
        SemanticSegmentation(class_weights='balanced')
    """

    name = "semantic-segmentation"
    usual_metrics = ("miou", "pixel_accuracy", "mean_accuracy", "dice")
    auto_class = "AutoModelForSemanticSegmentation"
    family = Segmentation

    class_weights: ClassWeights = None
    label_smoothing: float = 0.0
    learned: SegmentedLabels | None = None

    def problems(self) -> Iterable[Problem]:
        return [*weights_problems(self.class_weights), share("label_smoothing", self.label_smoothing)]

    def learned_from(self, data: TaskDataset) -> Self:
        names, kind = data.label_names or (), data.kinds["mask"]
        assert isinstance(kind, MaskRole)
        pixels: Counter[Label] = Counter()
        for mask in data.view("mask"):
            pixels.update({names[code]: count for code, count in kind.pixels(mask).items()})
        if len(pixels) < 2:
            found = (
                f"all pixels of {len(data):,} masks have the label {next(iter(pixels))!r}"
                if pixels
                else "no pixel counts"
            )
            raise LabelError(
                f"column {data.roles['mask']!r}: {found}; segmentation needs at least two labels in the training data"
            )
        weights = label_weights(self.class_weights, pixels, names)
        shares = tuple(pixels[name] / pixels.total() for name in names)
        return replace(self, learned=SegmentedLabels(label_names=names, class_weights=weights, shares=shares))

    def said(self, train: TaskDataset, valid: TaskDataset | None) -> Sequence[str]:
        found = zip(self.known.label_names, self.known.shares or (), strict=False)
        rare = [name for name, share in found if 0 < share < _RARE]
        if not rare or self.class_weights is not None:
            return ()
        return [
            f"fewer than {_RARE:.0%} of the pixels are {listed(rare)}, which a sum over pixels hardly sees; "
            "class_weights='sqrt' lets them count"
        ]

    @property
    def head(self) -> Head:
        names = self.known.label_names
        return Head(auto_class=self.auto_class, outputs=len(names), labels=tuple(str(name) for name in names))

    def check_rows(self, data: TaskDataset) -> None:
        if data.is_labelled:
            kind = data.kinds["mask"]
            found = [list(kind.labels_of(mask)) for mask in data.view("mask")]
            check_labels(found, self.known.label_names, column=data.roles["mask"])

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        return found.with_targets({"mask": Filed(self.references(data), _identity)} if data.is_labelled else {})

    def put(self, batch: Batch, encoded: Encoded, size: tuple[int, int], moved: Moves) -> Batch:
        masks = encoded.targets["mask"]
        assert isinstance(masks, Filed)
        rows = zip(batch.rows.tolist(), moved, strict=True)
        target = np.stack([moved_mask(masks[row], matrix, size, beyond=NO_CLASS) for row, matrix in rows])
        target = np.where(target == NO_CLASS, IGNORED, target.astype(np.int64))  # (B, H, W)
        return replace(batch, targets={**batch.targets, "mask": torch.from_numpy(target)})

    def drawn(self, pixels: Pixels, batch: Batch, when: str) -> Drawn:
        target = batch.targets["mask"][0].numpy()
        share = float((target != IGNORED).mean())
        caption = f"{when}: {share:.0%} of the pixels count"
        return drawn(pixels, caption=caption, mask=DrawnPlane(target, self.known.label_names))

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        return np.empty(0, np.int64)

    def _scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, K, h, w) fp32.

        Raises:
            OptionError: a model whose output has another shape.
        """
        try:
            found = logits(outputs)
        except (TypeError, IndexError):
            found = None
        wanted = (len(batch.rows), len(self.known.label_names))
        if found is None or found.ndim != 4 or found.shape[:2] != wanted:
            shape = type(outputs).__name__ if found is None else f"scores of shape {tuple(found.shape)}"
            raise OptionError(
                f"the model returned {shape}; {self.name} on this data needs {(*wanted, 'h', 'w')}: rows, labels, and "
                "places; a tensor, or something that has one as .logits"
            )
        return found

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Cross-entropy summed over pixels; the count is how many of them count, or the sum of their weights."""
        scores, target = self._scores(outputs, batch), batch.targets["mask"]
        if scores.shape[-2:] != target.shape[-2:]:
            scores = functional.interpolate(scores, size=target.shape[-2:], mode="bilinear", align_corners=False)
        weights = as_tensor(self.known.class_weights, scores)
        losses = functional.cross_entropy(
            scores, target, weight=weights, ignore_index=IGNORED, label_smoothing=self.label_smoothing, reduction="none"
        )  # (B, H, W)
        counted = target != IGNORED
        count = counted.sum() if weights is None else weights[target[counted]].sum()
        return LossSum(losses.sum(), count.to(scores.dtype))

    def decode(self, outputs: Any, batch: Batch) -> list[Segmented]:
        scores, names = self._scores(outputs, batch), self.known.label_names
        kind = np.uint8 if len(names) <= 256 else np.uint16
        means = torch.softmax(scores, dim=1).mean((2, 3)).tolist()  # (B, K)
        found = []
        for own, mean, (height, width) in zip(scores, means, batch.notes["size"].tolist(), strict=True):
            large = functional.interpolate(own[None], size=(height, width), mode="bilinear", align_corners=False)
            mask = large[0].argmax(0).cpu().numpy().astype(kind)
            mask.flags.writeable = False
            found.append(Segmented(names, dict(zip(names, mean, strict=True)), Plane(mask)))
        return found

    def references(self, data: TaskDataset) -> Sequence[NDArray[np.int16]]:
        return _Classes(data, self.known.label_names)


def _identity(mask: NDArray[np.int16]) -> bytes:
    return hashlib.sha256(repr(mask.shape).encode() + mask.tobytes()).digest()
