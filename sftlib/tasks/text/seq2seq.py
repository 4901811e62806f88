"""Text to text: translation, summaries, spellings, anything that an encoder reads and a decoder writes.

Letters: ``B`` rows, ``T`` tokens of the longest source, ``S`` tokens of the longest target, ``V`` vocabulary.
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
from sftlib.data.problems import brief
from sftlib.encoders.batch import IGNORED, Batch, places
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.metrics import LanguageModel, Metrics
from sftlib.models.language.encoder_decoder import end_of_target, positions_of, shifted
from sftlib.models.language.generation import Generation, generate
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, whole_number
from sftlib.support.values import Problem
from sftlib.tasks.base import Asked, Label, LossSum
from sftlib.tasks.text.writing import WITHOUT_TEXT, WritingTask

_READ = "decoder_tokens"  # what the decoder is to write, until `Seq2Seq.ask` moves it by one
_ADVICE = (
    "; seq2seq needs an encoder-decoder (T5, BART, Marian, two encoders). A model that only decodes learns the same as "
    "causal-lm: TaskDataset(rows, prompt=..., completion=...)"
)


@final
@dataclass(frozen=True)
class Written:
    """A text that the model wrote.

    Attributes:
        text: without control tokens.
        score: how probable its tokens are, each given those before it: their geometric mean, 0 to 1.
        correct: in evaluation, how many tokens of the target were the most probable ones, given those before them.
        tokens: of how many.
    """

    text: str
    score: float = field(default=0.0, compare=False)
    correct: int = field(default=0, repr=False, compare=False)
    tokens: int = field(default=0, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Prediction(text={self.text!r}, score={self.score:.4g})"


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class Seq2Seq(WritingTask):
    """A text for a text, by cross-entropy over the tokens of the target, its end included, each given those before it.

    Args:
        label_smoothing: share of the target spread over the whole vocabulary.
        max_target_length: tokens of a target, its end included; as many as of a row when None.
        generation: how texts are written; greedily when None.
        learned: nothing.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> task = Seq2Seq(max_target_length=32)
        >>> task.inputs_of("house"), task.head.auto_class
        ({'source': 'house'}, 'AutoModelForSeq2SeqLM')
    """

    name = "seq2seq"
    usual_metrics = ("perplexity", "token_accuracy")
    auto_class = "AutoModelForSeq2SeqLM"
    family = LanguageModel

    max_target_length: int | None = None
    learned: None = None

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        longest = self.max_target_length
        yield longest is not None and whole_number("max_target_length", longest, at_least=2)

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return self

    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, advice=_ADVICE)

    def check_model(self, model: nn.Module, name: str) -> None:
        longest = positions_of(getattr(model, "config", None), "decoder")
        if longest is not None and (self.max_target_length or 0) > longest:
            raise OptionError(f"max_target_length={self.max_target_length}: this model writes at most {longest} tokens")

    def check_rows(self, data: TaskDataset) -> None:
        if "source" not in data.roles:
            raise DataError(f"the data set has no role 'source', which {self.name} reads")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("source", "target")

    def write_options(self, encoder: TextEncoder) -> Mapping[str, Any]:
        ends = [end_of_target(encoder.tokenizer), *encoder.around_targets()]
        return {"max_target_length": self._limit(encoder), "control": ends}

    def write(self, data: TaskDataset, encoder: TextEncoder, writer: Writer) -> None:
        for chunk in encoder.encode(data.view("source")):
            writer.add(chunk.inputs, lengths=chunk.lengths, cut=chunk.cut)
        if not data.is_labelled:
            return
        end = end_of_target(encoder.tokenizer)
        for chunk in encoder.encode_targets(data.view("target"), max_length=self._limit(encoder), end=end):
            ids = Ragged(chunk.inputs["input_ids"], offsets_of(chunk.lengths))
            writer.attach(targets={"target": ids, "cut": chunk.cut > 0})

    def encode(self, data: TaskDataset, encoder: TextEncoder, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        target = found.targets.get("target")
        if not isinstance(target, Ragged):
            return found
        return found.with_targets(found.targets, cost=found.cost + target.lengths)

    def _limit(self, encoder: TextEncoder) -> int:
        return self.max_target_length or encoder.max_length

    def shortened(self, encoded: Encoded) -> NDArray[np.int64]:
        return np.flatnonzero(np.asarray(encoded.targets["cut"]))

    def place(self, batch: Batch, encoded: Encoded, encoder: TextEncoder, moved: NDArray[np.float64] | None) -> Batch:
        """Beside the sources what the decoder reads; of unlabelled rows only how it starts."""
        nothing = torch.full((len(batch.rows), 1), end_of_target(encoder.tokenizer))
        inputs = {**batch.inputs, _READ: batch.targets.get("target", nothing)}
        return replace(batch, inputs=inputs)

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        """Scores (B, S, V): of each token of the target, from those before it."""
        given = {name: value for name, value in inputs.items() if name not in (_READ, "token_type_ids")}
        tokens = inputs[_READ]
        given["decoder_input_ids"] = shifted(model, tokens)
        given["decoder_attention_mask"] = (tokens != IGNORED).long()
        return call(model, given)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        target = batch.targets["target"]  # (B, S)
        written = places(batch.at_hand.targets["target"] != IGNORED, target.device)
        scores = self._scores(outputs, batch)[written]  # (N, V)
        total = functional.cross_entropy(scores, target[written], label_smoothing=self.label_smoothing, reduction="sum")
        return LossSum(total, scores.new_full((), len(written[0])))

    def _scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, S, V) scores of the model.

        Raises:
            OptionError: a model whose output has another shape.
        """
        found, expected = logits(outputs), tuple(batch.targets["target"].shape)
        if found.dim() != 3 or found.shape[:2] != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs "
                f"{expected}: rows times tokens of the target, times the vocabulary"
            )
        return found

    def decode(self, outputs: Any, batch: Batch) -> list[Written]:
        """How many tokens of each target are the most probable ones; no text, since nothing was written."""
        target = batch.targets["target"]  # (B, S)
        right = (self._scores(outputs, batch).argmax(dim=-1) == target).sum(dim=1).tolist()
        tokens = (target != IGNORED).sum(dim=1).tolist()
        return [Written("", correct=correct, tokens=count) for correct, count in zip(right, tokens, strict=True)]

    def answer(self, model: Asked, batch: Batch, encoder: TextEncoder) -> list[Written]:
        """Write a text for every row, then look once more how probable its tokens are."""
        tokenizer, end = encoder.tokenizer, end_of_target(encoder.tokenizer)
        limit = self._limit(encoder)
        inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        with model.plain() as plain:
            found = generate(
                plain,
                inputs,
                self.generation or Generation(max_new_tokens=limit),
                rows=batch.rows.tolist(),
                room=[limit] * len(batch.rows),
                stop=[end],
                pad=tokenizer.pad_token_id,
                decode=lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
            )
        texts = [str(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in found]
        written = Ragged.from_lists([[*tokens, end][:limit] for tokens in found]).padded(
            np.arange(len(found)), fill=IGNORED
        )
        return [Written(text, score) for text, score in zip(texts, _scores_of(model, batch, written), strict=True)]

    def judge(
        self, model: Asked, batch: Batch, encoder: TextEncoder, metrics: Metrics
    ) -> tuple[LossSum, Sequence[Written]]:
        """Loss and accuracy from one pass; texts are written only if a metric asks for them."""
        outputs = model(batch)
        loss, decoded = self.loss(outputs, batch), self.decode(outputs, batch)
        if set(metrics) <= WITHOUT_TEXT:
            return loss, decoded
        written = self.answer(model, batch, encoder)
        return loss, [
            replace(one, text=other.text, score=other.score) for one, other in zip(decoded, written, strict=True)
        ]

    def references(self, data: TaskDataset) -> Sequence[str]:
        targets: Sequence[str] = data.column("target")
        return targets

    def inputs_of(self, example: object) -> dict[str, Any]:
        values: object = {"source": example} if isinstance(example, str) else example
        if not isinstance(values, Mapping) or not isinstance(values.get("source"), str) or len(values) > 1:
            raise DataError(
                f"this model takes a source text: a string, or a mapping with 'source'; found {brief(example, 80)}"
            )
        return {"source": values["source"]}


def _scores_of(model: Asked, batch: Batch, written: NDArray[np.int64]) -> list[float]:
    """The geometric mean of the probabilities of each row's tokens.

    Args:
        model: scores the tokens.
        batch: the sources.
        written: (B, S) tokens, and `IGNORED` beyond the end of a row.
    """
    target = torch.from_numpy(written).to(batch.rows.device)
    outputs = model(replace(batch, inputs={**batch.inputs, _READ: target}))
    losses = functional.cross_entropy(logits(outputs).transpose(1, 2), target, reduction="none")  # (B, S)
    scores: list[float] = torch.exp(-losses.sum(dim=1) / (target != IGNORED).sum(dim=1)).tolist()
    return scores
