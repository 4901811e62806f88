"""Attention through transformers' own interface: over padded rows, or over rows laid end to end.

Two functions are registered with transformers' attention and mask registries, which is their documented way in. Both
are plain products and a softmax: on a CPU that is faster at ordinary lengths than the fused kernel, whose dropout could
not be told which row it works on.

Letters: ``B`` rows, ``A`` heads, ``T`` positions, ``D`` features of a head, ``N`` tokens of all rows, ``G`` rows of a
group, ``L`` tokens of the longest row of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from sftlib.models.dropout import DropoutMasks
from sftlib.models.sequences import Group, Sequences

PADDED = "sftlib"
FLAT = "sftlib_flat"
_SITE = 2**20  # beyond the number of any dropout module; layers are told apart by the order of the calls


def attend_padded(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    dropout_masks: DropoutMasks | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Softmax attention over padded rows.

    Args:
        module: the attention module; only its training flag is read.
        query: (B, A, T, D)
        key: (B, A', T, D); heads are shared when A' is smaller than A.
        value: (B, A', T, D)
        attention_mask: (B, 1, T, T) added to the scores, or None.
        scaling: factor of the scores; D^-0.5 when None.
        dropout: rate on the attention weights; transformers passes 0 outside training.
        dropout_masks: masks of this run; plain dropout without them.

    Returns:
        (B, T, A, D), and no weights.
    """
    key, value = _shared(key, query.shape[1]), _shared(value, query.shape[1])
    scores = torch.matmul(query * _factor(query, scaling), key.transpose(2, 3))  # (B, A, T, T)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[2]]
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    if dropout > 0.0 and module.training:
        if dropout_masks is not None and dropout_masks.active:
            weights = dropout_masks.apply(weights, dropout, _SITE)
        else:
            weights = nn.functional.dropout(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def attend_flat(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    sequences: Sequences,
    dropout_masks: DropoutMasks,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Softmax attention over rows laid end to end; no token ever attends to another row.

    Args:
        module: the attention module; its training flag is read, and ``is_causal`` where the argument is None.
        query: (1, A, N, D); key and value may have fewer heads.
        key: (1, A', N, D)
        value: (1, A', N, D)
        attention_mask: not used; ``sequences`` says it all.
        sequences: which tokens make up which row.
        dropout_masks: masks of this run.
        scaling: factor of the scores; D^-0.5 when None.
        dropout: rate on the attention weights.
        is_causal: whether a token sees only those before it.
        sliding_window: a token sees those less than this far away, where the layer limits it.

    Returns:
        (1, N, A, D), and no weights.
    """
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    rate = dropout if module.training and dropout_masks.active else 0.0
    flat = [
        _shared(x, query.shape[1])[0].transpose(0, 1).flatten(1) for x in (query * _factor(query, scaling), key, value)
    ]
    heads = query.shape[1]

    def split(x: Tensor, group: Group) -> Tensor:
        return group.gather(x).view(group.rows, group.longest, heads, -1).transpose(1, 2)  # (G, A, L, D)

    attended = []
    offsets = dropout_masks.offsets_of_heads(heads, _SITE) if rate else None  # (N, A)
    for group in sequences.groups:
        q, k, v = (split(x, group) for x in flat)
        scores = torch.matmul(q, k.transpose(2, 3))  # (G, A, L, L)
        hidden = _hidden(group, causal=causal, window=sliding_window, like=scores)
        weights = torch.softmax(scores if hidden is None else scores + hidden, dim=-1).to(v.dtype)
        if offsets is not None:
            places = group.gather(offsets).transpose(1, 2)  # (G, A, L)
            weights = dropout_masks.drop(weights, rate, places)
        attended.append(group.scatter(torch.matmul(weights, v).transpose(1, 2).flatten(2)))
    return torch.cat(attended).view(1, -1, heads, value.shape[-1]), None


def _factor(query: Tensor, scaling: float | None) -> float:
    return float(query.shape[-1] ** -0.5) if scaling is None else scaling


def _shared(x: Tensor, heads: int) -> Tensor:
    """Repeat heads that several query heads share."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _hidden(group: Group, *, causal: bool, window: int | None, like: Tensor) -> Tensor | None:
    """What is added to the scores of a group: minus infinity on padding and on what a token must not see."""
    distance = torch.arange(group.longest, device=like.device)
    distance = distance[:, None] - distance  # (L, L), how far back the key lies
    unseen = (distance < 0) if causal else None
    if window is not None and window < group.longest:
        beyond = distance.abs() >= window
        unseen = beyond if unseen is None else unseen | beyond
    if unseen is None:
        return None if group.keys is None else group.keys.to(like.dtype)
    added = torch.zeros(unseen.shape, device=like.device, dtype=like.dtype).masked_fill_(unseen, -torch.inf)
    return added if group.keys is None else torch.minimum(added, group.keys.to(like.dtype))


def _no_mask(*_: Any, **__: Any) -> None:
    """Rows laid end to end need no mask of transformers."""


AttentionInterface.register(PADDED, attend_padded)
AttentionMaskInterface.register(PADDED, eager_mask)
AttentionInterface.register(FLAT, attend_flat)
AttentionMaskInterface.register(FLAT, _no_mask)


@contextmanager
def attention(model: Any, name: str) -> Iterator[None]:
    """While this context lasts, a transformers model attends with the function of this name."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
