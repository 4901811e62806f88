"""Attention over rows laid end to end by one kernel, on devices that have one: no group, no padding, no score kept.

Two are known. FlashAttention (Dao, 2023) comes with torch's CUDA builds as `torch.nn.attention.varlen` and takes 16-bit
numbers; FlexAttention is compiled for the device and takes any. Neither can be told which dropout mask belongs to which
row, so both serve only where no weight is dropped: everywhere but in training with dropout on attention weights.

A kernel is not believed but tried: `kernel_of` compares outputs and gradients with attention written out, once for
each device, type and width of heads, and takes the first that agrees. Processors have none: they attend by
groups. A kernel that fails is named in a warning.

Letters: ``N`` tokens of all rows, ``B`` rows, ``A`` query heads, ``K`` heads of keys, ``D`` features of a head.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from sftlib.models.attempts import attempt
from sftlib.models.layouts.sequences import Sequences

Attend = Callable[..., Any]


class Look(NamedTuple):
    """What a token sees of its row.

    Attributes:
        factor: of the scores.
        causal: whether only the tokens before it.
        window: those less than this far away; None for all.
    """

    factor: float
    causal: bool
    window: int | None


class Kernel(ABC):
    """Softmax attention in which no token sees another row."""

    @abstractmethod
    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
        """(N, A, D), (N, K, D) and (N, K, D) of one type -> (N, A, D).

        Args:
            query: of every token.
            key: ``A / K`` query heads share one.
            value: like ``key``.
            sequences: which tokens make up which row.
            look: what a token sees.
        """


@final
class Flash(Kernel):
    """FlashAttention with sequences of varying length.

    Args:
        attend: with the signature of `torch.nn.attention.varlen.varlen_attn`.
    """

    def __init__(self, attend: Attend) -> None:
        self._attend = attend

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
        """See `Kernel`."""
        # How many tokens a token sees on either side, itself not counted; -1 for all.
        far = -1 if look.window is None else look.window - 1
        found: Tensor = self._attend(
            query,
            key,
            value,
            sequences.bounds,
            sequences.bounds,
            sequences.longest,
            sequences.longest,
            scale=look.factor,
            window_size=(far, 0 if look.causal else far),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found


@final
class Flex(Kernel):
    """FlexAttention with a mask over blocks, which all layers of a batch share.

    Args:
        attend: with the signature of `torch.nn.attention.flex_attention.flex_attention`.
    """

    def __init__(self, attend: Attend) -> None:
        self._attend = attend

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
        """See `Kernel`."""
        mask = sequences.once((look.causal, look.window), lambda: _seen_blocks(sequences, look))
        q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))  # (1, heads, N, D)
        found: Tensor = self._attend(q, k, v, block_mask=mask, scale=look.factor, enable_gqa=q.shape[1] != k.shape[1])
        return found[0].transpose(0, 1)


def _seen_blocks(sequences: Sequences, look: Look) -> Any:
    """Which blocks of scores are computed: those with a pair of tokens of one row that see each other."""
    from torch.nn.attention.flex_attention import create_block_mask

    rows, count = sequences.rows, len(sequences.rows)

    def seen(_: Tensor, __: Tensor, place: Tensor, other: Tensor) -> Tensor:
        found = rows[place] == rows[other]
        if look.causal:
            found = found & (other <= place)
        if look.window is not None:
            found = found & ((place - other).abs() < look.window)
        return found

    return create_block_mask(seen, None, None, count, count, device=rows.device)


@functools.cache
def kernel_of(device: torch.device, dtype: torch.dtype, width: int) -> Kernel | None:
    """The first kernel that gives the answers of `row_by_row` here; None where none does.

    Args:
        device: of queries, keys and values.
        dtype: theirs.
        width: D
    """
    if device.type != "cuda":
        return None
    with torch.random.fork_rng(devices=[device]):
        return next((kernel for kernel in _candidates(dtype) if agrees(kernel, device, dtype, width)), None)


def _candidates(dtype: torch.dtype) -> list[Kernel]:
    """Those that this torch can call, the fastest first."""
    found: list[Kernel] = []
    if dtype in (torch.float16, torch.bfloat16):
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError:  # an older torch
            pass
        else:
            found.append(Flash(varlen_attn))
    from torch.nn.attention.flex_attention import flex_attention

    found.append(Flex(torch.compile(flex_attention, dynamic=True)))
    return found


#: Rounding of a type, with a margin: of the norm of an output or a gradient.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 5e-3, torch.float16: 1e-2, torch.bfloat16: 4e-2}


def agrees(kernel: Kernel, device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether outputs and gradients of a few rows are those of attention written out, in every way that models attend.

    fp32 may be computed in TF32 on the device, hence its wide bound: a wrong mask or factor is off by far more.
    """
    lengths = torch.tensor([5, 1, 130, 19])
    sequences = Sequences(lengths, int(lengths.max()), device)
    generator = torch.Generator().manual_seed(0)
    count = int(lengths.sum())
    for heads, causal, window in ((2, False, None), (2, False, 7), (1, True, None), (1, True, 7)):
        drawn = [torch.randn(count, n, width, generator=generator) for n in (2, heads, heads, 2)]
        query, key, value, above = (x.to(device, dtype) for x in drawn)
        look = Look(float(width**-0.5), causal, window)
        expected = _with_gradients(row_by_row, query, key, value, above, sequences, look)
        # Whatever a compiler or a driver says: this kernel is not for this machine.
        run = partial(_with_gradients, kernel, query, key, value, above, sequences, look)
        found = attempt(run, kinds=(Exception,))
        if found.value is None:
            failed = f"{type(kernel).__name__} attention does not run on {device} in {dtype}"
            warnings.warn(
                f"{failed}, so rows attend in another way, with the same results: {found.reason}", stacklevel=2
            )
            return False
        for one, other in zip(found.value, expected, strict=True):
            if not (one - other).norm() <= _TOLERANCE[dtype] * other.norm():  # also false for NaN
                return False
    return True


def row_by_row(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
    """What every kernel must give, row by row and written out, in the way of `Kernel`."""
    found = []
    for start, stop in sequences.spans:
        q, k, v = (x[start:stop].transpose(0, 1) for x in (query, key, value))  # (heads, L, D)
        k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
        places = torch.arange(stop - start, device=query.device)
        back = places[:, None] - places
        hidden = (back < 0) & look.causal
        if look.window is not None:
            hidden = hidden | (back.abs() >= look.window)
        scores = (q @ k.transpose(1, 2) * look.factor).masked_fill(hidden, -torch.inf)
        found.append((torch.softmax(scores.float(), -1).to(v.dtype) @ v).transpose(0, 1))
    return torch.cat(found)


def _with_gradients(
    attend: Attend,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    above: Tensor,
    sequences: Sequences,
    look: Look,
) -> list[Tensor]:
    """The output, and the gradients of queries, keys and values."""
    with torch.enable_grad():
        sides = [x.clone().requires_grad_() for x in (query, key, value)]
        found = attend(*sides, sequences, look)
        return [found.detach(), *torch.autograd.grad(found, sides, above)]
