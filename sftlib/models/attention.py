"""Attention through transformers' own interface, so that its dropout obeys the layout-independent masks.

Registered under the name ``sftlib`` with transformers' attention and mask registries, which is their documented way in.
Plain products and a softmax: on a CPU they are faster at ordinary lengths than the fused kernel, whose dropout could not
be told which row it works on.

Letters: ``B`` rows, ``A`` heads, ``T`` positions, ``D`` features of a head.
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

NAME = "sftlib"
_SITE = 2**20  # beyond the number of any dropout module; layers are told apart by the order of the calls


def attend(
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
        module: the attention module; only its training flag and its sharing of key heads are read.
        query: (B, A, T, D); key and value may have fewer heads, which are then shared.
        key: (B, A', T, D)
        value: (B, A', T, D)
        attention_mask: (B, 1, T, T) added to the scores, or None.
        scaling: factor of the scores; D^-0.5 when None.
        dropout: rate on the attention weights; transformers passes 0 outside training.
        dropout_masks: masks of this run; plain dropout without them.

    Returns:
        (B, T, A, D), and no weights.
    """
    sharing = query.shape[1] // key.shape[1]
    if sharing > 1:
        key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[2]]
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    if dropout > 0.0 and module.training:
        if dropout_masks is not None and dropout_masks.active:
            weights = dropout_masks.apply(weights, dropout, _SITE)
        else:
            weights = nn.functional.dropout(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)


@contextmanager
def own_attention(model: nn.Module) -> Iterator[bool]:
    """While this context lasts, a model that uses transformers' attention interface attends with `attend`.

    Yields:
        Whether it does. Models with attention of their own (MPNet, DeBERTa) are left as they are; their dropout is made
        of modules and is covered there.
    """
    if not getattr(model, "_supports_attention_backend", False):
        yield False
        return
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield True
    finally:
        model.set_attn_implementation(before)
