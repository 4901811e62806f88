"""Attention through transformers' own interface: over padded rows, or over rows laid end to end.

Two functions are registered with transformers' attention and mask registries, which is their documented way in. Both
are plain products and a softmax: on a CPU that is faster at ordinary lengths than the fused kernel, whose dropout could
not be told which row it works on.

Letters: ``B`` rows, ``A`` heads, ``T`` positions, ``D`` features of a head, ``N`` tokens of all rows, ``G`` rows of a
group, ``L`` tokens of the longest row of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from sftlib.models.dropout import DropoutMasks, Windows
from sftlib.models.layouts.blocks import attend_in_blocks, block_of
from sftlib.models.layouts.kernels import Look, kernel_of
from sftlib.models.layouts.sequences import Group, Sequences
from sftlib.models.opening import quiet

PADDED = "sftlib"
FLAT = "sftlib_flat"
#: The site of attention weights, beyond the number of any dropout module; layers are told apart by the order of calls.
ATTENTION = 2**20


def attend_padded(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    dropout_masks: DropoutMasks | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Softmax attention over padded rows; in blocks where a token sees only near ones and no weight is dropped.

    Args:
        module: the attention module; only its training flag is read.
        query: (B, A, T, D)
        key: (B, A', T, D); heads are shared when A' is smaller than A.
        value: (B, A', T, D)
        attention_mask: (B, 1, T, T) added to the scores, or None.
        scaling: factor of the scores; D^-0.5 when None.
        dropout: rate on the attention weights; transformers passes 0 outside training.
        dropout_masks: masks of this run; plain dropout without them.
        sliding_window: a token sees those less than this far away, where the layer limits it; the mask says so too.

    Returns:
        (B, T, A, D), and no weights.
    """
    if dropout_masks is not None:
        dropout_masks.reached_attention = True
    key, value = _shared(key, query.shape[1]), _shared(value, query.shape[1])
    query, drops = query * _factor(query, scaling), dropout > 0.0 and module.training
    size = None if drops else block_of(query, key, attention_mask, sliding_window)
    if size is not None and attention_mask is not None:
        return attend_in_blocks(query, key, value, attention_mask, size).transpose(1, 2).contiguous(), None
    scores = torch.matmul(query, key.transpose(2, 3))  # (B, A, T, T)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[2]]
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    if drops:
        if dropout_masks is not None and dropout_masks.active:
            weights = dropout_masks.apply(weights, dropout, ATTENTION)
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

    By one kernel where the device has one and no weight is dropped, otherwise by groups of rows of like length.

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
    kernel = None if rate else kernel_of(value.device, value.dtype, width)
    if kernel is not None:
        q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))  # (N, heads, D)
        return kernel(q, k, v, sequences, Look(_factor(query, scaling), causal, sliding_window))[None], None
    flat = [_shared(x, heads)[0].transpose(0, 1).flatten(1).to(value.dtype) for x in (query, key, value)]  # (N, A * D)
    offsets = dropout_masks.offsets_of_heads(heads, ATTENTION) if rate else None  # (N, A)
    attended = []
    for group in sequences.groups:
        q, k, v = (x[group.start : group.stop] for x in flat)
        hidden = hidden_places(group, heads, causal=causal, window=sliding_window, like=v)
        windows = None
        if offsets is not None:
            places = group.spread(offsets[group.start : group.stop], heads)  # (1, G, A, L, 1)
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
        hidden: Tensor,
        windows: Windows | None,
    ) -> Tensor:
        """Query, key and value are (n, A * D); returns (n, A * D)."""
        q, k, v = (group.spread(x, heads)[0].flatten(0, 1) for x in (query, key, value))  # (G * A, L, D)
        attended, weights = softmax_attention(q, k, v, factor, hidden, windows)
        ctx.save_for_backward(q, k, v, weights)
        ctx.group, ctx.heads, ctx.factor, ctx.windows = group, heads, factor, windows
        return group.collect(attended.view(1, group.rows, heads, group.longest, -1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        group, heads = ctx.group, ctx.heads
        above = spread_gradient(group, gradients[0], heads)
        into = [torch.empty_like(x) for x in (q, k, v)]
        softmax_attention_backward(above, q, k, v, weights, ctx.factor, ctx.windows, into)
        sides = (x.view(1, group.rows, heads, group.longest, -1) for x in into)
        return (*(group.collect(x) for x in sides), None, None, None, None, None)


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, factor: float, hidden: Tensor, windows: Windows | None
) -> tuple[Tensor, Tensor]:
    """Attention of rows side by side, with what its gradient needs.

    Args:
        q: (G * A, M, D) for ``M`` queries a row.
        k: (G * A, L, D)
        v: (G * A, L, D)
        factor: of the scores.
        hidden: added to the scores, from `hidden_places`.
        windows: dropout masks of the weights.

    Returns:
        (G * A, M, D), and the weights before dropout, (G * A, M, L).
    """
    scores = torch.baddbmm(hidden, q, k.transpose(1, 2), alpha=factor)
    # In fp32 at least: more exact, and on a CPU several times faster than the kernels for 16 bits, casts included.
    weights = torch.softmax(scores, dim=-1, dtype=wide(v.dtype)).to(v.dtype)
    return torch.bmm(weights if windows is None else windows(weights), v), weights


def softmax_attention_backward(
    above: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    factor: float,
    windows: Windows | None,
    into: Sequence[Tensor],
) -> None:
    """Back through the product with the values, the mask, the softmax, and the product of queries and keys.

    Args:
        above: (G * A, M, D) gradient of the output.
        q: as in `softmax_attention`, like all up to ``windows``.
        k: keys.
        v: values.
        weights: before dropout.
        factor: of the scores.
        windows: dropout masks.
        into: what to fill: the gradients of ``q``, ``k`` and ``v``, contiguous.
    """
    to_weights = torch.bmm(above, v.transpose(1, 2))
    if windows is None:
        torch.bmm(weights.transpose(1, 2), above, out=into[2])
    else:
        masks = windows.like(weights)
        torch.bmm((weights * masks).transpose(1, 2), above, out=into[2])
        to_weights.mul_(masks)
    kind = wide(weights.dtype)
    to_scores = torch._softmax_backward_data(to_weights.to(kind), weights.to(kind), -1, kind).mul_(factor)
    to_scores = to_scores.to(weights.dtype)
    torch.bmm(to_scores, k, out=into[0])
    torch.bmm(to_scores.transpose(1, 2), q, out=into[1])


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which sums over exponentials are computed."""
    return torch.promote_types(dtype, torch.float32)


def spread_gradient(group: Group, gradient: Tensor, heads: int) -> Tensor:
    """(n, A * D) gradient of what was attended -> (G * A, L, D); queries on padding have no part in the loss."""
    above = group.spread(gradient, heads)[0]  # (G, A, L, D)
    if group.padding is not None:
        above.mul_(~group.padding[:, None, :, None])
    return above.flatten(0, 1)


def _factor(query: Tensor, scaling: float | None) -> float:
    return float(query.shape[-1] ** -0.5) if scaling is None else scaling


def _shared(x: Tensor, heads: int) -> Tensor:
    """Repeat heads that several query heads share."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def hidden_places(group: Group, heads: int, *, causal: bool, window: int | None, like: Tensor) -> Tensor:
    """(G * A or 1, 1 or L, L) added to the scores: minus infinity on padding and on what a token must not see.

    Args:
        group: of rows.
        heads: A
        causal: whether a token sees only those before it.
        window: a token sees those less than this far away.
        like: for the type and the device.
    """
    return group.once((heads, causal, window, like.dtype), lambda: _hidden(group, heads, causal, window, like))


def _hidden(group: Group, heads: int, causal: bool, window: int | None, like: Tensor) -> Tensor:
    places = torch.arange(group.longest, device=like.device)
    unseen = places[None, None, :] < 0 if group.padding is None else group.padding[:, None, :]  # (G or 1, 1, L)
    distance = places[:, None] - places  # (L, L), how far back the key lies
    if causal:
        unseen = unseen | (distance < 0)
    if window is not None and window < group.longest:
        unseen = unseen | (distance.abs() >= window)
        if group.padding is not None:  # a query on padding may see nothing: it sees all, and its result goes nowhere
            unseen = unseen & ~group.padding[:, :, None]
    hidden = torch.zeros(unseen.shape, device=like.device, dtype=like.dtype).masked_fill_(unseen, -torch.inf)
    return hidden if len(hidden) == 1 else hidden.repeat_interleave(heads, 0)


def _no_mask(*_: Any, **__: Any) -> None:
    """Rows laid end to end need no mask of transformers."""


def _padding_mask(
    *args: Any, attention_mask: Tensor | None = None, dtype: torch.dtype = torch.float32, **more: Any
) -> Tensor | None:
    """(B, 1, T, T) 0 where a token is seen; on a processor none where nothing is padded.

    Elsewhere the host would wait for the answer to that. For the same reason the numbers of transformers' own mask are
    made here: its older versions copy them to the device.
    """
    if attention_mask is not None and attention_mask.device.type != "cpu":
        more["allow_is_bidirectional_skip"] = False
    made: Any = sdpa_mask
    seen: Tensor | None = made(*args, attention_mask=attention_mask, **{**more, "allow_is_causal_skip": False})
    if seen is None:
        return None
    return torch.where(seen, torch.zeros((), device=seen.device, dtype=dtype), torch.finfo(dtype).min)


AttentionInterface.register(PADDED, attend_padded)
AttentionMaskInterface.register(PADDED, _padding_mask)
AttentionInterface.register(FLAT, attend_flat)
AttentionMaskInterface.register(FLAT, _no_mask)


@contextmanager
def attention(model: Any, name: str) -> Iterator[None]:
    """While this context lasts, a transformers model attends with the function of this name."""
    before = model.config._attn_implementation
    _set_attention(model, name)
    try:
        yield
    finally:
        _set_attention(model, before)


def _set_attention(model: Any, name: str) -> None:
    """Have a model attend with the function of this name, and those of its parts that know more ways than one."""
    with quiet():  # of parts that it finds in the config and not in the model
        try:
            model.set_attn_implementation(name)
        except ValueError:  # of a part that attends in one way only, or not at all, such as the body of a detector
            parts = {key: getattr(model.config, key, None) for key in model.config.sub_configs}
            own = {key: part._attn_implementation for key, part in parts.items() if part is not None}
            model.set_attn_implementation({"": name, **own})
