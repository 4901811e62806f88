"""What model and tokenizer must agree on: the pad token, the vocabulary, the longest row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import transformers
from torch import nn

from sftlib.errors import OptionError
from sftlib.models.language.encoder_decoder import positions_of
from sftlib.models.layouts.layout import position_offset
from sftlib.models.opening import (
    quiet,
)
from sftlib.models.sources import seeded

_NO_LIMIT = 10**9  # tokenizers without a limit report 10^30


def settle_padding(model: nn.Module, tokenizer: Any) -> None:
    """Give model and tokenizer the same pad token, on the right; decoders often come without one."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
    tokenizer.padding_side = "right"
    config = getattr(model, "config", None)
    if config is not None:
        config.pad_token_id = tokenizer.pad_token_id


def add_tokens(model: nn.Module, tokenizer: Any, tokens: Sequence[str], *, seed: int) -> list[int]:
    """Make room for a task's own tokens; the embeddings of those that are new are drawn from ``seed``.

    They are special: a user who types one gets its characters, see `sftlib.encoders.text.tokenizer`.

    Returns:
        The ids of those that are new.

    Raises:
        OptionError: a model whose embeddings cannot be enlarged.
    """
    if not tokens:
        return []
    new = {token for token in tokens if token not in tokenizer.get_vocab()}
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    if not isinstance(model, transformers.PreTrainedModel):
        raise OptionError(f"this task adds tokens ({', '.join(tokens)}) and needs a model of transformers")
    table: Any = model.get_input_embeddings()
    size, ids = table.num_embeddings, tokenizer.convert_tokens_to_ids(list(tokens))
    if len(tokenizer) > size:
        with seeded(seed), quiet():
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return [number for token, number in zip(tokens, ids, strict=True) if token in new or number >= size]


def longest_input(model: nn.Module, tokenizer: Any) -> int:
    """Tokens of a row that both model and tokenizer can take.

    Models of RoBERTa's kind number positions from ``padding_idx + 1``, so that many fewer fit.
    """
    limits = [int(getattr(tokenizer, "model_max_length", _NO_LIMIT))]
    positions = positions_of(getattr(model, "config", None), "encoder")
    if positions is not None:
        limits.append(positions - position_offset(model))
    limit = min(limits)
    return limit if limit < _NO_LIMIT else 512
