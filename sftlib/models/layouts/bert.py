"""Encoder layers of BERT's kind, each as two nodes of the graph: attention and feed-forward, both with their norms.

A layer of transformers is some forty small operations forwards and sixty backwards, each with its bookkeeping, its own
pass over memory. Here queries, keys and values are one product, and gradients are written where they are needed. The
numbers are those of the layer; a test compares scores and gradients, and a trial before the first step compares scores.

Where the head of a model reads the first token of each row alone, nothing else needs to leave the last layer: its
queries and its feed-forward then run for ``B`` vectors instead of ``N``, with the same scores and gradients.

Letters: ``B`` rows, ``N`` tokens of all rows, ``M`` tokens that leave the layer (``N`` or ``B``), ``H`` features,
``A`` heads, ``D`` features of a head, ``G`` rows of a group, ``L`` tokens of its longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.models.dropout import DropoutMasks, RowDropout, Windows
from sftlib.models.layouts.attention import (
    ATTENTION,
    hidden_places,
    softmax_attention,
    softmax_attention_backward,
    spread_gradient,
)
from sftlib.models.layouts.products import into_input, linear, linear_gelu
from sftlib.models.layouts.sequences import Group, Sequences
from sftlib.models.layouts.stand_in import StandIn, cast_all, product_type

_LAYER_NORM = torch.ops.aten.native_layer_norm.default
_LAYER_NORM_BACKWARD = torch.ops.aten.native_layer_norm_backward.default


@final
@dataclass(frozen=True)
class BertParts:
    """What a layer is made of: ``norm(x + dropout(output(attend(x))))``, then ``norm(y + dropout(down(gelu(up(y)))))``.

    Attributes:
        layer: the layer itself.
        attention: holds ``dropout``, the rate on attention weights.
        heads: A
        inward: its layers for queries, keys and values.
        output: its last layer.
        output_dropout: after ``output``, or None.
        output_norm: of the sum.
        up: first layer of the feed-forward part.
        down: second layer of it.
        down_dropout: after ``down``.
        down_norm: of the sum.
    """

    layer: nn.Module
    attention: Any
    heads: int
    inward: tuple[nn.Linear, nn.Linear, nn.Linear]
    output: nn.Linear
    output_dropout: nn.Module | None
    output_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    down_dropout: nn.Module
    down_norm: nn.LayerNorm


def parts_of(layer: nn.Module) -> BertParts | None:
    """The parts of a layer of BERT's kind (BERT, RoBERTa, XLM-R, ELECTRA) or DistilBERT's; None for any other."""
    try:
        found = _like_bert(layer) if hasattr(layer, "intermediate") else _like_distilbert(layer)
    except AttributeError:
        return None
    linear = (*found.inward, found.output, found.up, found.down)
    norms = (found.output_norm, found.down_norm)
    dropouts = (found.attention.dropout, found.output_dropout, found.down_dropout)
    known = (
        all(type(module) is nn.Linear and module.bias is not None for module in linear)
        and all(type(module) is nn.LayerNorm and module.bias is not None for module in norms)
        and all(module is None or isinstance(module, nn.Dropout | RowDropout) for module in dropouts)
    )
    return found if known else None


def _like_bert(layer: Any) -> BertParts:
    attention, output, feed = layer.attention.self, layer.attention.output, layer.output
    if attention.is_decoder or attention.is_causal or not _is_gelu(layer.intermediate.intermediate_act_fn):
        raise AttributeError
    return BertParts(
        layer=layer,
        attention=attention,
        heads=attention.num_attention_heads,
        inward=(attention.query, attention.key, attention.value),
        output=output.dense,
        output_dropout=output.dropout,
        output_norm=output.LayerNorm,
        up=layer.intermediate.dense,
        down=feed.dense,
        down_dropout=feed.dropout,
        down_norm=feed.LayerNorm,
    )


def _like_distilbert(layer: Any) -> BertParts:
    attention, feed = layer.attention, layer.ffn
    if not _is_gelu(feed.activation):
        raise AttributeError
    return BertParts(
        layer=layer,
        attention=attention,
        heads=attention.n_heads,
        inward=(attention.q_lin, attention.k_lin, attention.v_lin),
        output=attention.out_lin,
        output_dropout=None,
        output_norm=layer.sa_layer_norm,
        up=feed.lin1,
        down=feed.lin2,
        down_dropout=feed.dropout,
        down_norm=layer.output_layer_norm,
    )


def _is_gelu(function: Any) -> bool:
    """Whether an activation is the exact GELU, by what it makes of a few numbers."""
    numbers = torch.linspace(-4.0, 4.0, 33)
    return callable(function) and bool(torch.equal(function(numbers), nn.functional.gelu(numbers)))


@final
class FusedLayer(StandIn):
    """Computes a layer of BERT's kind.

    Args:
        parts: of the layer.
        first_only: whether only the first token of each row leaves it.
    """

    def __init__(self, parts: BertParts, *, first_only: bool) -> None:
        super().__init__(parts.layer)
        self._parts = parts  # a dataclass: no module of these becomes a child
        self._first_only = first_only

    def forward(
        self, hidden_states: Tensor, *_: Any, sequences: Sequences, dropout_masks: DropoutMasks, **__: Any
    ) -> Tensor:
        """(1, N, H) -> (1, M, H)."""
        x, parts = hidden_states[0], self._parts
        dtype = product_type(x)
        only = sequences.starts if self._first_only else None
        drops = _Drops(dropout_masks, only, torch.empty(0, dtype=dtype, device=x.device))
        with torch.autocast(x.device.type, enabled=False):
            attention = _Attention(
                weights=cast_all(dtype, parts.inward, (parts.output,)),
                groups=sequences.groups,
                heads=parts.heads,
                only=only,
                dropped=drops.of_attention(parts.attention, parts.heads, sequences.groups),
                after=drops.of(parts.output_dropout, parts.output.out_features),
                eps=parts.output_norm.eps,
            )
            learned = [*(getattr(p, kind) for kind in ("weight", "bias") for p in parts.inward)]
            learned += [parts.output.weight, parts.output.bias, parts.output_norm.weight, parts.output_norm.bias]
            y = _AttentionHalf.apply(x, attention, *learned)  # type: ignore[no-untyped-call]
            feed = _Feed(
                weights=cast_all(dtype, (parts.up,), (parts.down,)),
                learns=torch.is_grad_enabled(),
                after=drops.of(parts.down_dropout, parts.down.out_features),
                eps=parts.down_norm.eps,
            )
            modules = (parts.up, parts.down, parts.down_norm)
            z: Tensor = _FeedHalf.apply(y, feed, *(p for m in modules for p in (m.weight, m.bias)))  # type: ignore[no-untyped-call]
        return z[None]


@final
class _Drops:
    """Dropout masks of the tokens that leave a layer.

    Args:
        masks: of the run.
        only: these tokens alone, or None for all.
        like: for the type and the device.
    """

    def __init__(self, masks: DropoutMasks, only: Tensor | None, like: Tensor) -> None:
        self._masks = masks
        self._only = only
        self._like = like

    def of(self, module: Any, width: int) -> Windows | None:
        """Masks of (M, width) at a module of dropout."""
        if module is None or not module.training or module.p == 0.0 or not self._masks.active:
            return None
        return self._masks.windows(
            module.p, self._masks.offsets_of_tokens(module.site, self._only), width, like=self._like
        )

    def of_attention(self, attention: Any, heads: int, groups: Sequence[Group]) -> list[Windows | None]:
        """Masks of the attention weights of each group."""
        self._masks.reached_attention = True
        rate = attention.dropout.p if attention.training and self._masks.active else 0.0
        if rate == 0.0:
            return [None] * len(groups)
        offsets = self._masks.offsets_of_heads(heads, ATTENTION, self._only)  # (M, A)
        if self._only is None:
            places = [group.spread(offsets[group.start : group.stop], heads) for group in groups]
        else:
            places = [offsets[group.first : group.first + group.rows] for group in groups]
        return [self._masks.windows(rate, p, g.longest, like=self._like) for p, g in zip(places, groups, strict=True)]


@final
@dataclass(frozen=True)
class _Attention:
    """What the attention half needs besides its learned parameters.

    Attributes:
        weights: those in the type of the products: (3 * A * D, H), (3 * A * D,), (H, A * D), (H,).
        groups: rows that attend side by side.
        heads: A
        only: tokens that leave the layer, or None for all.
        dropped: masks of each group's weights.
        after: masks of what is added to the input.
        eps: of the norm.
    """

    weights: tuple[Tensor, ...]
    groups: Sequence[Group]
    heads: int
    only: Tensor | None
    dropped: Sequence[Windows | None]
    after: Windows | None
    eps: float

    def project(self, x: Tensor) -> list[list[Tensor]]:
        """(N, H) -> queries, keys and values of each group, (G * A, M', D) and twice (G * A, L, D)."""
        weight, bias = self.weights[:2]
        if self.only is None:
            flat = linear(x, weight, bias)
            return [list(g.spread(flat[g.start : g.stop], self.heads, 3).flatten(1, 2)) for g in self.groups]
        width = len(bias) // 3
        flat = linear(x, weight[width:], bias[width:])
        firsts = linear(x.index_select(0, self.only), weight[:width], bias[:width])
        firsts = firsts.view(len(firsts), self.heads, 1, -1)
        return [
            [
                firsts[g.first : g.first + g.rows].flatten(0, 1),
                *g.spread(flat[g.start : g.stop], self.heads, 2).flatten(1, 2),
            ]
            for g in self.groups
        ]

    def factor(self, q: Tensor) -> float:
        """Of the scores."""
        return float(q.shape[-1] ** -0.5)

    def attend(self, sides: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """What is attended, (M, A * D), and the weights of each group."""
        found, weights = [], []
        for group, (q, k, v), windows in zip(self.groups, sides, self.dropped, strict=True):
            hidden = hidden_places(group, self.heads, causal=False, window=None, like=v)
            attended, weight = softmax_attention(q, k, v, self.factor(q), hidden, windows)
            weights.append(weight)
            if self.only is None:
                found.append(group.collect(attended.view(1, group.rows, self.heads, group.longest, -1)))
            else:
                found.append(attended.reshape(group.rows, -1))
        return (found[0] if len(found) == 1 else torch.cat(found)), weights

    def back(self, above: Tensor, saved: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The gradients of the projections.

        Args:
            above: (M, A * D) gradient of what was attended.
            saved: queries, keys, values and weights of each group.

        Returns:
            (N, 3 * A * D), or (N, 2 * A * D) and (B, A * D).
        """
        flat, firsts = [], []
        for group, (q, k, v, weights), windows in zip(self.groups, saved, self.dropped, strict=True):
            if self.only is None:
                into = q.new_empty(3, *q.shape)
                there, parts, sides = spread_gradient(group, above[group.start : group.stop], self.heads), into, into
            else:
                parts, to_query = k.new_empty(2, *k.shape), torch.empty_like(q)
                sides = [to_query, *parts]  # type: ignore[assignment]
                there = above[group.first : group.first + group.rows].reshape(q.shape)
                firsts.append(to_query.view(group.rows, -1))
            softmax_attention_backward(there, q, k, v, weights, self.factor(q), windows, list(sides))
            flat.append(group.collect(parts.view(len(parts), group.rows, self.heads, group.longest, -1)))
        return [x[0] if len(x) == 1 else torch.cat(x) for x in (flat, firsts) if x]

    def entered(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradient of what entered the projections: (N, H), and (B, H) where only first tokens leave the layer."""
        weight = self.weights[0]
        if self.only is None:
            return [into_input(gradients[0], weight)]
        flat, firsts = gradients
        width = firsts.shape[1]
        return [into_input(flat, weight[width:]), into_input(firsts, weight[:width])]

    def learned(self, x: Tensor, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The gradients of weight and bias of the projections: (3 * A * D, H), (3 * A * D,)."""
        if self.only is None:
            return gradients[0].t() @ x, gradients[0].sum(0)
        flat, firsts = gradients
        to_weight = torch.cat([firsts.t() @ x.index_select(0, self.only), flat.t() @ x])
        return to_weight, torch.cat([firsts.sum(0), flat.sum(0)])


class _AttentionHalf(torch.autograd.Function):
    """``norm(x + dropout(output(attend(x))))``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: _Attention, *learned: Tensor) -> Tensor:
        """(N, H) -> (M, H); the learned parameters are there for their gradients, but for the norm's."""
        scale, shift = learned[8:]
        low = x.to(parts.weights[0].dtype)
        sides = parts.project(low)
        attended, weights = parts.attend(sides)
        added = linear(attended, *parts.weights[2:])
        if parts.after is not None:
            added.mul_(parts.after.like(added))
        total = (x if parts.only is None else x.index_select(0, parts.only)) + added
        y, mean, deviation = _LAYER_NORM(total, [total.shape[1]], scale, shift, parts.eps)
        saved = [tensor for side, weight in zip(sides, weights, strict=True) for tensor in (*side, weight)]
        ctx.save_for_backward(low, attended, total, mean, deviation, scale, shift, *saved)
        ctx.parts = parts
        found: Tensor = y
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        parts: _Attention = ctx.parts
        low, attended, total, mean, deviation, scale, shift, *saved = ctx.saved_tensors
        output = parts.weights[2]
        learns = ctx.needs_input_grad[2]  # all of a layer is trained, or nothing of it
        to_total, to_scale, to_shift = _norm_backward(gradients[0], total, mean, deviation, scale, shift, learns)
        added = _masked(to_total, low.dtype, parts.after)
        to_output = _to_linear(added, attended, scale.dtype) if learns else (None, None)
        sides = parts.back(into_input(added, output), [saved[i : i + 4] for i in range(0, len(saved), 4)])
        to_inward = [x.to(scale.dtype).chunk(3) for x in parts.learned(low, sides)] if learns else [(None,) * 3] * 2
        to_input = _added(to_total, parts.entered(sides), parts.only) if ctx.needs_input_grad[0] else None
        return (to_input, None, *to_inward[0], *to_inward[1], *to_output, to_scale, to_shift)


@final
@dataclass(frozen=True)
class _Feed:
    """What the feed-forward half needs besides its learned parameters; see `_Attention`.

    Attributes:
        weights: (F, H), (F,), (H, F), (H,).
        learns: whether gradients will be asked for.
        after: masks of what is added to the input.
        eps: of the norm.
    """

    weights: tuple[Tensor, ...]
    learns: bool
    after: Windows | None
    eps: float

    def bent(self, low: Tensor) -> tuple[Tensor, Tensor | None]:
        """(M, H) -> what `down` takes, (M, F), and what it was bent from, where a gradient will need it."""
        up, bias = self.weights[:2]
        if not self.learns:
            return linear_gelu(low, up, bias), None
        raised = linear(low, up, bias)
        return nn.functional.gelu(raised), raised


class _FeedHalf(torch.autograd.Function):
    """``norm(y + dropout(down(gelu(up(y)))))``."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, parts: _Feed, *learned: Tensor) -> Tensor:
        """(M, H) -> (M, H); the learned parameters are there for their gradients, but for the norm's."""
        scale, shift = learned[4:]
        low = y.to(parts.weights[0].dtype)
        bent, raised = parts.bent(low)
        added = linear(bent, *parts.weights[2:])
        if parts.after is not None:
            added.mul_(parts.after.like(added))
        total = y + added
        z, mean, deviation = _LAYER_NORM(total, [total.shape[1]], scale, shift, parts.eps)
        ctx.save_for_backward(low, raised, bent, total, mean, deviation, scale, shift)
        ctx.parts = parts
        found: Tensor = z
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        up, _, down, _ = ctx.parts.weights
        low, raised, bent, total, mean, deviation, scale, shift = ctx.saved_tensors
        learns = ctx.needs_input_grad[2]  # all of a layer is trained, or nothing of it
        to_total, to_scale, to_shift = _norm_backward(gradients[0], total, mean, deviation, scale, shift, learns)
        added = _masked(to_total, low.dtype, ctx.parts.after)
        to_down = _to_linear(added, bent, scale.dtype) if learns else (None, None)
        to_raised = torch.ops.aten.gelu_backward(into_input(added, down), raised)
        to_up = _to_linear(to_raised, low, scale.dtype) if learns else (None, None)
        return (to_total.add_(into_input(to_raised, up)), None, *to_up, *to_down, to_scale, to_shift)


def _to_linear(above: Tensor, x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """The gradients of a linear layer's weight and bias, from that of its output."""
    return (above.t() @ x).to(kind), above.sum(0).to(kind)


def _norm_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, deviation: Tensor, scale: Tensor, shift: Tensor, learns: bool
) -> Any:
    return _LAYER_NORM_BACKWARD(
        gradient.contiguous(), x, [x.shape[1]], mean, deviation, scale, shift, [True, learns, learns]
    )


def _masked(gradient: Tensor, dtype: torch.dtype, windows: Windows | None) -> Tensor:
    """The gradient of what was dropped, in the type of the products; ``gradient`` is left alone."""
    low = gradient.to(dtype)
    if windows is None:
        return low
    return low * windows.like(low) if low is gradient else low.mul_(windows.like(low))


def _added(to_total: Tensor, entered: Sequence[Tensor], only: Tensor | None) -> Tensor:
    """(N, H) gradient of a layer's input, from its two ways: past the attention and through it."""
    if only is None:
        return to_total.add_(entered[0])
    whole = entered[0].to(to_total.dtype, copy=entered[0].dtype == to_total.dtype)
    return whole.index_add_(0, only, to_total.add_(entered[1]))
