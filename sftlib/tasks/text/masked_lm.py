"""Filling gaps: an encoder goes on learning the language of unlabelled texts, as it was pretrained.

Letters: ``B`` rows, ``T`` positions, ``M`` gaps of all rows, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError, OptionError
from sftlib.metrics import LanguageModel
from sftlib.models.counters import fractions, mix, mix_numbers
from sftlib.models.device import sent
from sftlib.models.language.places import scores_at
from sftlib.models.sources import Head
from sftlib.support.checking import checked_fields, share
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, LossSum, Task
from sftlib.tasks.text.texts import one_text

_MASKED, _SWAPPED = 0.8, 0.1  # of the gaps show the mask, another token; the rest show the token itself
_GAPS, _TRUE = "gaps", "true_tokens"
_ADVICE = (
    "; masked-lm needs an encoder (BERT, RoBERTa, ...). A model that only decodes goes on learning from plain texts as "
    "causal-lm: TaskDataset(rows, text=..., task='causal-lm')"
)


@final
@dataclass(frozen=True)
class GapScores:
    """What the model says of the gaps of a batch.

    Attributes:
        logits: (M, V)
        true: (M,) the tokens that stood there.
        rows: (M,) which row of the batch each belongs to.
    """

    logits: Tensor
    true: Tensor
    rows: Tensor


@final
@dataclass(frozen=True)
class FilledGaps:
    """How well the model fills the gaps that evaluation makes in a text; these are always the same.

    Attributes:
        loss: mean over the gaps, in nats; 0 of a text without any.
        correct: how many gaps were filled with the true token.
        tokens: how many gaps there are.
    """

    loss: float
    correct: int
    tokens: int

    def __repr__(self) -> str:
        return f"Prediction(loss={self.loss:.4g}, correct={self.correct}, tokens={self.tokens})"


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class MaskedLM(Task):
    """Filling gaps, by cross-entropy over tokens that the model does not see: 15 % of each text, at least one.

    Of these gaps, 80 % show the mask, 10 % another token, 10 % the token itself (Devlin et al., 2019). Which they are
    is a function of (seed, step, the row's tokens, position): every epoch draws anew, and neither the cut of a batch
    nor a resume changes anything. In evaluation they are a function of the row's tokens and the position alone. What is
    kept of a row is its tokens, without gaps.

    Args:
        mask_probability: share of the tokens that become gaps.
        learned: nothing.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> MaskedLM(mask_probability=0.3).head.auto_class
        'AutoModelForMaskedLM'
    """

    name = "masked-lm"
    head_alone = False  # it would pull the body after it
    usual_metrics = ("perplexity", "token_accuracy")
    auto_class = "AutoModelForMaskedLM"
    family = LanguageModel
    shows_more = True

    mask_probability: float = 0.15
    learned: None = None

    def problems(self) -> Iterable[Problem]:
        given = self.mask_probability
        yield share("mask_probability", given)
        if given == 0:
            yield f"mask_probability={given}: no token would be a gap; expected a number above 0 and below 1"

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return self

    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, advice=_ADVICE)

    def check_rows(self, data: TaskDataset) -> None:
        if "text" not in data.roles:
            raise DataError(f"the data set has no role 'text', which {self.name} reads")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text",)

    def encode(self, data: TaskDataset, encoder: TextEncoder, columns: Encoded | None = None) -> Encoded:
        if encoder.tokenizer.mask_token_id is None:
            raise OptionError(
                "the tokenizer has no mask token, so there is nothing to show in place of a gap" + _ADVICE
            )
        return self.written(data, encoder) if columns is None else columns

    def draw(
        self, inputs: Mapping[str, Tensor], encoder: TextEncoder, *, seed: int, step: int | None
    ) -> Mapping[str, Tensor]:
        """The same rows with gaps, and what stood there."""
        ids, tokenizer = inputs["input_ids"], encoder.tokenizer
        present, control = inputs["attention_mask"].bool(), sent(torch.tensor(tokenizer.all_special_ids), ids.device)
        places = torch.arange(ids.shape[1], device=ids.device)  # (T,)
        rows = (mix(ids + (places << 32)) * present).sum(dim=1, keepdim=True)  # (B, 1), equal for equal rows
        drawn = mix_numbers(0, 0) if step is None else mix_numbers(seed, step + 1)
        keys = mix(rows + drawn) + places  # (B, T)

        free = present & ~torch.isin(ids, control)
        lots = fractions(keys).masked_fill(~free, 2.0)
        gaps = free & ((lots < self.mask_probability) | (lots == lots.min(dim=1, keepdim=True).values))

        other = (mix(keys + 2**61) & (2**62 - 1)) % len(tokenizer)
        other = torch.where(torch.isin(other, control), tokenizer.mask_token_id, other)
        kinds = fractions(keys + 2**62)
        shown = torch.where(
            kinds < _MASKED, tokenizer.mask_token_id, torch.where(kinds < _MASKED + _SWAPPED, other, ids)
        )
        return {**inputs, "input_ids": torch.where(gaps, shown, ids), _GAPS: gaps, _TRUE: ids}

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> GapScores:
        """Scores of the gaps alone."""
        given = {name: value for name, value in inputs.items() if name not in (_GAPS, _TRUE)}
        gaps = inputs[_GAPS]
        return GapScores(scores_at(model, call, given, gaps), inputs[_TRUE][gaps], gaps.nonzero()[:, 0])

    def loss(self, outputs: GapScores, batch: Batch) -> LossSum:
        total = functional.cross_entropy(outputs.logits, outputs.true, reduction="sum")
        return LossSum(total, outputs.logits.new_full((), len(outputs.true)))

    def decode(self, outputs: GapScores, batch: Batch) -> list[FilledGaps]:
        losses = functional.cross_entropy(outputs.logits, outputs.true, reduction="none")  # (M,)
        right = outputs.logits.argmax(dim=-1) == outputs.true

        def by_row(values: Tensor) -> list[float]:
            sums: list[float] = values.new_zeros(len(batch.rows)).index_add_(0, outputs.rows, values).tolist()
            return sums

        tokens = by_row(torch.ones_like(losses))
        return [
            FilledGaps(loss / max(count, 1), int(correct), int(count))
            for loss, correct, count in zip(by_row(losses), by_row(right.to(losses.dtype)), tokens, strict=True)
        ]

    def references(self, data: TaskDataset) -> Sequence[str]:
        texts: Sequence[str] = data.column("text")
        return texts

    def inputs_of(self, example: object) -> dict[str, Any]:
        return one_text(example)
