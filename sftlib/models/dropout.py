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

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sftlib.models.attended import many_heads
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


@functools.lru_cache(maxsize=4)  # a function of these three alone, of 17 MB and some 50 ms: runs and folds share it
@torch.inference_mode(False)  # whoever asks for it next may save it for a backward pass
def _pool(p: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2^22 + 2^16,) of 0 and 1 / (1 - p): the same numbers for every type and device. Not to be written to."""
    generator = torch.Generator().manual_seed(0x5F7)
    numbers = torch.randint(0, 2**16, (_PLACES + _WIDEST_WINDOW,), generator=generator, dtype=torch.int32)
    dropped = round(p * 2**16)
    scale = 2**16 / (2**16 - dropped) if dropped < 2**16 else 0.0
    return ((numbers >= dropped) * scale).to(dtype=dtype, device=device)


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
        self._step_key = 0
        self._numbers: Tensor | None = None  # (B,) of the rows
        self._flat: Tensor | None = None  # (N,) keys
        self._keys_of: dict[int, Tensor] = {}  # number of positions -> (B, S) keys
        self._calls: dict[int, int] = {}
        #: Whether attention was ever handed these masks; some versions of some models lose keywords on the way.
        self.reached_attention = False

    @contextmanager
    def laid_out(self, step: int, rows: Tensor, flat: tuple[Tensor, Tensor] | None = None) -> Iterator[None]:
        """Within this context masks are drawn for these rows.

        Args:
            step: optimizer step, from 0.
            rows: (B,) row numbers.
            flat: where the model sees positions end to end: (N,) which of the rows each belongs to, and (N,) which
                position of it that is.
        """
        self._step_key = mix_numbers(self._seed, step)
        self._numbers, self._keys_of, self._calls = rows, {}, {}
        self._flat = None if flat is None else mix(rows.index_select(0, flat[0]) * 2**24 + flat[1])
        try:
            yield
        finally:
            self._numbers = self._flat = None
            self._keys_of = {}

    def twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a part of a pass, and of the same part once more: its masks are then the same.

        For `torch.utils.checkpoint`, which asks when the part begins for the first time.
        """
        seen = (self._step_key, self._numbers, self._flat, self._keys_of, dict(self._calls))

        @contextmanager
        def again() -> Iterator[None]:
            now = (self._step_key, self._numbers, self._flat, self._keys_of, self._calls)
            self._step_key, self._numbers, self._flat, self._keys_of, self._calls = (*seen[:4], dict(seen[4]))
            try:
                yield
            finally:
                self._step_key, self._numbers, self._flat, self._keys_of, self._calls = now

        return nullcontext(), again()

    @property
    def active(self) -> bool:
        """Whether rows were laid out; otherwise nobody can say which row an activation belongs to."""
        return self._numbers is not None

    def apply(self, x: Tensor, p: float, site: int) -> Tensor:
        """Dropout at one site of the model.

        Args:
            x: (B, H) per row, (B, S, H) per position, (B, A, S, W) attention weights or channels, (B, ..., H);
                (1, N, H) where positions lie end to end; or the same with (B * P, ...) for the P parts of each row,
                such as the windows of a picture. Of any other shape nobody can say which row an activation belongs to:
                its mask goes by its place in the batch.
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
        windows: Tensor = _Windows.apply(x.reshape(-1, x.shape[-1]), _pool(p, x.dtype, x.device), offsets.reshape(-1))  # type: ignore[no-untyped-call]
        return windows.view(x.shape)

    def windows(self, p: float, offsets: Tensor, width: int, *, like: Tensor) -> Windows:
        """The masks that start at ``offsets`` (...), each ``width`` wide, in the type of ``like``."""
        return Windows(_pool(p, like.dtype, like.device), offsets.reshape(-1), width)

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
        rows = self._positions(0)  # (B,)
        parts, rest = divmod(shape[0], len(rows))
        if rest:
            raise ValueError(
                f"drop path, or dropout of channels, sees {shape[0]} things of {len(rows)} rows: nobody can say "
                "which are whose; set its rate to 0 in the model's config"
            )
        keys = (rows[:, None] + _head_keys(parts, rows.device)).flatten()
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
        """One key for each vector along the last axis of ``x``: a function of its row and its place in the row."""
        assert self._numbers is not None
        rows, leading = len(self._numbers), x.shape[:-1]
        if self._flat is not None and x.dim() == 3 and leading == (1, len(self._flat)):
            return self._flat[None]
        if len(leading) == 1 and leading[0] == rows:
            return self._positions(0)
        if len(leading) < 2 or leading[0] % rows:  # shared by all rows, such as embeddings of distances
            return mix(torch.arange(leading.numel(), device=x.device)).view(leading)
        parts = leading[0] // rows  # of each row one after the other
        keys = self._positions(parts * leading[-1]).view(leading[0], leading[-1])
        between = leading[1:-1]
        if not between:
            return keys
        return (keys[:, None] + _head_keys(between.numel(), x.device)[:, None]).view(leading)

    def _positions(self, count: int) -> Tensor:
        """(B, S) keys of so many positions of each row; (B,) of the rows as wholes for 0."""
        assert self._numbers is not None
        if count not in self._keys_of:
            if count == 0:
                self._keys_of[0] = mix(self._numbers * 2**24 + _NO_POSITION)
            else:
                places = torch.arange(count, device=self._numbers.device)
                self._keys_of[count] = mix(self._numbers[:, None] * 2**24 + places)
        return self._keys_of[count]


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

    So does the dropout inside `scaled_dot_product_attention` and `multi_head_attention_forward`, which are then written
    out. torch hands every call to such
    a mode, its documented way to see them. Sites are told apart by the order of calls.

    Args:
        masks: of this run; rows are laid out.
    """

    def __init__(self, masks: DropoutMasks) -> None:
        super().__init__()
        self._masks = masks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer calls of dropout, and let all others through."""
        if func is nn.functional.scaled_dot_product_attention:
            written_out = self._attended(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if written_out is None else written_out
        if func is nn.functional.multi_head_attention_forward:
            found = many_heads(self._dropped, *args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if found is None else found
        if func is not nn.functional.dropout:
            return func(*args, **(kwargs or {}))
        x, p, training = _dropout_arguments(*args, **(kwargs or {}))
        if not training or p == 0.0 or x.shape[-1] > _WIDEST_WINDOW:
            return func(*args, **(kwargs or {}))
        return self._masks.apply(x, p, _FUNCTION_SITE)

    def _dropped(self, weights: Tensor, p: float) -> Tensor:
        return self._masks.apply(weights, p, _FUNCTION_SITE)

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor | None:
        """Attention with our dropout of its weights; None where it drops none, or may be left to torch."""
        if dropout_p == 0.0 or is_causal or enable_gqa or key.shape[-2] > _WIDEST_WINDOW:
            return None
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        weights = torch.softmax(scores, dim=-1).to(value.dtype)
        return self._dropped(weights, dropout_p) @ value


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
