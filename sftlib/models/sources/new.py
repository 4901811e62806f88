"""Models that nobody has trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import transformers
from torch import nn

from sftlib.errors import OptionError
from sftlib.models.opening import opening, quiet
from sftlib.models.seeds import seeded
from sftlib.models.sources.base import Head, ModelSource
from sftlib.models.sources.making import adjust

#: What asks for a model that nobody has trained, and the longest row it can take unless a longer one is asked for.
NEW, _POSITIONS = "new:encoder", 512
_SIZE: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
_EVERY_FOURTH: dict[str, Any] = {"global_attn_every_n_layers": 4}  # of the layers, the first among them
#: Where the tokenizers of `sftlib.encoders.sequence.words` have them.
_CONTROL: dict[str, Any] = {
    "pad_token_id": 0,
    "cls_token_id": 2,
    "bos_token_id": 2,
    "sep_token_id": 3,
    "eos_token_id": 3,
}
_OF_EACH_TOKEN = ("AutoModelForTokenClassification", "AutoModelForMaskedLM")


def _by_place(vocabulary: int, longest: int) -> Any:
    """A BERT: what stands at which place of a row is known from the first step."""
    return transformers.BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=longest,
        intermediate_size=512,
        **_SIZE,
    )


def _by_distance(vocabulary: int, longest: int) -> Any:
    """A ModernBERT: what stands next to what is known from the first step, wherever in a row it is.

    The first layer sees whole rows, the others the nearest eight tokens on either side.
    """
    return transformers.ModernBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=longest,
        intermediate_size=256,
        local_attention=16,
        embedding_dropout=0.1,
        mlp_dropout=0.1,
        classifier_dropout=0.1,
        classifier_pooling="mean",
        **_SIZE,
        **_EVERY_FOURTH,
        **_CONTROL,
    )


@final
@dataclass(frozen=True)
class _Form:
    """What a body is like.

    Attributes:
        kind: ``model_type`` of transformers.
        config: of (vocabulary, longest row).
        rate: at which it learns.
    """

    kind: str
    config: Callable[[int, int], Any]
    rate: float


_BY_PLACE = _Form("bert", _by_place, 5e-4)
_BY_DISTANCE = _Form("modernbert", _by_distance, 2e-3)
_FORMS = (_BY_PLACE, _BY_DISTANCE)


@final
class NewSource(ModelSource):
    """A small encoder from random weights, for inputs that no checkpoint was made for.

    Four layers of 128 values a position, about 0.8 million weights beside its vocabulary: a ModernBERT where every
    token gets an answer of its own, a BERT elsewhere. A label of a row often hangs on what stands at which place of it,
    that of a letter on its neighbours, and either form learns with pains what the other begins with
    (docs/benchmarks.md).

    Args:
        vocabulary: how many tokens there are; None before anybody knows.
        longest: tokens of the longest row.
        form: of the body; by the head when None.
    """

    def __init__(self, vocabulary: int | None = None, longest: int = _POSITIONS, form: _Form | None = None) -> None:
        self._vocabulary = vocabulary
        self._longest = longest
        self._form = form
        self._built = form or _BY_PLACE

    @property
    def usual_rate(self) -> float:
        return self._built.rate

    @property
    def name(self) -> str:
        return NEW

    def tokenizer(self) -> Any:
        return None

    @property
    def config(self) -> Any:
        return self._built.config(self._vocabulary or 8, self._longest)

    def brings(self, auto_class: str) -> bool:
        return True  # its body is drawn with any head, and neither waits for the other

    def reading(self, vocabulary: int | None, longest: int | None) -> NewSource:
        return NewSource(vocabulary, max(longest or 0, _POSITIONS), self._form)

    def like(self, model: nn.Module) -> NewSource:
        kind = getattr(getattr(model, "config", None), "model_type", None)
        return NewSource(
            self._vocabulary, self._longest, next((form for form in _FORMS if form.kind == kind), self._form)
        )

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        if self._vocabulary is None:
            raise OptionError(f"model={NEW!r}: it reads texts and sequences, and this task reads something else")
        self._built = self._form or (_BY_DISTANCE if head.auto_class in _OF_EACH_TOKEN else _BY_PLACE)
        config = self.config
        adjust(config, head, dropout)
        with quiet(), seeded(seed), opening(self.name, head.auto_class, config, head.advice):
            model: nn.Module = getattr(transformers, head.auto_class).from_config(config, dtype=torch.float32)
        self.drawn = frozenset(name for name, _ in model.named_parameters())
        return model
