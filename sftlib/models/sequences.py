"""Rows laid end to end: which token belongs to which row, and which rows attend together.

Letters: ``B`` rows, ``T`` tokens of the longest, ``N`` tokens of all rows, ``G`` rows of a group, ``L`` tokens of the
longest row of a group, ``n`` tokens of a group, ``A`` heads, ``D`` features of a head.
"""

from __future__ import annotations

import functools
from typing import final

import torch
from torch import Tensor

_PADDING_OF_A_GROUP = 1.6  # padded tokens per real token at most; more groups are more, smaller kernels
_LARGEST_GROUP = 2**21  # G * L * L at most, since the weights of a group are held for the backward pass


@final
class Group:
    """Neighbouring rows of like length, which attend side by side.

    Args:
        lengths: (G,) tokens of each row.
        start: first token in the flat order.

    Attributes:
        start: as given.
        stop: one beyond the last token.
        rows: G
        longest: L
        padding: (G, L) True beyond a row's end; None when all rows are equally long.
    """

    def __init__(self, lengths: Tensor, start: int) -> None:
        self.start = start
        self.rows = len(lengths)
        self.longest = int(lengths.max())
        places = torch.arange(self.longest, device=lengths.device)
        inside = places < lengths[:, None]  # (G, L)
        first = torch.cumsum(lengths, 0) - lengths
        self._token = torch.where(inside, first[:, None] + places, 0)  # (G, L); padding repeats token 0
        self._place = inside.flatten().nonzero()[:, 0]  # (n,) where in (G * L) each token lies
        self.stop = start + len(self._place)
        self.padding = None if len(self._place) == inside.numel() else ~inside
        self._indices: dict[int, tuple[Tensor, Tensor]] = {}

    def spread(self, x: Tensor, heads: int) -> Tensor:
        """(n, A * D) flat -> (G, A, L, D) side by side; what stands on padding means nothing."""
        there, _ = self._of(heads)
        return x.reshape(-1, x.shape[1] // heads).index_select(0, there).view(self.rows, heads, self.longest, -1)

    def collect(self, x: Tensor) -> Tensor:
        """(G, A, L, D) -> (n, A * D), undoing `spread`."""
        _, back = self._of(x.shape[1])
        return x.reshape(-1, x.shape[3]).index_select(0, back).view(self.stop - self.start, -1)

    def _of(self, heads: int) -> tuple[Tensor, Tensor]:
        """Indices of `spread` and `collect`, which all layers share."""
        if heads not in self._indices:
            head = torch.arange(heads, device=self._place.device)
            there = self._token[:, None, :] * heads + head[:, None]  # (G, A, L)
            row, place = self._place // self.longest, self._place % self.longest
            back = (row[:, None] * heads + head) * self.longest + place[:, None]  # (n, A)
            self._indices[heads] = there.flatten(), back.flatten()
        return self._indices[heads]


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
        self._lengths = lengths

    @functools.cached_property
    def groups(self) -> list[Group]:
        """Rows that attend together, in order; made when a layer first asks, since a recalled body never does."""
        return _groups(self._lengths)


def _groups(lengths: Tensor) -> list[Group]:
    """Cut rows, in their order, into groups with little padding and of bounded size."""
    sizes = lengths.tolist()
    groups, first, start = [], 0, 0
    while first < len(sizes):
        last, real, longest = first + 1, sizes[first], sizes[first]
        while last < len(sizes):
            wider = max(longest, sizes[last])
            places = wider * (last + 1 - first)
            if places > _PADDING_OF_A_GROUP * (real + sizes[last]) or places * wider > _LARGEST_GROUP:
                break
            real, longest, last = real + sizes[last], wider, last + 1
        groups.append(Group(lengths[first:last], start))
        first, start = last, start + real
    return groups
