"""What is special about models of two stacks: an encoder reads the source, a decoder writes the target.

Letters: ``B`` rows, ``S`` tokens of a target.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError

_START = ("decoder_start_token_id", "bos_token_id", "cls_token_id", "pad_token_id")
_END = ("eos_token_id", "sep_token_id")


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether a model has a decoder of its own that reads what the encoder made."""
    told = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
    return told and any(name.rpartition(".")[2] == "decoder" for name, _ in model.named_modules())


def end_of_target(tokenizer: Any) -> int:
    """The token that ends a target: the tokenizer's end of text, or its separator.

    Raises:
        OptionError: it has neither.
    """
    for name in _END:
        number = getattr(tokenizer, name, None)
        if number is not None:
            return int(number)
    raise OptionError("the tokenizer has no token that ends a text (eos_token or sep_token), so no target would end")


def settle_decoder(model: nn.Module, tokenizer: Any) -> None:
    """Tell an encoder-decoder where targets start and end, if nobody has: one made of two encoders does not know.

    Raises:
        OptionError: the tokenizer has no token that could end a target.
    """
    if not is_encoder_decoder(model):
        return
    config: Any = model.config
    end = end_of_target(tokenizer)
    starts = [getattr(tokenizer, name, None) for name in _START[1:]]
    facts = {
        "decoder_start_token_id": next((token for token in starts if token is not None), end),
        "eos_token_id": end,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for part in (config, getattr(model, "generation_config", None)):
        for name, token in facts.items():
            if part is not None and getattr(part, name, None) is None:
                setattr(part, name, token)


def positions_of(config: Any, side: str) -> int | None:
    """Tokens that one side of a model can number; None where it does not count them.

    Args:
        config: of a model.
        side: ``"encoder"`` or ``"decoder"``.
    """
    own = config if hasattr(config, "max_position_embeddings") else getattr(config, side, config)
    positions = getattr(own, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def shifted(model: nn.Module, targets: Tensor) -> Tensor:
    """What the decoder reads while it learns to write targets: the same, one place later, by the model's own rule.

    Args:
        model: an encoder-decoder.
        targets: (B, S) token ids, and -100 beyond the end of a row.

    Returns:
        (B, S)

    Raises:
        OptionError: the model has no such rule.
    """
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        raise OptionError(
            f"model={type(model).__name__}: seq2seq needs an encoder-decoder of transformers, which knows how its "
            "decoder starts (prepare_decoder_input_ids_from_labels)"
        )
    inputs: Tensor = shift(labels=targets)
    return inputs.to(torch.int64)
