"""Models that nobody has trained."""

from __future__ import annotations

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
#: Where the tokenizers of `sftlib.encoders.sequence.words` have them.
_CONTROL = {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}


@final
class NewSource(ModelSource):
    """A small encoder from random weights, for inputs that no checkpoint was made for.

    A ModernBERT of four layers and 128 values a position, about 0.7 million weights beside its vocabulary. The first
    and the last layer see whole rows, those between them the nearest tokens, and positions are told by how far apart
    they are: what stands next to what is known from the first step, and need not be learned for every place anew.

    Args:
        vocabulary: how many tokens there are; None before anybody knows.
        longest: tokens of the longest row.
    """

    usual_rate = 1e-3

    def __init__(self, vocabulary: int | None = None, longest: int = _POSITIONS) -> None:
        self._vocabulary = vocabulary
        self._longest = longest

    @property
    def name(self) -> str:
        return NEW

    def tokenizer(self) -> Any:
        return None

    @property
    def config(self) -> Any:
        return transformers.ModernBertConfig(
            vocab_size=self._vocabulary or 8,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=self._longest,
            local_attention=16,
            global_attn_every_n_layers=3,
            embedding_dropout=0.1,
            mlp_dropout=0.1,
            classifier_dropout=0.1,
            **_CONTROL,
        )

    def brings(self, auto_class: str) -> bool:
        return True  # its body is drawn with any head, and neither waits for the other

    def reading(self, vocabulary: int | None, longest: int | None) -> NewSource:
        return NewSource(vocabulary, max(longest or 0, _POSITIONS))

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        if self._vocabulary is None:
            raise OptionError(f"model={NEW!r}: it reads texts and sequences, and this task reads something else")
        config = self.config
        adjust(config, head, dropout)
        with quiet(), seeded(seed), opening(self.name, head.auto_class, config, head.advice):
            model: nn.Module = getattr(transformers, head.auto_class).from_config(config, dtype=torch.float32)
        self.drawn = frozenset(name for name, _ in model.named_parameters())
        return model
