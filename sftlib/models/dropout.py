"""Dropout whose masks do not depend on how the work is laid out.

A mask is a function of (seed, step, site, row, position) and of nothing else: the same row loses the same activations
whether it is computed alone, padded among others, on another process, or a second time after running out of memory.
torch's own dropout draws from one generator in the order of the calls, so any of these changes the training.

How: a fixed pool of random numbers, already compared with the rate and scaled; the mask of a position is the window of
the pool that starts at ``hash(seed, step, site, row, position)``, gathered through a strided view. That is also many
times faster on a CPU than drawing numbers, and the backward pass gathers again instead of keeping masks in memory.

Letters: ``B`` rows, ``T`` positions, ``N`` tokens end to end, ``H`` features, ``A`` attention heads, ``M`` windows,
``W`` width of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sftlib.models.counters import mix, mix_numbers

_PLACES: int = 2**22  # where a window may start
_WIDEST_WINDOW = 2**16
_FUNCTION_SITE = 2**20 + 1  # beyond the number of any module, and of attention
_NO_POSITION = 2**24 - 1  # stands for the row as a whole


class _Windows(torch.autograd.Function):
    """``x`` (M, W) times the windows of ``pool`` that start at ``offsets`` (M,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(pool, offsets)
        return x * _gather(pool, offsets, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        pool, offsets = ctx.saved_tensors
        return gradients[0] * _gather(pool, offsets, gradients[0].shape[1]), None, None


def _gather(pool: Tensor, offsets: Tensor, width: int) -> Tensor:
    """(M, W): row ``i`` is ``pool[offsets[i] : offsets[i] + W]``."""
    windows: Tensor = pool.as_strided((_PLACES, width), (1, 1)).index_select(0, offsets)
    return windows


def _offsets(keys: Tensor) -> Tensor:
    """Where the windows of these keys start."""
    return mix(keys) & (_PLACES - 1)


def _head_keys(heads: int, device: torch.device) -> Tensor:
    """(A,) what tells the heads of a layer apart."""
    return mix(torch.arange(1, heads + 1, device=device))


@final
class Windows:
    """Masks by where they start: applied as often as needed, never kept.

    Args:
        pool: random numbers, 0 or 1 / (1 - p).
        offsets: (M,) where each window starts.
        width: W
    """

    def __init__(self, pool: Tensor, offsets: Tensor, width: int) -> None:
        self._pool = pool
        self._offsets = offsets
        self._width = width

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply (..., W) with its masks."""
        return x * self.like(x)

    def like(self, x: Tensor) -> Tensor:
        """The masks of (..., W)."""
        return _gather(self._pool, self._offsets, self._width).view(x.shape)


@final
class DropoutMasks:
    """The masks of one training run; told before each forward pass which rows lie where.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pools: dict[tuple[float, torch.dtype, torch.device], Tensor] = {}
        self._step_key = 0
        self._rows: Tensor | None = None  # (B,) keys
        self._tokens: Tensor | None = None  # (B, T) keys
        self._others: dict[int, Tensor] = {}  # S -> (B, S) keys
        self._flat: Tensor | None = None  # (N,) keys
        self._calls: dict[int, int] = {}
        #: Whether attention was ever handed these masks; some versions of some models lose keywords on the way.
        self.reached_attention = False

    @contextmanager
    def laid_out(
        self, step: int, rows: Tensor, positions: Tensor, flat: Tensor | None = None, others: Iterable[int] = ()
    ) -> Iterator[None]:
        """Within this context masks are drawn for these rows.

        Args:
            step: optimizer step, from 0.
            rows: (B, T) row number of every token.
            positions: (B, T) position of every token in its row.
            flat: (N,) where in (B * T) the tokens lie that the model sees end to end; None when it sees them padded.
            others: other numbers of positions that the same rows have inside the model, such as those of a decoder.
        """
        self._step_key = mix_numbers(self._seed, step)
        self._tokens = mix(rows * 2**24 + positions)
        self._rows = mix(rows[:, 0] * 2**24 + _NO_POSITION)
        self._flat = self._tokens.flatten() if flat is None else self._tokens.flatten().index_select(0, flat)
        self._others = {
            length: mix(rows[:, :1] * 2**24 + torch.arange(length, device=rows.device)) for length in others
        }
        self._calls = {}
        try:
            yield
        finally:
            self._rows = self._tokens = self._flat = None
            self._others = {}

    def twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a part of a pass, and of the same part once more: its masks are then the same.

        For `torch.utils.checkpoint`, which asks when the part begins for the first time.
        """
        seen = (self._step_key, self._rows, self._tokens, self._flat, dict(self._calls))

        @contextmanager
        def again() -> Iterator[None]:
            now = (self._step_key, self._rows, self._tokens, self._flat, self._calls)
            self._step_key, self._rows, self._tokens, self._flat, self._calls = (*seen[:4], dict(seen[4]))
            try:
                yield
            finally:
                self._step_key, self._rows, self._tokens, self._flat, self._calls = now

        return nullcontext(), again()

    @property
    def active(self) -> bool:
        """Whether rows were laid out; otherwise nobody can say which row an activation belongs to."""
        return self._tokens is not None

    def apply(self, x: Tensor, p: float, site: int) -> Tensor:
        """Dropout at one site of the model.

        Args:
            x: (B, T, H) or (1, N, H) per token, (B, A, T, T) attention weights, (B, H) per row; the same with another
                number of positions that rows have; any other shape gets one mask for all rows of the step.
            p: rate; it is rounded to a multiple of 2^-16.
            site: number of the place in the model. Layers that share a module are told apart by the order of the calls.
        """
        return self.drop(x, p, _offsets(self._keys(x) + self._site_key(site)))

    def offsets_of_heads(self, heads: int, site: int, only: Tensor | None = None) -> Tensor:
        """(N, A) windows of attention weights, for each token and head in the flat order; see `drop`.

        Args:
            heads: A
            site: of the attention.
            only: these tokens alone.
        """
        tokens = self._tokens_end_to_end(only)
        return _offsets(tokens[:, None] + _head_keys(heads, tokens.device) + self._site_key(site))

    def offsets_of_tokens(self, site: int, only: Tensor | None = None) -> Tensor:
        """(N,) windows of what is dropped at a site, for each token in the flat order, or these alone."""
        return _offsets(self._tokens_end_to_end(only) + self._site_key(site))

    def _tokens_end_to_end(self, only: Tensor | None) -> Tensor:
        assert self._flat is not None
        return self._flat if only is None else self._flat.index_select(0, only)

    def drop(self, x: Tensor, p: float, offsets: Tensor) -> Tensor:
        """Multiply each vector along the last axis with its window.

        Args:
            x: (..., W)
            p: rate.
            offsets: (...) where each window starts.
        """
        windows: Tensor = _Windows.apply(x.reshape(-1, x.shape[-1]), self._pool(p, x), offsets.reshape(-1))  # type: ignore[no-untyped-call]
        return windows.view(x.shape)

    def windows(self, p: float, offsets: Tensor, width: int, *, like: Tensor) -> Windows:
        """The masks that start at ``offsets`` (...), each ``width`` wide, in the type of ``like``."""
        return Windows(self._pool(p, like), offsets.reshape(-1), width)

    def kept(self, shape: tuple[int, ...], p: float, site: int) -> Tensor:
        """Which rows, or which channels of rows, are kept where a lot falls on the whole of them.

        Args:
            shape: (M,) or (M, C), C channels; M is the number of rows, or a multiple where each is cut into parts.
            p: rate; it is rounded to a multiple of 2^-24.
            site: number of the place in the model.

        Returns:
            Of that shape, True for what is kept.

        Raises:
            ValueError: M is no multiple of the number of rows, so nobody can say which row is which.
        """
        assert self._rows is not None
        parts, rest = divmod(shape[0], len(self._rows))
        if rest:
            raise ValueError(
                f"drop path, or dropout of channels, sees {shape[0]} things of {len(self._rows)} rows: nobody can say "
                "which are whose; set its rate to 0 in the model's config"
            )
        keys = (self._rows[:, None] + _head_keys(parts, self._rows.device)).flatten()
        if len(shape) == 2:
            keys = mix(keys)[:, None] + _head_keys(shape[1], keys.device)
        return (mix(keys + self._site_key(site)) & (2**24 - 1)) >= round(p * 2**24)

    def begin_again(self, module: nn.Module) -> None:
        """Forget that a module was called in this pass: its output was of no use, and it is called again."""
        for part in module.modules():
            if isinstance(part, RowDropout):
                self._calls.pop(part.site, None)

    def _site_key(self, site: int) -> int:
        call = self._calls.get(site, 0)
        self._calls[site] = call + 1
        return mix_numbers(self._step_key, site, call)

    def _keys(self, x: Tensor) -> Tensor:
        """One key for each vector along the last axis of ``x``."""
        assert self._rows is not None
        assert self._tokens is not None
        assert self._flat is not None
        rows, tokens = self._tokens.shape
        if x.dim() == 3 and x.shape[:2] == (rows, tokens):
            return self._tokens
        if x.dim() == 3 and x.shape[:2] == (1, len(self._flat)):
            return self._flat[None]
        if x.dim() == 3 and x.shape[:2] == (rows, 1):  # the first token of each row alone
            return self._tokens[:, :1]
        if x.dim() == 4 and x.shape[0] == rows and x.shape[2] == tokens:
            return self._tokens[:, None, :] + _head_keys(x.shape[1], x.device)[:, None]
        if x.dim() == 2 and x.shape[0] == rows:
            return self._rows
        if x.dim() == 3 and x.shape[0] == rows and x.shape[1] in self._others:
            return self._others[x.shape[1]]
        if x.dim() == 4 and x.shape[0] == rows and x.shape[2] in self._others:
            return self._others[x.shape[2]][:, None, :] + _head_keys(x.shape[1], x.device)[:, None]
        return mix(torch.arange(x.numel() // x.shape[-1], device=x.device)).view(x.shape[:-1])

    def _pool(self, p: float, x: Tensor) -> Tensor:
        """(2^22 + 2^16,) of 0 and 1 / (1 - p), in the type of ``x``: the same numbers for every type and device."""
        key = (p, x.dtype, x.device)
        if key not in self._pools:
            generator = torch.Generator().manual_seed(0x5F7)
            size = _PLACES + _WIDEST_WINDOW
            numbers = torch.randint(0, 2**16, (size,), generator=generator, dtype=torch.int32)
            dropped = round(p * 2**16)
            scale = 2**16 / (2**16 - dropped) if dropped < 2**16 else 0.0
            self._pools[key] = ((numbers >= dropped) * scale).to(dtype=x.dtype, device=x.device)
        return self._pools[key]


@final
class RowDropout(nn.Module):
    """Stands in for `torch.nn.Dropout` while a run lasts; plain dropout when no rows are laid out."""

    def __init__(self, p: float, site: int, masks: DropoutMasks) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.masks = masks

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if not self.masks.active or x.shape[-1] > _WIDEST_WINDOW:
            return nn.functional.dropout(x, self.p)
        return self.masks.apply(x, self.p, self.site)


@final
class FunctionDropout(TorchFunctionMode):
    """Within this context, plain calls of `torch.nn.functional.dropout` take their masks from ``masks`` too.

    torch hands every call to such a mode, its documented way to see them. Sites are told apart by the order of calls.

    Args:
        masks: of this run; rows are laid out.
    """

    def __init__(self, masks: DropoutMasks) -> None:
        super().__init__()
        self._masks = masks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer calls of dropout, and let all others through."""
        if func is not nn.functional.dropout:
            return func(*args, **(kwargs or {}))
        x, p, training = _dropout_arguments(*args, **(kwargs or {}))
        if not training or p == 0.0 or x.shape[-1] > _WIDEST_WINDOW:
            return func(*args, **(kwargs or {}))
        return self._masks.apply(x, p, _FUNCTION_SITE)


def _dropout_arguments(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """What torch's own function takes."""
    return x, p, training


@contextmanager
def row_dropout(model: nn.Module, masks: DropoutMasks) -> Iterator[None]:
    """While this context lasts, every `torch.nn.Dropout` of the model takes its masks from ``masks``.

    The modules are put back afterwards, so a model that leaves the library is made of its own classes alone.
    """
    replaced = _dropouts(model)
    for site, (parent, name, child) in enumerate(replaced):
        stand_in = RowDropout(child.p, site, masks)
        stand_in.train(child.training)
        setattr(parent, name, stand_in)
    try:
        yield
    finally:
        for parent, name, child in replaced:
            child.train(getattr(parent, name).training)
            setattr(parent, name, child)


def _dropouts(model: nn.Module) -> list[tuple[nn.Module, str, nn.Dropout]]:
    """Every (parent, name, module) of plain dropout, in the order of the model's own listing."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Dropout)
    ]
