"""Rows laid end to end: which token belongs to which row, and which rows attend together.

Letters: ``B`` rows, ``T`` tokens of the longest, ``N`` tokens of all rows, ``G`` rows of a group, ``L`` tokens of the
longest row of a group, ``n`` tokens of a group, ``A`` heads, ``D`` features of a head, ``H`` hidden width,
``P`` kinds of vectors (queries, keys, values).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sftlib.models.device import sent

_COST_OF_A_GROUP = 2**12  # what its calls cost, in scores of a dozen heads; more groups are less padding
_LARGEST_GROUP = 2**21  # G * L * L at most, since the weights of a group are held for the backward pass


@final
class Group:
    """Neighbouring rows of like length, which attend side by side.

    Args:
        lengths: (G,) tokens of each row, on the host.
        start: first token in the flat order.
        first: first row.
        device: of what is spread.

    Attributes:
        start: as given.
        stop: one beyond the last token.
        first: as given.
        rows: G
        longest: L
        padding: (G, L) True beyond a row's end; None when all rows are equally long.
    """

    def __init__(self, lengths: Tensor, start: int, first: int, device: torch.device) -> None:
        self.start = start
        self.first = first
        self.rows = len(lengths)
        self.longest = int(lengths.max())
        places = torch.arange(self.longest)
        inside = places < lengths[:, None]  # (G, L)
        begins = torch.cumsum(lengths, 0) - lengths
        token = torch.where(inside, begins[:, None] + places, 0)  # padding repeats token 0
        place = inside.flatten().nonzero()[:, 0]
        self._token = sent(token, device)  # (G, L)
        self._place = sent(place, device)  # (n,) where in (G * L) each token lies
        self.stop = start + len(place)
        self.padding = None if len(place) == inside.numel() else sent(~inside, device)
        self._indices: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._made: dict[object, Tensor] = {}

    def spread(self, x: Tensor, heads: int, parts: int = 1) -> Tensor:
        """(n, P * A * D) flat -> (P, G, A, L, D) side by side; what stands on padding means nothing."""
        there, _ = self._of(heads, parts)
        width = x.shape[1] // (parts * heads)
        return x.reshape(-1, width).index_select(0, there).view(parts, self.rows, heads, self.longest, width)

    def collect(self, x: Tensor) -> Tensor:
        """(P, G, A, L, D) -> (n, P * A * D), undoing `spread`."""
        _, back = self._of(x.shape[2], x.shape[0])
        return x.reshape(-1, x.shape[4]).index_select(0, back).view(self.stop - self.start, -1)

    def once(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """What all layers share, made when the first asks."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _of(self, heads: int, parts: int) -> tuple[Tensor, Tensor]:
        """Indices of `spread` and `collect`, which all layers share."""
        if (heads, parts) not in self._indices:
            head = torch.arange(heads, device=self._place.device)
            part = torch.arange(parts, device=self._place.device)
            token = self._token[:, None, :] * parts * heads + head[:, None]  # (G, A, L)
            there = token + part[:, None, None, None] * heads  # (P, G, A, L)
            row, place = self._place // self.longest, self._place % self.longest  # (n,)
            side = part[:, None] * self.rows + row[:, None, None]  # (n, P, 1)
            back = (side * heads + head) * self.longest + place[:, None, None]  # (n, P, A)
            self._indices[heads, parts] = there.flatten(), back.flatten()
        return self._indices[heads, parts]


@final
class Sequences:
    """The rows of a batch laid end to end.

    Args:
        lengths: (B,) tokens of each row, on the host: how many there are decides on shapes, and asking a device for
            them would have the host wait for it in every pass.
        longest: T, width of the padded batch.
        device: where the tokens lie.

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

    def __init__(self, lengths: Tensor, longest: int, device: torch.device | None = None) -> None:
        inside = torch.arange(longest) < lengths[:, None]  # (B, T)
        self.longest = longest
        self._device = lengths.device if device is None else device
        self.tokens = sent(inside.flatten().nonzero()[:, 0], self._device)
        self.positions = self.tokens % longest
        self.starts = sent(torch.cumsum(lengths, 0) - lengths, self._device)
        self._lengths = lengths
        self._made: dict[object, Any] = {}

    @functools.cached_property
    def bounds(self) -> Tensor:
        """(B + 1,) int32: where rows begin, and where the last ends; as kernels of varying length want it."""
        return sent(self._ends.to(torch.int32), self._device)

    @functools.cached_property
    def rows(self) -> Tensor:
        """(N,) the row of each token."""
        return self.tokens // self.longest

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First token of each row, and one beyond its last."""
        return list(itertools.pairwise(self._ends.tolist()))

    @property
    def _ends(self) -> Tensor:
        return functional.pad(torch.cumsum(self._lengths, 0), (1, 0))

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What all layers share, made when the first asks."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def side_by_side(self, x: Tensor) -> Tensor:
        """(N, H) -> (B, T, H), zeros on padding."""
        padded = x.new_zeros(len(self.starts) * self.longest, x.shape[1])
        return padded.index_copy(0, self.tokens, x).view(-1, self.longest, x.shape[1])

    @functools.cached_property
    def groups(self) -> list[Group]:
        """Rows that attend together, in order; made when a layer first asks, since a recalled body never does."""
        return _groups(self._lengths, self._device)


def _groups(lengths: Tensor, device: torch.device) -> list[Group]:
    """Cut rows, in their order, into the groups whose attention costs least: scores to compute, and calls to make."""
    sizes = lengths.numpy().astype(np.int64)
    least = np.full(len(sizes) + 1, np.inf)  # cost of the first so many rows
    cut = np.zeros(len(sizes) + 1, dtype=np.int64)  # where their last group begins
    least[0] = 0.0
    for stop in range(1, len(sizes) + 1):
        longest = np.maximum.accumulate(sizes[stop - 1 :: -1])  # of a group that begins 1, 2, ... rows before
        scores = longest**2 * np.arange(1, stop + 1)
        fitting = max(1, int(np.searchsorted(scores, _LARGEST_GROUP, side="right")))
        costs = least[stop - 1 :: -1][:fitting] + scores[:fitting] + _COST_OF_A_GROUP
        best = int(costs.argmin())
        least[stop], cut[stop] = costs[best], stop - 1 - best
    edges = [len(sizes)]
    while edges[-1] > 0:
        edges.append(int(cut[edges[-1]]))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = itertools.pairwise(edges[::-1])
    return [Group(lengths[first:stop], int(starts[first]), first, device) for first, stop in rows]
