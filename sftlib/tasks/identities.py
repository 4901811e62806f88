"""Who is who: embeddings in which things of one identity lie together, whatever the things are.

Faces and voices share all this: how embeddings are read off a model, the losses, steps of so many rows of each
identity, verdicts on pairs and their threshold. What is left to a task is its input.

Letters: ``N`` rows, ``B`` rows of a batch, ``S`` sides of a row (1, or 2 of pairs), ``K`` identities, ``D`` numbers of
an embedding.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.metrics import Metrics, Verification
from sftlib.metrics.verification import Curve
from sftlib.models.attempts import attempt
from sftlib.models.heads import random_like
from sftlib.models.seeds import seeded
from sftlib.support.checking import above_zero, choice, real_number, whole_number
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Asked, Label, LossSum, Task
from sftlib.tasks.plan import Plan

#: What can be learned.
OBJECTIVES = ("arcface", "cosface", "triplet", "contrastive", "pairs")
#: How a model's states become one embedding.
POOLINGS = ("mean", "first", "pooler")

_WITH_CENTRES = ("arcface", "cosface")
_COUPLED = ("triplet", "contrastive")
_MARGINS = {"arcface": 0.3, "cosface": 0.2, "triplet": 0.1, "contrastive": 0.0, "pairs": 0.3}
_SCALES = {"arcface": 32.0, "cosface": 32.0, "triplet": 1.0, "contrastive": 10.0, "pairs": 1.0}
_CENTRES = "identity_centres"
_PAIR = "_pair"
_UNKNOWN = -1  # number of an identity that was not trained on
_LENGTH = 0.1  # of a centre at the start: only its direction counts, and a short one turns faster


@final
@dataclass(frozen=True)
class Embedded:
    """Where something lies."""

    _vector: bytes = field(repr=False)

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(D,) of length 1."""
        return np.frombuffer(self._vector, dtype=np.float32)

    def __repr__(self) -> str:
        return f"Prediction(embedding=<{len(self.embedding)} numbers>)"


@final
@dataclass(frozen=True)
class Verified:
    """A verdict on two things.

    Attributes:
        similarity: the cosine of their embeddings, from -1 to 1.
        same: whether they are of one identity, which is where the similarity reaches the threshold; None without one.
        threshold: chosen on the validation rows of the run; None where there were none.
    """

    similarity: float
    same: bool | None = None
    threshold: float | None = None

    def __repr__(self) -> str:
        same = "" if self.same is None else f"same={self.same}, "
        return f"Prediction({same}similarity={self.similarity:.4g})"


@final
@dataclass(frozen=True, kw_only=True)
class Learned(Checked):
    """What data decided.

    Attributes:
        objective: one of `OBJECTIVES`.
        label_names: the identities that were trained on; None of pairs.
        threshold: similarity from which on two things are the same; None before validation rows chose one.
    """

    objective: str
    label_names: tuple[Label, ...] | None = None
    threshold: float | None = None

    def problems(self) -> Iterable[Problem]:
        yield choice("objective", self.objective, OBJECTIVES)
        names = self.label_names
        if names is not None and not all(isinstance(name, str | int) for name in names):
            yield "label_names: expected a list of strings, whole numbers or booleans"
        if self.threshold is not None:
            yield real_number("threshold", self.threshold, -2, 2, expected="a cosine")


class Seen(NamedTuple):
    """What was made of a batch.

    Attributes:
        embeddings: (S * B, D) of length 1, one side below the other.
        cosines: (B, K) with the centres of the identities; None where there are none, or of pairs.
    """

    embeddings: Tensor
    cosines: Tensor | None = None


@final
class Centres(nn.Module):
    """A direction for each identity.

    Args:
        identities: K
        width: D
    """

    def __init__(self, identities: int, width: int) -> None:
        super().__init__()
        drawn = torch.randn(identities, width)
        self.weight = nn.Parameter(functional.normalize(drawn, dim=1) * _LENGTH)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, K) cosines of embeddings (B, D) of length 1, never in half precision, as they are scaled."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return functional.linear(embeddings, functional.normalize(self.weight.to(embeddings.dtype), dim=1))


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
            vars(self).update(couples_rows=objective in _COUPLED, shows_more=objective == "pairs")

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
            return replace(self, learned=_of_pairs(data))
        return replace(self, learned=_of_identities(data, objective))

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
        if self._objective not in _COUPLED:
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
            return _of_verdicts(first, second, batch.targets["same"], self._margin)
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


def arc_margin(cosines: Tensor, target: Tensor, margin: float) -> Tensor:
    """Cosines (B, K), of which that of each row's own identity is that of an angle larger by a margin.

    Beyond a half turn, where a larger angle would have a larger cosine again, it falls on along its tangent (Deng et
    al., 2019, "ArcFace").

    Args:
        cosines: (B, K)
        target: (B,) number of each row's identity.
        margin: in radians.
    """
    own = cosines.gather(1, target[:, None])  # (B, 1)
    sines = (1 - own.square()).clamp(min=1e-12).sqrt()
    turned = own * math.cos(margin) - sines * math.sin(margin)
    turned = torch.where(own > -math.cos(margin), turned, own - margin * math.sin(margin))
    return cosines.scatter(1, target[:, None], turned)


def cosine_margin(cosines: Tensor, target: Tensor, margin: float) -> Tensor:
    """Cosines (B, K), of which that of each row's own identity is smaller by a margin (Wang et al., 2018, "CosFace").

    Example:
        >>> cosine_margin(torch.tensor([[0.5, 0.5]]), torch.tensor([1]), 0.25).tolist()
        [[0.5, 0.25]]
    """
    own = cosines.gather(1, target[:, None])
    return cosines.scatter(1, target[:, None], own - margin)


def triplet(embeddings: Tensor, target: Tensor, *, margin: float) -> LossSum:
    """Of every row, one of its identity and one of another: by how much the last is not further off than the margin.

    The count is the number of triplets that are not right yet, so that those that are do not thin out the loss.

    Args:
        embeddings: (B, D) of length 1.
        target: (B,) number of each row's identity.
        margin: between cosines.
    """
    cosines = embeddings @ embeddings.T
    same = target[:, None] == target
    others = same & ~torch.eye(len(target), dtype=torch.bool, device=same.device)
    total, count = cosines.new_zeros(()), cosines.new_zeros(())
    for row in range(len(target)):  # (positives, negatives) of one row at a time: all of them at once are B ** 3
        wrong = functional.relu(margin - cosines[row, others[row], None] + cosines[row, ~same[row]])
        total = total + wrong.sum()
        count = count + (wrong.detach() > 0).sum()
    return LossSum(total, count)


def contrastive(embeddings: Tensor, target: Tensor, *, scale: float) -> LossSum:
    """Every row is to find the others of its identity among all others (Khosla et al., 2020).

    The count is the number of rows that have another of their identity.

    Args:
        embeddings: (B, D) of length 1.
        target: (B,) number of each row's identity.
        scale: of the cosines; one over the temperature.
    """
    if len(target) < 2:
        return LossSum(embeddings.sum() * 0, embeddings.new_zeros(()))
    itself = torch.eye(len(target), dtype=torch.bool, device=target.device)
    others = (target[:, None] == target) & ~itself
    scores = (embeddings @ embeddings.T * scale).masked_fill(itself, -math.inf)
    found = torch.log_softmax(scores, dim=1).masked_fill(~others, 0.0).sum(dim=1)  # (B,)
    count = others.sum(dim=1)
    return LossSum(-(found / count.clamp(min=1)).sum(), (count > 0).sum().to(scores.dtype))


def _of_verdicts(first: Tensor, second: Tensor, same: Tensor, margin: float) -> LossSum:
    """Of a pair that is the same 1 - cosine, of another one how far its cosine lies above the margin, summed."""
    cosines = (first * second).sum(dim=1)
    wrong = torch.where(same > 0.5, 1 - cosines, functional.relu(cosines - margin))
    return LossSum(wrong.sum(), cosines.new_full((), len(cosines)))


@final
class IdentityPlan(Plan):
    """Steps of so many rows of each of several identities: a pure function of (seed, epoch).

    In every epoch each row comes at least once. The rows of an identity are shuffled and cut into groups of
    ``rows_of_each``; the last group is filled up with others of the identity, if it has so many. Groups are dealt in
    rounds, one of each identity that has any left, so that the identities of a step are different ones.

    Args:
        identities: (N,) number of each row's identity.
        batch_size: rows of a step, at most; as many identities as fit.
        rows_of_each: rows of an identity in a step.
        seed: of the run.

    Example:
        >>> plan = IdentityPlan(np.repeat([0, 1, 2], 4), batch_size=4, rows_of_each=2, seed=0)
        >>> plan.steps_per_epoch, [len(plan.rows(step)) for step in range(3)]
        (3, [4, 4, 4])
    """

    def __init__(self, identities: NDArray[np.int64], *, batch_size: int, rows_of_each: int, seed: int) -> None:
        order = np.argsort(identities, kind="stable")
        _, starts = np.unique(identities[order], return_index=True)
        self._members = np.split(order, starts[1:])
        self._of_each = rows_of_each
        self._seed = seed
        self._groups = max(1, batch_size // rows_of_each)  # of a step
        groups = sum(math.ceil(len(rows) / rows_of_each) for rows in self._members)
        self.steps_per_epoch = math.ceil(groups / self._groups)
        self._dealt: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def rows(self, step: int) -> NDArray[np.int64]:
        epoch, index = divmod(step, self.steps_per_epoch)
        dealt = self._dealt
        if dealt[0] != epoch:
            self._dealt = dealt = (epoch, self._deal(epoch))  # whole at once: threads ask too
        return dealt[1][index]

    def _deal(self, epoch: int) -> list[NDArray[np.int64]]:
        generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64)))
        rounds: dict[int, list[NDArray[np.int64]]] = {}
        for members in self._members:
            shuffled = generator.permutation(members)
            for number, start in enumerate(range(0, len(shuffled), self._of_each)):
                group = shuffled[start : start + self._of_each]
                missing = self._of_each - len(group)
                rounds.setdefault(number, []).append(np.concatenate([group, shuffled[: min(missing, start)]]))
        groups = [part[i] for part in rounds.values() for i in generator.permutation(len(part))]
        steps = [groups[start : start + self._groups] for start in range(0, len(groups), self._groups)]
        return [_each_once(np.concatenate(step)) for step in steps]


def _each_once(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the second of two rows that are the same: where two rounds meet, an identity may come twice."""
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _of_pairs(data: TaskDataset) -> Learned:
    if len(set(data.view("same"))) < 2:
        raise LabelError(
            f"column {data.roles['same']!r}: every pair is {'the same' if data.column('same')[0] else 'different'}; "
            "learning from pairs needs both kinds"
        )
    return Learned(objective="pairs")


def _of_identities(data: TaskDataset, objective: str) -> Learned:
    """The identities that there are rows of: those that are only declared, or on another side of a split, are not."""
    column, names = data.column("label"), data.label_names or ()
    there = {(type(label), label) for label in column}
    found = tuple(name for name in names if (type(name), name) in there)
    where = f"column {data.roles['label']!r}"
    if len(found) < 2:
        raise LabelError(
            f"{where}: all {len(column):,} rows are of {found[0]!r}; telling identities apart needs at least two"
        )
    if objective in _COUPLED and len(found) == len(column):
        raise LabelError(
            f"{where}: every identity has one row alone, and objective={objective!r} compares rows of one identity; "
            "give more rows of each"
        )
    return Learned(objective=objective, label_names=found)


def _below(first: Tensor, second: Tensor) -> Tensor:
    """(2 B, ...) one side below the other, both filled up with zeros on the right to the larger."""
    shape = [max(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True)]

    def filled(side: Tensor) -> Tensor:
        gaps = [gap for size, wanted in zip(side.shape[:0:-1], shape[::-1], strict=True) for gap in (0, wanted - size)]
        return functional.pad(side, gaps) if any(gaps) else side

    return torch.cat([filled(first), filled(second)])
