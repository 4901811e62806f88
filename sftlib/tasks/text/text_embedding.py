"""Text embedding: texts that belong together lie near each other.

Letters: ``B`` rows, ``S`` texts of a row (2, or 3 with a negative), ``T`` positions, ``D`` numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief, listed_rows
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Family, Metrics, Regression, Retrieval
from sftlib.models.sources import Head, ModelSource
from sftlib.tasks.base import Asked, LossSum, Task
from sftlib.tasks.options import refuse_options

LOSSES = ("in-batch", "triplet", "cosine")
_OTHERS = ("text_pair", "text_negative")
_SCALE, _MARGIN = 20.0, 0.3
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


@final
class TextEmbedding(Task):
    """The mean of the last hidden states over a text's tokens, at length 1; learned from pairs.

    ``"in-batch"``: each text is to find its pair among the pairs and negatives of the whole batch (cross-entropy over
    scaled cosines; Henderson et al., 2017). ``"triplet"``: its pair is to be nearer than its negative, by a margin.
    ``"cosine"``: the cosine of a pair is to be its score (squared error).

    The loss of ``"in-batch"`` couples the rows of a batch, so ``batch_size`` is part of what is learned; a batch that
    is cut, or shared by processes, is computed twice. In evaluation the loss would depend on what else is in a batch;
    there it is the mean of 1 - cosine.

    Args:
        loss: one of `LOSSES`.
        scale: factor of the cosines (``"in-batch"``).
        margin: between the cosines of pair and negative (``"triplet"``).

    Example:
        >>> TextEmbedding(loss="cosine").usual_metrics
        ('spearman', 'pearson')
    """

    name = "text-embedding"
    usual_metrics = ("recall_at_1", "mrr")
    couples_rows = True
    shows_more = True
    label_names = None

    def __init__(self, *, loss: str, scale: float = _SCALE, margin: float = _MARGIN) -> None:
        self._loss, self._scale, self._margin = loss, scale, margin
        self._sum = {"in-batch": self._in_batch, "triplet": self._triplet, "cosine": self._cosine}[loss]
        scored = loss == "cosine"
        self.usual_metrics = ("spearman", "pearson") if scored else ("recall_at_1", "mrr")  # type: ignore[misc]
        self.family: type[Family] = Regression if scored else Retrieval

    @classmethod
    def for_data(cls, data: TaskDataset, options: Mapping[str, Any]) -> TextEmbedding:
        refuse_options(cls.name, options, known=("embedding_loss", "embedding_scale", "embedding_margin"))
        possible = ["cosine"] if "score" in data.roles else ["in-batch"]
        possible += ["triplet"] if "text_negative" in data.roles else []
        loss = options.get("embedding_loss") or possible[0]
        if loss not in possible:
            needs = {"cosine": "the role 'score'", "triplet": "the role 'text_negative'", "in-batch": "pairs alone"}
            raise OptionError(f"embedding_loss={loss!r} needs {needs[loss]}; this data has {', '.join(data.roles)}")
        given = {"scale": options.get("embedding_scale"), "margin": options.get("embedding_margin")}
        return cls(loss=loss, **{name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TextEmbedding:
        return cls(**config)

    def config(self) -> dict[str, Any]:
        return {"loss": self._loss, "scale": self._scale, "margin": self._margin}

    @property
    def head(self) -> Head:
        return Head(auto_class="AutoModel")

    def build(self, source: ModelSource, *, dropout: float | None, seed: int) -> nn.Module:
        return source.build(self.head, dropout=dropout, seed=seed)

    def check(self, data: TaskDataset) -> None:
        if data.task not in (None, self.name):
            raise DataError(f"the data set is for {data.task}, the model for {self.name}")
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
        mask = inputs["attention_mask"][..., None].float()
        return functional.normalize((hidden.float() * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)

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
        return LossSum(self._sum(sides, batch), outputs.new_tensor(len(sides[0])))

    def _in_batch(self, sides: Sequence[Tensor], batch: Batch) -> Tensor:
        text, *others = sides
        scores = text @ torch.cat(others).T * self._scale  # (B, B), or (B, 2 B) with negatives
        return functional.cross_entropy(scores, torch.arange(len(text), device=text.device), reduction="sum")

    def _triplet(self, sides: Sequence[Tensor], batch: Batch) -> Tensor:
        text, pair, negative = sides
        return functional.relu(self._margin - (text * pair).sum(dim=1) + (text * negative).sum(dim=1)).sum()

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
        return LossSum((1 - (text * pair).sum(dim=1)).sum(), outputs.new_tensor(len(text))), decoded

    def references(self, data: TaskDataset) -> Sequence[Any]:
        found: Sequence[Any] = data.column("score" if self._loss == "cosine" else "text_pair")
        return found

    def inputs_of(self, example: object) -> dict[str, Any]:
        values: object = {"text": example} if isinstance(example, str) else example
        if not isinstance(values, Mapping) or not isinstance(values.get("text"), str) or len(values) > 1:
            raise DataError(f"this model takes texts: a string, or a mapping with 'text'; found {brief(example, 80)}")
        return {"text": values["text"]}


def _filled(ids: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """(B, T) tokens with what fills them up, and the mask of those that stand, of a padded target."""
    inside = ids != IGNORED
    return torch.where(inside, ids, fill), inside.long()
