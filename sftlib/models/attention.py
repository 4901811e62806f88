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

from sftlib.models.dropout import DropoutMasks, Windows
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
    if dropout_masks is not None:
        dropout_masks.reached_attention = True
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
    heads, width = query.shape[1], value.shape[-1]
    flat = [_shared(x, heads)[0].transpose(0, 1).flatten(1).to(value.dtype) for x in (query, key, value)]  # (N, A * D)
    offsets = dropout_masks.offsets_of_heads(heads, _SITE) if rate else None  # (N, A)
    attended = []
    for group in sequences.groups:
        q, k, v = (x[group.start : group.stop] for x in flat)
        hidden = _hidden(group, causal=causal, window=sliding_window, like=v)
        windows = None
        if offsets is not None:
            places = group.spread(offsets[group.start : group.stop], heads).squeeze(3)  # (G, A, L)
            windows = dropout_masks.windows(rate, places, group.longest, like=v)
        attended.append(_GroupAttention.apply(q, k, v, group, heads, _factor(query, scaling), hidden, windows))  # type: ignore[no-untyped-call]
    return torch.cat(attended).view(1, -1, heads, width), None


class _GroupAttention(torch.autograd.Function):
    """Attention of the rows of a group, as one node of the graph.

    Written out because small kernels and their bookkeeping, not arithmetic, are what attention over short rows costs.
    The gradient is that of softmax attention with a fixed mask on the weights; padding gets none.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        group: Group,
        heads: int,
        factor: float,
        hidden: Tensor | None,
        windows: Windows | None,
    ) -> Tensor:
        """Query, key and value are (n, A * D); returns (n, A * D).

        ``hidden`` is added to the scores, (G or 1, 1, L or 1, L); ``windows`` are the dropout masks of the weights.
        """
        q, k, v = (group.spread(x, heads) for x in (query, key, value))  # (G, A, L, D)
        scores = torch.matmul(q, k.transpose(2, 3)).mul_(factor)  # (G, A, L, L)
        weights = torch.softmax(scores if hidden is None else scores.add_(hidden), dim=-1).to(v.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.group, ctx.factor, ctx.windows = group, factor, windows
        return group.collect(torch.matmul(weights if windows is None else windows(weights), v))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Back through the product with the values, the mask, the softmax, and the product of queries and keys."""
        q, k, v, weights = ctx.saved_tensors
        group, windows = ctx.group, ctx.windows
        above = group.spread(gradients[0], q.shape[1])  # (G, A, L, D)
        if group.padding is not None:
            above.masked_fill_(group.padding[:, None, :, None], 0.0)  # queries on padding have no part in the loss
        dropped = weights if windows is None else windows(weights)
        to_value = torch.matmul(dropped.transpose(2, 3), above)
        to_weights = torch.matmul(above, v.transpose(2, 3))
        to_weights = to_weights if windows is None else windows(to_weights)
        to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype).mul_(ctx.factor)
        to_query, to_key = torch.matmul(to_scores, k), torch.matmul(to_scores.transpose(2, 3), q)
        return (*(group.collect(x) for x in (to_query, to_key, to_value)), None, None, None, None, None)


def _factor(query: Tensor, scaling: float | None) -> float:
    return float(query.shape[-1] ** -0.5) if scaling is None else scaling


def _shared(x: Tensor, heads: int) -> Tensor:
    """Repeat heads that several query heads share."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _hidden(group: Group, *, causal: bool, window: int | None, like: Tensor) -> Tensor | None:
    """(G or 1, 1, L or 1, L) added to the scores: minus infinity on padding and on what a token must not see."""
    places = torch.arange(group.longest, device=like.device)
    distance = places[:, None] - places  # (L, L), how far back the key lies
    unseen = distance < 0 if causal else None
    if window is not None and window < group.longest:
        beyond = distance.abs() >= window
        unseen = beyond if unseen is None else unseen | beyond
    if group.padding is not None:
        keys = group.padding[:, None, None, :]
        unseen = keys if unseen is None else unseen | keys
        if window is not None:  # a query on padding may see nothing: it sees all, and its result goes nowhere
            unseen = unseen & ~group.padding[:, None, :, None]
    if unseen is None:
        return None
    return torch.zeros(unseen.shape, device=like.device, dtype=like.dtype).masked_fill_(unseen, -torch.inf)


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
