"""Cross-entropy over a large vocabulary whose logits are never all there at once.

The loss of a language model needs scores of every token of the vocabulary at every supervised position: more memory
than all the rest of the model. Here they are made for a few positions at a time, and the gradient of hidden states and
of the output layer is taken at once, in the same pass, so that nothing is made twice or kept. What is left for the
backward pass is a multiplication.

Letters: ``S`` supervised positions, ``C`` positions of a chunk, ``H`` hidden width, ``V`` tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

_SCORES = 2**24  # scores of a chunk: fewer make many small products, more need more memory
_SCORES_GPU = 2**26


@final
@dataclass(frozen=True)
class OutputLayer:
    """How a model makes scores of hidden states: a linear layer, and what some families do to its result.

    Attributes:
        linear: the layer; its weights may be those of the embeddings.
        factor: of the scores (Cohere, Granite).
        cap: the scores are bent to lie between -cap and cap (Gemma 2); None where they are not.
    """

    linear: nn.Linear
    factor: float = 1.0
    cap: float | None = None

    def scores(self, states: Tensor) -> Tensor:
        """(..., V) of (..., H)."""
        found: Tensor = self.linear(states)
        return self.finished(found.to(torch.promote_types(found.dtype, torch.float32)))

    def finished(self, scores: Tensor) -> Tensor:
        """What becomes of the linear layer's result."""
        scores = scores if self.factor == 1.0 else scores * self.factor
        return scores if self.cap is None else torch.tanh(scores / self.cap) * self.cap

    def loss(
        self,
        states: Tensor,
        targets: Tensor,
        *,
        products: torch.dtype | None = None,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The summed cross-entropy, and how many of the targets have the highest score.

        Args:
            states: (S, H) hidden states.
            targets: (S,) token numbers.
            products: number format of the products; that of the states where it is not given.
            smoothing: share of the target spread over all tokens (Szegedy et al., 2016).
            weights: (S,) how much each position counts; 1 each when None.

        Returns:
            Two scalars, the first with its graph.
        """
        found: tuple[Tensor, Tensor] = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
            states,
            self.linear.weight,
            self.linear.bias,
            targets,
            weights,
            self.factor,
            self.cap,
            smoothing,
            products or states.dtype,
        )
        return found

    @torch.no_grad()
    def judged(self, states: Tensor, targets: Tensor, *, products: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """(S,) cross-entropy of each position, and whether its target has the highest score; see `loss`."""
        dtype = products or states.dtype
        weight, bias = self.linear.weight.to(dtype), self.linear.bias
        losses = states.new_empty(len(states), dtype=torch.promote_types(dtype, torch.float32))
        right = torch.empty(len(states), dtype=torch.bool, device=states.device)
        for part in _parts(states, weight):
            scores = torch.mm(states[part].to(dtype), weight.t()).to(losses.dtype)
            if bias is not None:
                scores += bias
            _bend(scores, self.factor, self.cap)
            losses[part] = nn.functional.cross_entropy(scores, targets[part], reduction="none")
            right[part] = scores.argmax(dim=1) == targets[part]
        return losses, right


class _ChunkedLoss(torch.autograd.Function):
    """Forward and backward in one pass over chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor | None,
        factor: float,
        cap: float | None,
        smoothing: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """States (S, H), weight (V, H), bias (V,) or None, targets and weights (S,); products are in ``dtype``."""
        wanted = ctx.needs_input_grad[:3]
        total = states.new_zeros((), dtype=torch.promote_types(dtype, torch.float32))
        correct = torch.zeros((), dtype=torch.int64, device=states.device)
        to_states = torch.empty_like(states) if wanted[0] else None
        to_weight = torch.zeros_like(weight) if wanted[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and wanted[2] else None
        with torch.autocast(states.device.type, enabled=False):
            short = weight.to(dtype)
            room = _Room(states, weight, dtype, total.dtype)
            for place in _parts(states, weight):
                part, target = states[place].to(dtype), targets[place]
                scores = room.scores(part, short)  # (C, V)
                if bias is not None:
                    scores += bias
                bent = _bend(scores, factor, cap)
                losses, right, slope = _pieces(scores, target, smoothing, any(wanted))
                if weights is not None:
                    losses = losses * weights[place]
                total += losses.sum()
                correct += right
                if slope is None:
                    continue
                if weights is not None:
                    slope.mul_(weights[place, None])
                to_scores = _unbend(slope, bent, factor, cap)
                if to_bias is not None:
                    to_bias += to_scores.sum(0)
                to_scores = room.narrowed(to_scores)
                if to_states is not None:
                    to_states[place] = torch.mm(to_scores, short)
                if to_weight is not None:
                    room.add_product(to_weight, to_scores, part)
        ctx.save_for_backward(to_states, to_weight, to_bias)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that were taken, times the one from above."""
        factor = gradients[0]
        plain = float(factor) == 1.0
        found = [x if x is None or plain else x * factor.to(x.dtype) for x in ctx.saved_tensors]
        return (*found, None, None, None, None, None, None)


def _parts(states: Tensor, weight: Tensor) -> Iterator[slice]:
    """Chunks of positions."""
    size = max(1, (_SCORES if states.device.type == "cpu" else _SCORES_GPU) // len(weight))
    for start in range(0, len(states), size):
        yield slice(start, start + size)


def _pieces(scores: Tensor, target: Tensor, smoothing: float, graded: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Losses (C,), number of right answers, and gradients of a chunk's scores (C, V), which are overwritten."""
    highest, best = scores.max(dim=1)
    right = (best == target).sum()
    at_target = scores.gather(1, target[:, None])[:, 0]
    mean = scores.mean(dim=1) if smoothing else at_target
    exponentials = scores.sub_(highest[:, None]).exp_()
    sums = exponentials.sum(dim=1)
    logsumexp = sums.log() + highest
    losses = logsumexp - (1.0 - smoothing) * at_target - smoothing * mean
    if not graded:
        return losses, right, None
    slope = exponentials.div_(sums[:, None])
    if smoothing:
        slope.sub_(smoothing / scores.shape[1])
    slope.scatter_add_(
        1, target[:, None], torch.full_like(target, -1.0, dtype=slope.dtype)[:, None] * (1.0 - smoothing)
    )
    return losses, right, slope


def _bend(scores: Tensor, factor: float, cap: float | None) -> Tensor | None:
    """Do in place what `OutputLayer.finished` does; returns tanh where there is a cap."""
    if factor != 1.0:
        scores.mul_(factor)
    if cap is None:
        return None
    bent = torch.tanh(scores / cap)
    torch.mul(bent, cap, out=scores)
    return bent


def _unbend(slope: Tensor, bent: Tensor | None, factor: float, cap: float | None) -> Tensor:
    """The gradient before `_bend`, in place."""
    if bent is not None:
        slope.mul_(1.0 - bent * bent)
    return slope if factor == 1.0 else slope.mul_(factor)


@final
class _Room:
    """Memory that all chunks write into; taking it anew for each would cost a tenth of the time of a loss.

    Args:
        states: (S, H)
        weight: (V, H)
        narrow: type of the products.
        broad: type of the scores.
    """

    def __init__(self, states: Tensor, weight: Tensor, narrow: torch.dtype, broad: torch.dtype) -> None:
        first = next(_parts(states, weight), slice(0, 0))
        shape = (len(states[first]), len(weight))
        self._narrow = torch.empty(shape, dtype=narrow, device=states.device)
        self._broad = self._narrow if narrow == broad else torch.empty(shape, dtype=broad, device=states.device)
        self._product: Tensor | None = None

    def scores(self, part: Tensor, weight: Tensor) -> Tensor:
        """(C, V) of (C, H) states and (V, H) weights."""
        found = torch.mm(part, weight.t(), out=self._narrow[: len(part)])
        return found if self._broad is self._narrow else self._broad[: len(part)].copy_(found)

    def narrowed(self, scores: Tensor) -> Tensor:
        """What `scores` gave, in the type of the products again."""
        return scores if self._broad is self._narrow else self._narrow[: len(scores)].copy_(scores)

    def add_product(self, total: Tensor, left: Tensor, right: Tensor) -> None:
        """Add left^T right to a sum, which may be of a wider type."""
        if total.dtype == left.dtype:
            total.addmm_(left.t(), right)
            return
        if self._product is None:
            self._product = torch.empty(total.shape, dtype=left.dtype, device=total.device)
        total += torch.mm(left.t(), right, out=self._product)
