"""Rows laid end to end: which token belongs to which row, and which rows attend together.

Letters: ``B`` rows, ``T`` tokens of the longest, ``N`` tokens of all rows, ``G`` rows of a group, ``L`` tokens of the
longest row of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

_PADDING_OF_A_GROUP = 1.25  # padded tokens per real token at most; more groups are more, smaller kernels


class _Gather(torch.autograd.Function):
    """(n, F) -> (G * L, F): rows of a group side by side. Padding repeats a token; nothing flows back from it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, valid: Tensor) -> Tensor:
        ctx.save_for_backward(valid)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (valid,) = ctx.saved_tensors
        return gradients[0].index_select(0, valid), None, None


class _Scatter(torch.autograd.Function):
    """(G * L, F) -> (n, F): end to end again; the gradient of padding is zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, valid: Tensor) -> Tensor:
        ctx.save_for_backward(valid)
        ctx.size = x.shape[0]
        return x.index_select(0, valid)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (valid,) = ctx.saved_tensors
        zeros = gradients[0].new_zeros(ctx.size, gradients[0].shape[1])
        return zeros.index_copy_(0, valid, gradients[0]), None


@final
@dataclass(frozen=True)
class Group:
    """Neighbouring rows of like length, which attend side by side.

    Attributes:
        start: first token in the flat order.
        stop: one beyond the last.
        rows: G
        longest: L
        index: (G * L,) token of each place, counted from ``start``; padding repeats token 0.
        valid: (stop - start,) place of each token.
        keys: (G, 1, 1, L) 0 on tokens and minus infinity on padding; None when all rows are equally long.
    """

    start: int
    stop: int
    rows: int
    longest: int
    index: Tensor
    valid: Tensor
    keys: Tensor | None

    def gather(self, x: Tensor) -> Tensor:
        """(N, F) flat -> (G, L, F)."""
        part = x[self.start : self.stop]
        if self.keys is None:
            return part.reshape(self.rows, self.longest, -1)
        gathered: Tensor = _Gather.apply(part, self.index, self.valid)  # type: ignore[no-untyped-call]
        return gathered.view(self.rows, self.longest, -1)

    def scatter(self, x: Tensor) -> Tensor:
        """(G, L, F) -> (stop - start, F)."""
        flat = x.reshape(self.rows * self.longest, -1)
        if self.keys is None:
            return flat
        scattered: Tensor = _Scatter.apply(flat, self.valid)  # type: ignore[no-untyped-call]
        return scattered


@final
class Sequences:
    """The rows of a batch laid end to end.

    Args:
        lengths: (B,) tokens of each row.
        longest: T, width of the padded batch.

    Attributes:
        longest: T
        tokens: (N,) place of each token in the padded (B * T) order.
        positions: (N,) position of each token in its row.
        starts: (B,) first token of each row.
        groups: rows that attend together, in order.

    Example:
        >>> sequences = Sequences(torch.tensor([2, 1]), longest=3)
        >>> sequences.tokens.tolist(), sequences.positions.tolist(), sequences.starts.tolist()
        ([0, 1, 3], [0, 1, 0], [0, 2])
    """

    def __init__(self, lengths: Tensor, longest: int) -> None:
        inside = torch.arange(longest, device=lengths.device) < lengths[:, None]  # (B, T)
        self.longest = longest
        self.tokens = inside.flatten().nonzero()[:, 0]
        self.positions = self.tokens % longest
        self.starts = torch.cumsum(lengths, 0) - lengths
        self.groups = _groups(lengths)


def _groups(lengths: Tensor) -> list[Group]:
    """Cut rows, in their order, into groups with little padding."""
    sizes = lengths.tolist()
    groups, first, start = [], 0, 0
    while first < len(sizes):
        last, real, longest = first + 1, sizes[first], sizes[first]
        while last < len(sizes):
            wider = max(longest, sizes[last])
            if wider * (last + 1 - first) > _PADDING_OF_A_GROUP * (real + sizes[last]):
                break
            real, longest, last = real + sizes[last], wider, last + 1
        groups.append(_group(lengths[first:last], start, real, longest))
        first, start = last, start + real
    return groups


def _group(lengths: Tensor, start: int, real: int, longest: int) -> Group:
    rows = len(lengths)
    places = torch.arange(longest, device=lengths.device)
    inside = places < lengths[:, None]  # (G, L)
    own_start = torch.cumsum(lengths, 0) - lengths
    index = torch.where(inside, own_start[:, None] + places, 0).flatten()
    keys = None
    if rows * longest != real:
        keys = torch.zeros(rows, 1, 1, longest, device=lengths.device).masked_fill_(~inside[:, None, None], -torch.inf)
    return Group(start, start + real, rows, longest, index, inside.flatten().nonzero()[:, 0], keys)
