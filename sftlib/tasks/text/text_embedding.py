"""Text embedding: texts that belong together lie near each other.

Letters: ``B`` rows, ``S`` texts of a row (2, or 3 with a negative), ``T`` positions, ``D`` numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import listed_rows
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics, Regression, Retrieval
from sftlib.support.checking import above_zero, checked_fields, choice
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Asked, Label, LossSum, Task
from sftlib.tasks.text.texts import one_text

#: What can be learned.
OBJECTIVES = ("in-batch", "triplet", "cosine")
_OTHERS = ("text_pair", "text_negative")
_KINDS = ("token_type_ids",)


@final
@dataclass(frozen=True)
class Embedded:
    """Where a text lies.

    Attributes:
        value: in evaluation, the cosine of the text and its pair.
    """

    _text: bytes = field(repr=False)
    _pair: bytes = field(default=b"", repr=False)
    value: float = 0.0

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(D,) of length 1."""
        return np.frombuffer(self._text, dtype=np.float32)

    @property
    def embedding_pair(self) -> NDArray[np.float32]:
        """(D,) in evaluation, that of the pair."""
        return np.frombuffer(self._pair, dtype=np.float32)

    def __repr__(self) -> str:
        return f"Prediction(embedding=<{len(self.embedding)} numbers>)"


@dataclass(frozen=True, kw_only=True)
class Learned(Checked):
    """What training data decided.

    Attributes:
        objective: one of `OBJECTIVES`.
    """

    objective: str

    def problems(self) -> Iterable[Problem]:
        yield choice("objective", self.objective, OBJECTIVES)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class TextEmbedding(Task):
    """The mean of the last hidden states over a text's tokens, at length 1; learned from pairs.

    ``"in-batch"``: each text is to find its pair among the pairs and negatives of the whole batch (cross-entropy over
    scaled cosines; Henderson et al., 2017). ``"triplet"``: its pair is to be nearer than its negative, by a margin.
    ``"cosine"``: the cosine of a pair is to be its score (squared error).

    The loss of ``"in-batch"`` couples the rows of a batch, so ``batch_size`` is part of what is learned. In evaluation
    it would depend on what else is in a batch; there the loss is the mean of 1 - cosine.

    Args:
        objective: ``"in-batch"`` (pairs), ``"triplet"`` (with ``text_negative``) or ``"cosine"`` (with ``score``); by
            the roles of the data when None.
        scale: factor of the cosines (``"in-batch"``).
        margin: between the cosines of pair and negative (``"triplet"``).
        learned: the objective; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> rows = {"text": ["a cat", "a dog"], "text_pair": ["cats", "dogs"], "score": [0.9, 0.8]}
        >>> TextEmbedding().learned_from(TaskDataset(rows, task="text-embedding")).usual_metrics
        ('spearman', 'pearson')
    """

    name = "text-embedding"
    usual_metrics = ("recall_at_1", "mrr")
    auto_class = "AutoModel"
    family = Retrieval
    couples_rows = True
    shows_more = True
    renamed = {"loss": "objective"}  # noqa: RUF012 - declared a ClassVar in the base

    objective: str | None = None
    scale: float = 20.0
    margin: float = 0.3
    learned: Learned | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learned is not None and self.learned.objective == "cosine":
            vars(self).update(usual_metrics=("spearman", "pearson"), family=Regression)

    def problems(self) -> Iterable[Problem]:
        return [
            self.objective is not None and choice("objective", self.objective, OBJECTIVES),
            above_zero("scale", self.scale),
            above_zero("margin", self.margin),
        ]

    def learned_from(self, data: TaskDataset) -> Self:
        possible = ["cosine"] if "score" in data.roles else ["in-batch"]
        possible += ["triplet"] if "text_negative" in data.roles else []
        objective = self.objective or possible[0]
        if objective not in possible:
            needs = {"cosine": "the role 'score'", "triplet": "the role 'text_negative'", "in-batch": "pairs alone"}
            raise OptionError(
                f"objective={objective!r} needs {needs[objective]}; this data has {', '.join(data.roles)}"
            )
        return replace(self, learned=Learned(objective=objective))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        usual = "cosine" if "score" in roles else "in-batch"
        return replace(self, learned=Learned(objective=self.objective or usual))

    @property
    def _loss(self) -> str:
        return str(self.known.objective)

    @property
    def _sum(self) -> Callable[[Sequence[Tensor], Batch], Tensor]:
        return {"in-batch": self._in_batch, "triplet": self._triplet, "cosine": self._cosine}[self._loss]

    def check_rows(self, data: TaskDataset) -> None:
        if "text" not in data.roles:
            raise DataError(f"the data set has no role 'text', which {self.name} reads")
        needed = {"cosine": "score", "triplet": "text_negative", "in-batch": "text_pair"}[self._loss]
        if data.is_labelled and needed not in data.roles:
            raise DataError(f"the data set has no role {needed!r}, which a model learned with {self._loss!r} needs")
        odd = [row for row, score in enumerate(data.column("score")) if abs(score) > 1] if "score" in data.roles else []
        if odd:
            raise DataError(
                f"column {data.roles['score']!r}: {listed_rows(odd)} beyond 1 or -1, which no cosine can be; divide "
                "the scores by the largest they can have"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text", *_OTHERS)

    def write(self, data: TaskDataset, encoder: TextEncoder, writer: Writer) -> None:
        for chunk in encoder.encode(data.view("text")):
            writer.add(chunk.inputs, lengths=chunk.lengths, cut=chunk.cut)
        for role in (role for role in _OTHERS if role in data.roles):
            for chunk in encoder.encode(data.view(role)):
                writer.attach(targets={role: Ragged(chunk.inputs["input_ids"], offsets_of(chunk.lengths))})

    def encode(self, data: TaskDataset, encoder: TextEncoder, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found
        others = [part.lengths for part in found.targets.values() if isinstance(part, Ragged)]
        scores = {"score": np.asarray(data.column("score"), np.float32)} if "score" in data.roles else {}
        longest = np.maximum.reduce([found.cost, *others])
        return found.with_targets(
            {**found.targets, **scores, "labelled": np.ones(len(data), bool)}, cost=longest * (1 + len(others))
        )

    def place(self, batch: Batch, encoded: Encoded, encoder: TextEncoder, moved: NDArray[np.float64] | None) -> Batch:
        """All texts, then all pairs, then all negatives, one below the other."""
        names = [name for name in _OTHERS if name in batch.targets]
        sides = [_filled(batch.targets[name], encoder.fill["input_ids"]) for name in names]
        parts = [(batch.inputs["input_ids"], batch.inputs["attention_mask"]), *sides]
        longest = max(ids.shape[1] for ids, _ in parts)
        ids, mask = (
            torch.cat([functional.pad(part[i], (0, longest - part[i].shape[1]), value=fill) for part in parts])
            for i, fill in enumerate((encoder.fill["input_ids"], 0))
        )
        kinds = {name: encoder.fill[name] * (1 - mask) for name in batch.inputs if name in _KINDS}
        return replace(
            batch,
            rows=torch.cat([batch.rows + side * len(encoded) for side in range(len(parts))]),
            inputs={"input_ids": ids, **kinds, "attention_mask": mask},
            targets={name: value for name, value in batch.targets.items() if name not in names},
        )

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Tensor:
        """(S * B, D) embeddings."""
        outputs = call(model, inputs)
        hidden = outputs if isinstance(outputs, Tensor) else outputs[0]
        if hidden.dim() != 3:
            raise OptionError(
                f"the model returned {tuple(hidden.shape)}; {self.name} needs hidden states (rows, tokens, D)"
            )
        exact = torch.promote_types(hidden.dtype, torch.float32)
        mask = inputs["attention_mask"][..., None].to(exact)
        return functional.normalize((hidden.to(exact) * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)

    def _sides(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """(B, D) of the texts, of their pairs, and of their negatives where they have some."""
        return outputs.chunk(len(outputs) // len(batch.targets["labelled"]))

    def by_row(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(B, S, D) embeddings, the sides of a row together."""
        return torch.stack(self._sides(outputs, batch), dim=1)

    def from_rows(self, lines: Tensor) -> Tensor:
        return torch.cat(lines.unbind(dim=1))

    def loss(self, outputs: Tensor, batch: Batch) -> LossSum:
        sides = self._sides(outputs, batch)
        return LossSum(self._sum(sides, batch), outputs.new_full((), len(sides[0])))

    def _in_batch(self, sides: Sequence[Tensor], batch: Batch) -> Tensor:
        text, *others = sides
        scores = text @ torch.cat(others).T * self.scale  # (B, B), or (B, 2 B) with negatives
        return functional.cross_entropy(scores, torch.arange(len(text), device=text.device), reduction="sum")

    def _triplet(self, sides: Sequence[Tensor], batch: Batch) -> Tensor:
        text, pair, negative = sides
        return functional.relu(self.margin - (text * pair).sum(dim=1) + (text * negative).sum(dim=1)).sum()

    def _cosine(self, sides: Sequence[Tensor], batch: Batch) -> Tensor:
        return functional.mse_loss(
            (sides[0] * sides[1]).sum(dim=1), batch.targets["score"].to(sides[0].dtype), reduction="sum"
        )

    def decode(self, outputs: Tensor, batch: Batch) -> list[Embedded]:
        if "labelled" not in batch.targets:
            return [Embedded(row.tobytes()) for row in outputs.float().cpu().numpy()]
        text, pair = (side.float().cpu().numpy() for side in self._sides(outputs, batch)[:2])
        cosines = (text * pair).sum(axis=1).tolist()
        return [
            Embedded(one.tobytes(), other.tobytes(), value)
            for one, other, value in zip(text, pair, cosines, strict=True)
        ]

    def judge(
        self, model: Asked, batch: Batch, encoder: TextEncoder, metrics: Metrics
    ) -> tuple[LossSum, Sequence[Embedded]]:
        """As elsewhere, but that a loss which couples rows is 1 - cosine here."""
        outputs = model(batch)
        decoded = self.decode(outputs, batch)
        if self._loss != "in-batch":
            return self.loss(outputs, batch), decoded
        text, pair = self._sides(outputs, batch)[:2]
        return LossSum((1 - (text * pair).sum(dim=1)).sum(), outputs.new_full((), len(text))), decoded

    def references(self, data: TaskDataset) -> Sequence[Any]:
        found: Sequence[Any] = data.column("score" if self._loss == "cosine" else "text_pair")
        return found

    def inputs_of(self, example: object) -> dict[str, Any]:
        return one_text(example)


def _filled(ids: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """(B, T) tokens with what fills them up, and the mask of those that stand, of a padded target."""
    inside = ids != IGNORED
    return torch.where(inside, ids, fill), inside.long()
