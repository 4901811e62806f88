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


@final
class NewSource(ModelSource):
    """A small encoder from random weights, for inputs that no checkpoint was made for.

    A BERT of four layers and 128 values a position: about 0.8 million weights beside its vocabulary.

    Args:
        vocabulary: how many tokens there are; None before anybody knows.
        longest: tokens of the longest row.
    """

    usual_rate = 5e-4

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
        return transformers.BertConfig(
            vocab_size=self._vocabulary or 8,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=self._longest,
        )

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
