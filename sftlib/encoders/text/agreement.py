"""What model and tokenizer must agree on: the pad token, the vocabulary, the longest row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import nn

from sftlib.errors import OptionError
from sftlib.models.language.encoder_decoder import positions_of
from sftlib.models.layouts.layout import position_offset
from sftlib.models.opening import (
    quiet,
)
from sftlib.models.seeds import seeded

NO_LIMIT = 10**9  # tokenizers without a limit report 10^30
_USUAL = 512


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
    size = _make_room(model, tokenizer, f"this task adds tokens ({', '.join(tokens)})", seed=seed)
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    return [number for token, number in zip(tokens, ids, strict=True) if token in new or number >= size]


def add_words(model: nn.Module, tokenizer: Any, words: Sequence[str], *, seed: int) -> list[int]:
    """Make room for words of the user's own, read as one token each wherever they stand.

    The embedding of a word begins as the mean of those of the tokens that it was read as before; where that was nothing
    the tokenizer knows, it is drawn.

    Returns:
        The ids of those that are new.

    Raises:
        OptionError: a model whose embeddings cannot be enlarged, or a word that the tokenizer does not take.
    """
    if not words:
        return []
    new = [word for word in words if word not in tokenizer.get_vocab()]
    parts = [tokenizer(word, add_special_tokens=False, split_special_tokens=True)["input_ids"] for word in new]
    tokenizer.add_tokens(new)
    size = _make_room(model, tokenizer, f"add_tokens={list(words)!r:.80}", seed=seed)
    ids = dict(zip(words, tokenizer.convert_tokens_to_ids(list(words)), strict=True))
    lost = [word for word in words if ids[word] not in tokenizer(f"a {word} b")["input_ids"]]
    if lost:
        raise OptionError(f"add_tokens: {type(tokenizer).__name__} does not read {lost[0]!r:.60} as one token")
    tables: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]  # type: ignore[operator]
    with torch.no_grad():
        for weight in {id(table.weight): table.weight for table in tables if table is not None}.values():
            for word, tokens in zip(new, parts, strict=True):
                known = [token for token in tokens if token != tokenizer.unk_token_id]
                if known:
                    weight[ids[word]] = weight[known].mean(dim=0)
    return [number for word, number in ids.items() if word in new or number >= size]


def _make_room(model: nn.Module, tokenizer: Any, why: str, *, seed: int) -> int:
    """Enlarge a model's tables to what its tokenizer has by now; new rows are drawn. Returns the size before."""
    if not isinstance(model, transformers.PreTrainedModel):
        raise OptionError(f"{why} and needs a model of transformers")
    table: Any = model.get_input_embeddings()
    size = int(table.num_embeddings)
    if len(tokenizer) > size:
        with seeded(seed), quiet():
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return size


def limits_of(model: nn.Module, tokenizer: Any) -> tuple[int, int]:
    """Tokens of a row that are usual for model and tokenizer together, and the most that the model can take.

    Models of RoBERTa's kind number positions from ``padding_idx + 1``, so that many fewer fit. A tokenizer says how
    long rows were in training: more is possible where the model has the positions, or does not count them.
    """
    told, config = int(getattr(tokenizer, "model_max_length", NO_LIMIT)), getattr(model, "config", None)
    positions = positions_of(config, "encoder")
    most = NO_LIMIT if positions is None else positions - position_offset(model)
    usual = min(told, most) if min(told, most) < NO_LIMIT else _USUAL
    return usual, usual if config is None and told < NO_LIMIT else most
