"""Boxes as tensors, in shares of a picture's width and height.

Edges are (left, upper, right, lower); middles are (x, y, width, height), as DETR and its kin answer them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def edges_of(middles: Tensor) -> Tensor:
    """(..., 4) edges of boxes that are given by their middles.

    Example:
        >>> [round(edge, 3) for edge in edges_of(torch.tensor([0.5, 0.5, 0.2, 0.4])).tolist()]
        [0.4, 0.3, 0.6, 0.7]
    """
    x, y, width, height = middles.unbind(-1)
    return torch.stack([x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height], dim=-1)


def middles_of(edges: Tensor) -> Tensor:
    """(..., 4) middles, widths and heights of boxes that are given by their edges."""
    left, upper, right, lower = edges.unbind(-1)
    return torch.stack([(left + right) / 2, (upper + lower) / 2, right - left, lower - upper], dim=-1)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and its generalised form, of each box with its counterpart; shapes are broadcast.

    The generalised one takes off the share of the smallest box around both that neither covers (Rezatofighi et al.,
    2019), so that boxes that lie apart have a gradient.

    Args:
        first: (..., 4) edges.
        second: (..., 4) edges.
    """
    sides = (first[..., 2:] - first[..., :2]), (second[..., 2:] - second[..., :2])
    areas = [side[..., 0] * side[..., 1] for side in sides]
    shared = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    both = shared[..., 0] * shared[..., 1]
    union = areas[0] + areas[1] - both
    around = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    hull = around[..., 0] * around[..., 1]
    plain = both / union
    return plain, plain - (hull - union) / hull
