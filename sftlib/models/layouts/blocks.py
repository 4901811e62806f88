"""Attention to near tokens alone, in blocks: what is too far away to be seen is not computed.

A block of queries sees its own tokens and those of a block on either side, so that the work grows with the length of a
row and not with its square.

Letters: ``B`` rows, ``A`` heads, ``T`` positions, ``D`` features of a head, ``N`` blocks, ``C`` tokens of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST = 32  # tokens; smaller products are slower than what they leave out
_WORTH_IT = 5  # blocks of a row from which three blocks of keys are clearly less than all


def block_of(query: Tensor, key: Tensor, mask: Tensor | None, window: int | None) -> int | None:
    """The size of a block; None where attention in blocks is not worth it, or would not be the same.

    Args:
        query: (B, A, T, D)
        key: (B, A, T', D)
        mask: (B, 1, T, T') added to the scores, that hides what is farther away than the window.
        window: a token sees those less than this far away; None for all.
    """
    if window is None or mask is None or mask.shape[2:] != (query.shape[2], key.shape[2]):
        return None
    size = max(_SMALLEST, window)
    return size if query.shape[2] == key.shape[2] >= _WORTH_IT * size else None


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, size: int) -> Tensor:
    """Softmax attention of each token to those in its block and the two beside it.

    Args:
        query: (B, A, T, D), scaled.
        key: (B, A, T, D)
        value: (B, A, T, D)
        mask: (B, 1, T, T) added to the scores; what it lets through lies within ``size``.
        size: C

    Returns:
        (B, A, T, D)
    """
    rows, heads, length, width = query.shape
    more = -length % size
    queries = functional.pad(query, (0, 0, 0, more)).view(rows, heads, -1, size, width)  # (B, A, N, C, D)
    keys, values = (_with_neighbours(x, size, more) for x in (key, value))  # (B, A, N, D, 3 C)
    scores = torch.matmul(queries, keys) + _of_blocks(mask, size, more)  # (B, A, N, C, 3 C)
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.matmul(weights, values.transpose(3, 4)).flatten(2, 3)[:, :, :length]


def _with_neighbours(x: Tensor, size: int, more: int) -> Tensor:
    """(B, A, T, D) -> (B, A, N, D, 3 C) each block with the one before and the one behind it, or nothing there."""
    return functional.pad(x, (0, 0, size, size + more)).unfold(2, 3 * size, size)


def _of_blocks(mask: Tensor, size: int, more: int) -> Tensor:
    """(B, 1, T, T) -> (B, 1, N, C, 3 C) what each token of a block sees of its three: nothing where no key is."""
    nothing = torch.finfo(mask.dtype).min
    wide = functional.pad(mask, (size, size + more, 0, more), value=nothing)  # (B, 1, N C, C + N C + C)
    rows, _, down, across = wide.shape
    steps = (wide.stride(0), wide.stride(1), size * (across + 1), across, 1)  # a block further, rows and keys move on
    return wide.as_strided((rows, 1, down // size, size, 3 * size), steps)
