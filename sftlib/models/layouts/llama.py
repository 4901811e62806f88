"""Decoder layers of Llama's kind, each as two nodes of the graph: attention and feed-forward, both with their norms.

As `sftlib.models.layouts.bert` does for BERT's: queries, keys and values are one product, gate and up another, rows of
the same group attend with the heads that share keys side by side, and gradients are written where they are needed. The
numbers are those of the layer; a test compares scores and gradients, and a trial before the first step compares scores.

Letters: ``N`` tokens of all rows, ``H`` features, ``A`` heads, ``K`` heads of keys and values, ``D`` features of a
head, ``F`` features of the feed-forward part, ``G`` rows of a group, ``L`` tokens of its longest row, ``n`` tokens of
a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.models.dropout import DropoutMasks
from sftlib.models.layouts.attention import (
    hidden_places,
    softmax_attention,
    softmax_attention_backward,
    spread_gradient,
    wide,
)
from sftlib.models.layouts.products import into_input, linear
from sftlib.models.layouts.sequences import Group, Sequences
from sftlib.models.layouts.stand_in import StandIn, cast, product_type
from sftlib.models.sizes import dropout_rates

_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_FEED = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@final
@dataclass(frozen=True)
class LlamaParts:
    """What a layer is made of: ``x + output(attend(norm(x)))``, then ``y + down(silu(gate(norm(y))) * up(norm(y)))``.

    Attributes:
        layer: the layer itself.
        heads: A
        shared: K
        factor: of the scores.
        inward: its layers for queries, keys and values, all with a bias or none.
        output: its last layer of attention.
        norm: before attention.
        gate: of the feed-forward part, like the three that follow.
        up: multiplied with what the gate lets through.
        down: back to H features.
        feed_norm: before it.
    """

    layer: nn.Module
    heads: int
    shared: int
    factor: float
    inward: tuple[nn.Linear, nn.Linear, nn.Linear]
    output: nn.Linear
    norm: Any
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear
    feed_norm: Any


def parts_of(layer: nn.Module) -> LlamaParts | None:
    """The parts of a layer of Llama's kind (Llama, SmolLM2, Mistral, Qwen 2); None for any other.

    What a trial on a few rows could not tell is looked at here: dropout, and attention that sees only so far back.
    """
    if {name for name, _ in layer.named_children()} != _LAYER:
        return None
    attention: Any = layer.self_attn
    feed: Any = layer.mlp
    if not _plain(attention, feed):
        return None
    inward = (attention.q_proj, attention.k_proj, attention.v_proj)
    found = LlamaParts(
        layer=layer,
        heads=inward[0].out_features // attention.head_dim,
        shared=inward[1].out_features // attention.head_dim,
        factor=float(attention.scaling),
        inward=inward,
        output=attention.o_proj,
        norm=layer.input_layernorm,
        gate=feed.gate_proj,
        up=feed.up_proj,
        down=feed.down_proj,
        feed_norm=layer.post_attention_layernorm,
    )
    biased = {module.bias is not None for module in inward}
    unbiased = all(module.bias is None for module in (found.output, found.gate, found.up, found.down))
    norms = all(_is_rms_norm(norm) for norm in (found.norm, found.feed_norm))
    return found if len(biased) == 1 and unbiased and norms else None


def _plain(attention: Any, feed: Any) -> bool:
    """Whether attention and feed-forward part hold what Llama's do, drop nothing out and see everything before."""
    if {name for name, _ in attention.named_children()} != _ATTENTION:
        return False
    if {name for name, _ in feed.named_children()} != _FEED or not _is_silu(feed.act_fn):
        return False
    linear = (*attention.children(), feed.gate_proj, feed.up_proj, feed.down_proj)
    config = getattr(attention, "config", None)
    if not all(type(module) is nn.Linear for module in linear) or config is None:
        return False
    windows = (getattr(attention, "sliding_window", None), getattr(config, "sliding_window", None))
    return (
        attention.is_causal
        and windows == (None, None)
        and not any(dropout_rates(config).values())
        and hasattr(attention, "head_dim")
    )


def _is_silu(function: Any) -> bool:
    numbers = torch.linspace(-4.0, 4.0, 33)
    return callable(function) and bool(torch.equal(function(numbers), nn.functional.silu(numbers)))


def _is_rms_norm(norm: Any) -> bool:
    """Whether a norm divides by the root of the mean square and scales, by what it makes of a few numbers."""
    if not hasattr(norm, "variance_epsilon") or not isinstance(getattr(norm, "weight", None), Tensor):
        return False
    weight = norm.weight.detach()
    numbers = torch.linspace(-2.0, 3.0, len(weight), dtype=weight.dtype, device=weight.device)[None]
    with torch.no_grad():
        expected, _ = _normed(numbers, weight, norm.variance_epsilon, weight.dtype)
        return bool(torch.allclose(norm(numbers), expected, rtol=1e-5, atol=1e-6))


@final
class FusedDecoderLayer(StandIn):
    """Computes a layer of Llama's kind.

    Args:
        parts: of the layer.
    """

    def __init__(self, parts: LlamaParts) -> None:
        super().__init__(parts.layer)
        self._parts = parts

    def forward(
        self,
        hidden_states: Tensor,
        *_: Any,
        sequences: Sequences,
        dropout_masks: DropoutMasks,
        position_embeddings: tuple[Tensor, Tensor],
        **__: Any,
    ) -> Tensor:
        """(1, N, H) -> (1, N, H)."""
        dropout_masks.reached_attention = True
        x, parts = hidden_states[0], self._parts
        dtype = product_type(x)
        biases = [module.bias for module in parts.inward if module.bias is not None]
        with torch.autocast(x.device.type, enabled=False):
            attention = _Attention(
                weights=(cast(dtype, *(module.weight for module in parts.inward)), cast(dtype, parts.output.weight)),
                bias=cast(dtype, *biases) if biases else None,
                groups=sequences.groups,
                heads=parts.heads,
                shared=parts.shared,
                factor=parts.factor,
                turn=_halves(*(side[0].detach().to(wide(dtype)) for side in position_embeddings)),
                eps=parts.norm.variance_epsilon,
            )
            learned = [*(module.weight for module in parts.inward), *biases, parts.output.weight]
            y = _AttentionHalf.apply(x, attention, parts.norm.weight, *learned)  # type: ignore[no-untyped-call]
            weights = (cast(dtype, parts.gate.weight, parts.up.weight), cast(dtype, parts.down.weight))
            feed = _Feed(weights, parts.feed_norm.variance_epsilon)
            learned = [parts.gate.weight, parts.up.weight, parts.down.weight]
            z: Tensor = _FeedHalf.apply(y, feed, parts.feed_norm.weight, *learned)  # type: ignore[no-untyped-call]
        return z[None]


Turn = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def _halves(cos: Tensor, sin: Tensor) -> Turn:
    """(N, 1, D / 2) for the two halves of a head's features, of (N, D)."""
    first, second = cos[:, None].chunk(2, -1)
    up, down = sin[:, None].chunk(2, -1)
    return (first, second), (up, down)


def _turned(x: Tensor, turn: Turn, into: Tensor) -> None:
    """Rotate pairs of features by the position of their token (RoPE; Su et al., 2021).

    Args:
        x: (N, A, D); feature ``i`` makes a pair with ``i + D / 2``.
        turn: cosines and sines of both halves.
        into: like ``x``, what to fill.
    """
    (cos, other_cos), (sin, other_sin) = turn
    first, second = x.chunk(2, -1)
    half = first.shape[-1]
    into[..., :half] = first * cos - second * sin
    into[..., half:] = second * other_cos + first * other_sin


def _turned_back(x: Tensor, turn: Turn, into: Tensor) -> None:
    """The gradient of `_turned`, which is its transpose."""
    cos, (sin, other_sin) = turn
    _turned(x, (cos, (-other_sin, -sin)), into)


@final
@dataclass(frozen=True)
class _Attention:
    """What the attention half needs besides its learned parameters.

    Attributes:
        weights: those in the type of the products: ((A + 2 * K) * D, H) and (H, A * D).
        bias: ((A + 2 * K) * D,) of the first, or None.
        groups: rows that attend side by side.
        heads: A
        shared: K
        factor: of the scores.
        turn: by which queries and keys are rotated.
        eps: of the norm.
    """

    weights: tuple[Tensor, Tensor]
    bias: Tensor | None
    groups: Sequence[Group]
    heads: int
    shared: int
    factor: float
    turn: Turn
    eps: float

    def project(self, low: Tensor) -> list[list[Tensor]]:
        """(N, H) -> queries, keys and values of each group: (G * K, A / K * L, D) and twice (G * K, L, D)."""
        weight = self.weights[0]
        flat = linear(low, weight, self.bias)
        parts = flat.view(len(low), self.heads + 2 * self.shared, -1)  # (N, A + 2 * K, D)
        queries, keys, values = torch.split(parts, self._heads, 1)
        turned_queries, turned_keys = torch.empty_like(queries), torch.empty_like(keys)
        _turned(queries, self.turn, turned_queries)
        _turned(keys, self.turn, turned_keys)
        sides = [x.reshape(len(low), -1) for x in (turned_queries, turned_keys, values)]
        return [[self._spread(group, *pair) for pair in zip(sides, self._heads, strict=True)] for group in self.groups]

    @property
    def _heads(self) -> list[int]:
        return [self.heads, self.shared, self.shared]

    def _spread(self, group: Group, x: Tensor, heads: int) -> Tensor:
        """Queries that share keys lie one below the other."""
        side = group.spread(x[group.start : group.stop], heads)[0]  # (G, heads, L, D)
        return side.view(group.rows * self.shared, -1, side.shape[-1])

    def hidden(self, group: Group, like: Tensor) -> Tensor:
        """(G * K or 1, A / K * L, L) added to the scores."""
        times = self.heads // self.shared

        def tiled() -> Tensor:
            plain = hidden_places(group, self.shared, causal=True, window=None, like=like)
            return plain.repeat(1, times, 1)

        return group.once(("tiled", times, self.shared, like.dtype), tiled)

    def attend(self, sides: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """What is attended, (N, A * D), and the weights of each group."""
        found, weights = [], []
        for group, (q, k, v) in zip(self.groups, sides, strict=True):
            attended, weight = softmax_attention(q, k, v, self.factor, self.hidden(group, v), None)
            weights.append(weight)
            found.append(group.collect(attended.view(1, group.rows, self.heads, group.longest, -1)))
        return (found[0] if len(found) == 1 else torch.cat(found)), weights

    def back(self, above: Tensor, saved: Sequence[Sequence[Tensor]]) -> Tensor:
        """The gradient of the projections, (N, (A + 2 * K) * D).

        Args:
            above: (N, A * D) gradient of what was attended.
            saved: queries, keys, values and weights of each group.
        """
        sides: list[list[Tensor]] = [[], [], []]
        for group, (q, k, v, weights) in zip(self.groups, saved, strict=True):
            there = spread_gradient(group, above[group.start : group.stop], self.heads).view(q.shape)
            into = [torch.empty_like(x) for x in (q, k, v)]
            softmax_attention_backward(there, q, k, v, weights, self.factor, None, into)
            for side, gradient, heads in zip(sides, into, self._heads, strict=True):
                side.append(group.collect(gradient.view(1, group.rows, heads, group.longest, -1)))
        queries, keys, values = (
            (x[0] if len(x) == 1 else torch.cat(x)).view(len(above), heads, -1)
            for x, heads in zip(sides, self._heads, strict=True)
        )
        flat = above.new_empty(len(above), sum(self._heads), queries.shape[-1])
        to_queries, to_keys, to_values = torch.split(flat, self._heads, 1)
        _turned_back(queries, self.turn, to_queries)
        _turned_back(keys, self.turn, to_keys)
        to_values.copy_(values)
        return flat.flatten(1)


class _AttentionHalf(torch.autograd.Function):
    """``x + output(attend(norm(x)))``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: _Attention, scale: Tensor, *learned: Tensor) -> Tensor:
        """(N, H) -> (N, H); the learned parameters are there for their gradients."""
        low, root = _normed(x, scale, parts.eps, parts.weights[0].dtype)
        sides = parts.project(low)
        attended, weights = parts.attend(sides)
        saved = [tensor for side, weight in zip(sides, weights, strict=True) for tensor in (*side, weight)]
        ctx.save_for_backward(x, root, low, scale, attended, *saved)
        ctx.parts, ctx.sizes = parts, [len(weight) for weight in learned[:3]]
        return x + linear(attended, parts.weights[1], None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        parts: _Attention = ctx.parts
        x, root, low, scale, attended, *saved = ctx.saved_tensors
        inward, output = parts.weights
        added = gradients[0].to(low.dtype)
        flat = parts.back(into_input(added, output), [saved[i : i + 4] for i in range(0, len(saved), 4)])
        to_x, to_scale = _norm_backward(into_input(flat, inward), x, root, scale, gradients[0])
        if not ctx.needs_input_grad[2]:  # all of a layer is trained, or nothing of it
            return (to_x, *[None] * (len(ctx.needs_input_grad) - 1))
        kind = scale.dtype
        to_output = added.t() @ attended
        to_inward = torch.split((flat.t() @ low).to(kind), ctx.sizes)
        to_bias = () if parts.bias is None else torch.split(flat.sum(0).to(kind), ctx.sizes)
        return (to_x, None, to_scale, *to_inward, *to_bias, to_output.to(kind))


@final
@dataclass(frozen=True)
class _Feed:
    """What the feed-forward half needs besides its learned parameters.

    Attributes:
        weights: those in the type of the products: (2 * F, H) and (H, F).
        eps: of the norm.
    """

    weights: tuple[Tensor, Tensor]
    eps: float


class _FeedHalf(torch.autograd.Function):
    """``y + down(silu(gate(norm(y))) * up(norm(y)))``."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, parts: _Feed, scale: Tensor, *learned: Tensor) -> Tensor:
        """(N, H) -> (N, H); the learned parameters are there for their gradients."""
        inward, down = parts.weights
        low, root = _normed(y, scale, parts.eps, inward.dtype)
        both = linear(low, inward, None)  # (N, 2 * F)
        gate, up = both.chunk(2, 1)
        bent = nn.functional.silu(gate).mul_(up)
        ctx.save_for_backward(y, root, low, scale, both)
        ctx.parts = parts
        return y + linear(bent, down, None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        inward, down = ctx.parts.weights
        y, root, low, scale, both = ctx.saved_tensors
        gate, up = both.chunk(2, 1)
        open_ = nn.functional.silu(gate)
        added = gradients[0].to(low.dtype)
        learns = ctx.needs_input_grad[2]  # all of a layer is trained, or nothing of it
        to_down = added.t() @ (open_ * up) if learns else None
        to_bent = into_input(added, down)
        to_both = torch.empty_like(both)
        to_gate, to_up = to_both.chunk(2, 1)
        torch.mul(to_bent, open_, out=to_up)
        to_gate.copy_(torch.ops.aten.silu_backward(to_bent.mul_(up), gate))
        to_y, to_scale = _norm_backward(into_input(to_both, inward), y, root, scale, gradients[0])
        if to_down is None:
            return (to_y, *[None] * 5)
        kind = scale.dtype
        return (to_y, None, to_scale, *(to_both.t() @ low).to(kind).chunk(2), to_down.to(kind))


def _normed(x: Tensor, scale: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Divided by the root of the mean square and scaled (Zhang and Sennrich, 2019).

    Returns:
        (N, H) in the type of the products, and (N, 1), what it was multiplied by.
    """
    square = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_()
    root = square.div_(x.shape[1]).add_(eps).rsqrt_()
    return (x * root).mul_(scale).to(dtype), root


def _norm_backward(above: Tensor, x: Tensor, root: Tensor, scale: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a norm's input, with that of what goes past it, and of its scale.

    Args:
        above: (N, H) gradient of what was normed.
        x: (N, H) what entered.
        root: (N, 1) what it was multiplied by.
        scale: (H,)
        residual: (N, H) gradient of what goes past; left alone.
    """
    normal = x * root
    product = above * normal
    mean = torch.mv(product, scale).div_(x.shape[1])
    to_x = (above * scale).addcmul_(normal, mean[:, None], value=-1.0).mul_(root)
    return to_x.add_(residual), product.sum(0)
