"""The task itself; what is left to one of its kind is its input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics, Verification
from sftlib.metrics.verification import Curve
from sftlib.models.attempts import attempt
from sftlib.models.heads import random_like
from sftlib.models.seeds import seeded
from sftlib.support.checking import above_zero, choice, real_number, whole_number
from sftlib.support.values import Problem
from sftlib.tasks.base import Asked, LossSum, Task
from sftlib.tasks.identities.answers import Embedded, Verified
from sftlib.tasks.identities.learned import COUPLED, OBJECTIVES, Learned, learned_of_identities, learned_of_pairs
from sftlib.tasks.identities.losses import Centres, arc_margin, contrastive, cosine_margin, of_verdicts, triplet
from sftlib.tasks.identities.plan import IdentityPlan
from sftlib.tasks.plan import Plan

#: How a model's states become one embedding.
POOLINGS = ("mean", "first", "pooler")

_WITH_CENTRES = ("arcface", "cosface")
_MARGINS = {"arcface": 0.3, "cosface": 0.2, "triplet": 0.1, "contrastive": 0.0, "pairs": 0.3}
_SCALES = {"arcface": 32.0, "cosface": 32.0, "triplet": 1.0, "contrastive": 10.0, "pairs": 1.0}
_CENTRES = "identity_centres"
_PAIR = "_pair"
_UNKNOWN = -1  # number of an identity that was not trained on


class Seen(NamedTuple):
    """What was made of a batch.

    Attributes:
        embeddings: (S * B, D) of length 1, one side below the other.
        cosines: (B, K) with the centres of the identities; None where there are none, or of pairs.
    """

    embeddings: Tensor
    cosines: Tensor | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class IdentityTask(Task):
    """Embeddings in which things of one identity lie together, and verdicts on pairs of them.

    Args:
        objective: ``"arcface"``, ``"cosface"``, ``"triplet"`` or ``"contrastive"`` for rows with an identity;
            ``"pairs"`` for pairs with a verdict; by the roles of the data when None (``"arcface"``, or ``"pairs"``).
        margin: by how much a row is to be nearer to its own identity than to others: an angle in radians
            (``"arcface"``, 0.3 when None), a cosine (``"cosface"`` 0.2, ``"triplet"`` 0.1), or the cosine below which a
            pair of strangers is let be (``"pairs"`` 0.3).
        scale: factor of the cosines (``"arcface"`` and ``"cosface"`` 32, ``"contrastive"`` 10 when None).
        rows_of_each: rows of an identity in a step, of objectives that compare the rows of a step.
        pooling: ``"mean"`` of the model's last states over all places, ``"first"`` of them, or its own ``"pooler"``.
        far: share of impostors that may pass at the threshold that validation rows choose; None for where both errors
            are nearest to each other.
        learned: objective, identities and threshold; from the data.
    """

    usual_metrics = ("eer", "tar_at_far_1e-2", "roc_auc", "recall_at_1", "map_at_r")
    auto_class = "AutoModel"
    family = Verification
    attached = (_CENTRES,)

    media: ClassVar[str]  # the role of the input

    objective: str | None = None
    margin: float | None = None
    scale: float | None = None
    rows_of_each: int = 4
    pooling: str = "mean"
    far: float | None = None
    learned: Learned | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learned is not None:
            objective = self.learned.objective
            vars(self).update(couples_rows=objective in COUPLED, shows_more=objective == "pairs")

    def problems(self) -> Iterable[Problem]:
        return [
            self.objective is not None and choice("objective", self.objective, OBJECTIVES),
            self.margin is not None and real_number("margin", self.margin, 0, 2, expected="a number from 0 to 2"),
            self.scale is not None and above_zero("scale", self.scale),
            whole_number("rows_of_each", self.rows_of_each, at_least=2),
            choice("pooling", self.pooling, POOLINGS),
            self.far is not None and real_number("far", self.far, 0, 1, expected="a share between 0 and 1", ends=False),
        ]

    # What the data decides.

    def learned_from(self, data: TaskDataset) -> Self:
        of_pairs = "same" in data.roles
        objective = self.objective or ("pairs" if of_pairs else "arcface")
        if (objective == "pairs") != of_pairs:
            needs = f"the roles '{self.media}_pair' and 'same'" if objective == "pairs" else "the role 'label'"
            raise OptionError(f"objective={objective!r} needs {needs}; this data has {', '.join(data.roles)}")
        if of_pairs:
            return replace(self, learned=learned_of_pairs(data))
        return replace(self, learned=learned_of_identities(data, objective))

    @property
    def _objective(self) -> str:
        return str(self.known.objective)

    @property
    def _margin(self) -> float:
        return _MARGINS[self._objective] if self.margin is None else self.margin

    @property
    def _scale(self) -> float:
        return _SCALES[self._objective] if self.scale is None else self.scale

    def check_rows(self, data: TaskDataset) -> None:
        """Identities may be new: the only tasks where that is no mistake."""
        if self.media not in data.roles:
            raise DataError(f"the data set has no role {self.media!r}, which {self.name} reads")

    def said(self, train: TaskDataset, valid: TaskDataset | None) -> Sequence[str]:
        if "label" not in train.roles:
            return ()
        here = set(train.column("label"))
        sides = [f"{len(here):,} identities to learn from"]
        if valid is not None and "label" in valid.roles:
            there = set(valid.column("label"))
            sides.append(f"{len(there):,} to validate on, {len(there - here):,} of them new")
        return [", ".join(sides)]

    # The model.

    def attach(self, model: nn.Module, encoder: Any, *, seed: int) -> Collection[str]:
        if self._objective not in _WITH_CENTRES or hasattr(model, _CENTRES):
            return ()
        tried = attempt(lambda: self._width(model, encoder), kinds=(Exception,))
        if tried.value is None:
            raise OptionError(
                f"model={type(model).__name__}: it cannot be called with {encoder.hands}: {tried.reason}; of a "
                "model with several inputs give the part that reads these, such as its vision model"
            )
        with seeded(seed):
            centres = Centres(len(self.known.label_names or ()), tried.value)
        like = next(model.parameters())
        model.add_module(_CENTRES, centres.to(like.device))
        return [f"{_CENTRES}.weight"]

    def _width(self, model: nn.Module, encoder: Any) -> int:
        """D of what a model makes of a small row."""
        was_training, small = model.training, random_like(encoder.smallest())
        model.eval()
        try:
            with torch.no_grad():
                return self._embedding(encoder.calling(model)(model, small), small).shape[1]
        finally:
            model.train(was_training)

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Seen:
        embeddings = functional.normalize(self._embedding(call(model, inputs), inputs), dim=-1)
        centres = getattr(model, _CENTRES, None)
        return Seen(embeddings, None if centres is None else centres(embeddings))

    def _embedding(self, outputs: Any, inputs: Mapping[str, Any]) -> Tensor:
        """(B, D) in fp32, not yet of length 1.

        Raises:
            OptionError: nothing in what the model returned can be read as one.
        """
        states = outputs if isinstance(outputs, Tensor) else outputs[0]
        found = getattr(outputs, "pooler_output", None) if self.pooling == "pooler" else states
        if isinstance(found, Tensor) and self.pooling == "pooler":
            found = found.flatten(1)
        elif isinstance(found, Tensor) and found.dim() == 4:  # (B, D, rows, columns)
            found = found.flatten(2).transpose(1, 2)
        if not isinstance(found, Tensor) or found.dim() not in (2, 3):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise OptionError(
                f"the model returned {shape}; {self.name} with pooling={self.pooling!r} needs an embedding (rows, D), "
                "or states (rows, places, D) or (rows, D, height, width)"
            )
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        if found.dim() == 2:
            return found
        return found[:, 0] if self.pooling == "first" else self.mean(found, inputs)

    def mean(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """(B, D) the mean of states (B, places, D) over those places that are the row's own: all of them."""
        return states.mean(dim=1)

    # Rows.

    @final
    @property
    def reads(self) -> tuple[str, ...]:
        return (self.media, self.media + _PAIR)

    @final
    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found
        if "same" in data.roles:
            return found.with_targets({"same": np.fromiter(data.view("same"), np.float32, len(data))})
        numbers = self._numbers(data)  # of a row in parts each has the row's
        return found.with_targets({"target": numbers if len(found) == len(data) else numbers[found.owners]})

    def _numbers(self, data: TaskDataset) -> NDArray[np.int64]:
        """(N,) the number of each row's identity."""
        number = {(type(name), name): i for i, name in enumerate(self.known.label_names or ())}
        numbers = (number.get((type(label), label), _UNKNOWN) for label in data.view("label"))
        return np.fromiter(numbers, np.int64, len(data))

    @final
    def place(self, batch: Batch, encoded: Encoded, encoder: Any, moved: NDArray[np.float64] | None) -> Batch:
        """All first things, then all second ones of pairs, one below the other."""
        seconds = {name: value for name, value in batch.inputs.items() if name.endswith(_PAIR)}
        if not seconds:
            return batch
        inputs = {
            name: _below(value, seconds[name + _PAIR]) for name, value in batch.inputs.items() if name not in seconds
        }
        return replace(batch, rows=torch.cat([batch.rows, batch.rows + len(encoded)]), inputs=inputs)

    def plan(self, encoded: Encoded, *, batch_size: int, seed: int) -> Plan | None:
        if self._objective not in COUPLED:
            return None
        identities = encoded.targets["target"]
        assert isinstance(identities, np.ndarray)
        return IdentityPlan(identities, batch_size=batch_size, rows_of_each=self.rows_of_each, seed=seed)

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        both = (self.media, self.media + _PAIR)
        if isinstance(example, tuple) and len(example) == 2:
            example = dict(zip(both, example, strict=True))
        if isinstance(example, Mapping) and example.keys() == set(both):
            return {role: self.one(example[role]) for role in both}
        return {self.media: self.one(example)}

    @final
    def is_one(self, given: object) -> bool:
        return isinstance(given, tuple) and len(given) == 2

    @abstractmethod
    def one(self, example: object) -> Any:
        """One thing to be embedded, by itself or in a mapping under its role.

        Raises:
            DataError: it is none.
        """

    # Losses.

    def by_row(self, outputs: Seen, batch: Batch) -> Tensor:
        """(B, D) embeddings."""
        return outputs.embeddings

    def from_rows(self, lines: Tensor) -> Seen:
        return Seen(lines)

    @final
    def loss(self, outputs: Seen, batch: Batch) -> LossSum:
        """Summed; over rows of known identities, over pairs, or over what `triplet` and `contrastive` say."""
        if "same" in batch.targets:
            first, second = outputs.embeddings.chunk(2)
            return of_verdicts(first, second, batch.targets["same"], self._margin)
        target = batch.targets["target"]
        if self._objective == "triplet":
            return triplet(outputs.embeddings, target, margin=self._margin)
        if self._objective == "contrastive":
            return contrastive(outputs.embeddings, target, scale=self._scale)
        if outputs.cosines is None:  # learned from pairs, evaluated on identities
            return LossSum(outputs.embeddings.sum() * 0, outputs.embeddings.new_full((), 0))
        known = target != _UNKNOWN
        turned = arc_margin if self._objective == "arcface" else cosine_margin
        scores = turned(outputs.cosines[known], target[known], self._margin) * self._scale
        total = functional.cross_entropy(scores, target[known], reduction="sum")
        return LossSum(total, known.sum().to(total.dtype))

    def judge(self, model: Asked, batch: Batch, encoder: Any, metrics: Metrics) -> tuple[LossSum, Sequence[Any]]:
        """As elsewhere, but that a loss which couples the rows of a step says nothing of rows by themselves."""
        outputs = model(batch)
        if self.couples_rows and "same" not in batch.targets:
            nothing = outputs.embeddings.new_full((), 0)
            return LossSum(nothing, nothing), self.decode(outputs, batch)
        return self.loss(outputs, batch), self.decode(outputs, batch)

    # Answers.

    @final
    def decode(self, outputs: Seen, batch: Batch) -> list[Embedded | Verified]:
        embeddings = outputs.embeddings.detach().float().cpu()
        if len(embeddings) == len(batch.cost):
            return [Embedded(row.tobytes()) for row in embeddings.numpy()]
        first, second = embeddings.double().chunk(2)
        return [self._verdict(value) for value in (first * second).sum(dim=1).tolist()]

    def _verdict(self, similarity: float) -> Verified:
        threshold = self.known.threshold
        return Verified(similarity, None if threshold is None else similarity >= threshold, threshold)

    @property
    def settles(self) -> bool:
        return True

    @final
    def settled(self, data: TaskDataset, predictions: Sequence[Any]) -> Task:
        """With the threshold that these rows choose; without, where they hold no pair of each kind."""
        if "same" in data.roles:
            similarities = np.array([prediction.similarity for prediction in predictions])
            curve = Curve.of_pairs(similarities, np.fromiter(data.view("same"), bool, len(data)))
        else:
            known: dict[Hashable, int] = {}
            numbers = np.array([known.setdefault(label, len(known)) for label in data.view("label")], np.int64)
            curve = Curve.of_embeddings(np.stack([prediction.embedding for prediction in predictions]), numbers)
        if not curve.defined:
            return self
        return replace(self, learned=replace(self.known, threshold=curve.threshold(self.far)))

    @final
    def references(self, data: TaskDataset) -> Sequence[Any]:
        found: Sequence[Any] = data.column("same" if "same" in data.roles else "label")
        return found

    @final
    def metrics(self, names: Sequence[Any] | None = None) -> Metrics:
        """Without label names: identities may be new."""
        chosen = self.usual_metrics if names is None else names
        return Metrics(["loss", *(name for name in chosen if name != "loss")], family=self.family)


def _below(first: Tensor, second: Tensor) -> Tensor:
    """(2 B, ...) one side below the other, both filled up with zeros on the right to the larger."""
    shape = [max(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True)]

    def filled(side: Tensor) -> Tensor:
        gaps = [gap for size, wanted in zip(side.shape[:0:-1], shape[::-1], strict=True) for gap in (0, wanted - size)]
        return functional.pad(side, gaps) if any(gaps) else side

    return torch.cat([filled(first), filled(second)])
