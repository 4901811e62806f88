"""The losses, and the directions of identities that some of them learn."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.tasks.base import LossSum

_LENGTH = 0.1  # of a centre at the start: only its direction counts, and a short one turns faster


@final
class Centres(nn.Module):
    """A direction for each identity.

    Args:
        identities: K
        width: D
    """

    def __init__(self, identities: int, width: int) -> None:
        super().__init__()
        drawn = torch.randn(identities, width)
        self.weight = nn.Parameter(functional.normalize(drawn, dim=1) * _LENGTH)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, K) cosines of embeddings (B, D) of length 1, never in half precision, as they are scaled."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return functional.linear(embeddings, functional.normalize(self.weight.to(embeddings.dtype), dim=1))


def arc_margin(cosines: Tensor, target: Tensor, margin: float) -> Tensor:
    """Cosines (B, K), of which that of each row's own identity is that of an angle larger by a margin.

    Beyond a half turn, where a larger angle would have a larger cosine again, it falls on along its tangent (Deng et
    al., 2019, "ArcFace").

    Args:
        cosines: (B, K)
        target: (B,) number of each row's identity.
        margin: in radians.
    """
    own = cosines.gather(1, target[:, None])  # (B, 1)
    sines = (1 - own.square()).clamp(min=1e-12).sqrt()
    turned = own * math.cos(margin) - sines * math.sin(margin)
    turned = torch.where(own > -math.cos(margin), turned, own - margin * math.sin(margin))
    return cosines.scatter(1, target[:, None], turned)


def cosine_margin(cosines: Tensor, target: Tensor, margin: float) -> Tensor:
    """Cosines (B, K), of which that of each row's own identity is smaller by a margin (Wang et al., 2018, "CosFace").

    Example:
        >>> cosine_margin(torch.tensor([[0.5, 0.5]]), torch.tensor([1]), 0.25).tolist()
        [[0.5, 0.25]]
    """
    own = cosines.gather(1, target[:, None])
    return cosines.scatter(1, target[:, None], own - margin)


def triplet(embeddings: Tensor, target: Tensor, *, margin: float) -> LossSum:
    """Of every row, one of its identity and one of another: by how much the last is not further off than the margin.

    The count is the number of triplets that are not right yet, so that those that are do not thin out the loss.

    Args:
        embeddings: (B, D) of length 1.
        target: (B,) number of each row's identity.
        margin: between cosines.
    """
    cosines = embeddings @ embeddings.T
    same = target[:, None] == target
    others = same & ~torch.eye(len(target), dtype=torch.bool, device=same.device)
    total, count = cosines.new_zeros(()), cosines.new_zeros(())
    for row in range(len(target)):  # (positives, negatives) of one row at a time: all of them at once are B ** 3
        wrong = functional.relu(margin - cosines[row, others[row], None] + cosines[row, ~same[row]])
        total = total + wrong.sum()
        count = count + (wrong.detach() > 0).sum()
    return LossSum(total, count)


def contrastive(embeddings: Tensor, target: Tensor, *, scale: float) -> LossSum:
    """Every row is to find the others of its identity among all others (Khosla et al., 2020).

    The count is the number of rows that have another of their identity.

    Args:
        embeddings: (B, D) of length 1.
        target: (B,) number of each row's identity.
        scale: of the cosines; one over the temperature.
    """
    if len(target) < 2:
        return LossSum(embeddings.sum() * 0, embeddings.new_zeros(()))
    itself = torch.eye(len(target), dtype=torch.bool, device=target.device)
    others = (target[:, None] == target) & ~itself
    scores = (embeddings @ embeddings.T * scale).masked_fill(itself, -math.inf)
    found = torch.log_softmax(scores, dim=1).masked_fill(~others, 0.0).sum(dim=1)  # (B,)
    count = others.sum(dim=1)
    return LossSum(-(found / count.clamp(min=1)).sum(), (count > 0).sum().to(scores.dtype))


def of_verdicts(first: Tensor, second: Tensor, same: Tensor, margin: float) -> LossSum:
    """Of a pair that is the same 1 - cosine, of another one how far its cosine lies above the margin, summed."""
    cosines = (first * second).sum(dim=1)
    wrong = torch.where(same > 0.5, 1 - cosines, functional.relu(cosines - margin))
    return LossSum(wrong.sum(), cosines.new_tensor(len(cosines)))
