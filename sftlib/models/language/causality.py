"""Whether a language model reads from left to right, found by trial: a token must not see the one that it predicts."""

from __future__ import annotations

import torch
from torch import nn

from sftlib.errors import OptionError
from sftlib.models.attempts import attempt
from sftlib.models.outputs import logits

_TOLERANCE = 1e-5  # of the largest score: what rounding may do


def require_causal(model: nn.Module, name: str) -> nn.Module:
    """The model itself, when what follows a token leaves the scores at that token alone.

    transformers opens encoders such as BERT as language models too. They would learn to copy the next token, down to a
    loss near zero, and could not generate.

    Args:
        model: a transformers language model; a module without a config is taken at its word.
        name: what messages call it.

    Raises:
        OptionError: the scores at a token depend on those after it, or the model gives none.
    """
    if getattr(model, "config", None) is None:
        return model
    tried = attempt(lambda: _looks_ahead(model))
    if tried.error:
        raise OptionError(f"model={name!r}: it cannot be called with input_ids: {tried.reason}") from tried.error
    if tried.value:
        raise OptionError(
            f"model={name!r}: {type(model).__name__} sees the tokens that it would have to predict, as encoders do; "
            "causal-lm needs a decoder (GPT-2, Llama, Qwen, ...). To go on with an encoder's own pretraining: "
            "task='masked-lm', or tuner.adapt(texts)"
        )
    return model


@torch.no_grad()
def _looks_ahead(model: nn.Module) -> bool:
    rows = torch.tensor([[0, 1, 2, 3], [0, 1, 3, 2]], device=next(model.parameters()).device)
    mode = model.training
    model.eval()
    try:
        before, after = (logits(model(input_ids=row[None]))[0, 0] for row in rows)
    finally:
        model.train(mode)
    return bool((before - after).abs().max() > _TOLERANCE * before.abs().max())
