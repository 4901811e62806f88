"""torch's function of attention with many heads, written out, so that the dropout of its weights can be ours.

`torch.nn.functional.multi_head_attention_forward` draws that dropout inside itself, where nobody sees it; WavLM and
`torch.nn.MultiheadAttention` call it.

Letters: ``L`` positions that ask, ``S`` positions that are asked, ``B`` rows, ``E`` width, ``A`` heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_SIGNATURE = inspect.signature(functional.multi_head_attention_forward)


def many_heads(
    drop: Callable[[Tensor, float], Tensor], *args: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None] | None:
    """What torch's function returns; None where it drops no weights, or does more than is written here.

    Args:
        drop: dropout of weights (B, A, L, S) at a rate.
        *args: of torch's function.
        **kwargs: of torch's function.

    Returns:
        (L, B, E), and the weights if they are asked for: (B, L, S), their mean over heads, or (B, A, L, S).
    """
    bound = _SIGNATURE.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    more = ("bias_k", "bias_v", "static_k", "static_v")
    if not given["training"] or not given["dropout_p"] or given["query"].dim() != 3 or given["add_zero_attn"]:
        return None
    if any(given[name] is not None for name in more):
        return None
    query, key, value = _projected(given)  # (B, A, L or S, E / A)
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    scores = _masked(scores, given["attn_mask"], given["key_padding_mask"])
    weights = drop(torch.softmax(scores, dim=-1), given["dropout_p"])
    joined = (weights @ value).permute(2, 0, 1, 3).flatten(2)  # (L, B, E)
    found = functional.linear(joined, given["out_proj_weight"], given["out_proj_bias"])
    if not given["need_weights"]:
        return found, None
    return found, weights.mean(dim=1) if given["average_attn_weights"] else weights


def _projected(given: dict[str, Any]) -> list[Tensor]:
    """What asks, what is asked, and what is answered, by heads."""
    if given["use_separate_proj_weight"]:
        layers = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        layers = list(given["in_proj_weight"].chunk(3))
    shifts = [None] * 3 if given["in_proj_bias"] is None else list(given["in_proj_bias"].chunk(3))
    inputs, heads = [given[name] for name in ("query", "key", "value")], given["num_heads"]
    return [
        functional.linear(x, weight, bias).view(*x.shape[:2], heads, -1).permute(1, 2, 0, 3)
        for x, weight, bias in zip(inputs, layers, shifts, strict=True)
    ]


def _masked(scores: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor:
    """Scores (B, A, L, S) with what nobody may look at; masks are True there, or are added."""
    rows, heads = scores.shape[:2]
    if mask is not None:
        by_head = mask.view(rows, heads, *mask.shape[1:]) if mask.dim() == 3 else mask
        scores = scores.masked_fill(by_head, -torch.inf) if by_head.dtype == torch.bool else scores + by_head
    if padding is not None:
        beyond = padding[:, None, None]
        scores = scores.masked_fill(beyond, -torch.inf) if beyond.dtype == torch.bool else scores + beyond
    return scores
