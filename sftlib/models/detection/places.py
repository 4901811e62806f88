"""Losses of detectors that answer for every place: a heat map of middles, and the distances to the four edges.

After CenterNet (Zhou et al., 2019): the middle of an object is a peak, and what lies near it counts less as wrong the
nearer it is. Sizes are learned at the peak and around it, weighted by the same.

Letters: ``B`` pictures, ``K`` labels, ``h`` and ``w`` places, ``n`` true boxes of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sftlib.models.detection.boxes import overlaps
from sftlib.models.detection.sets import Sums, Truth

_OVERLAP = 0.7  # a box that is moved by the radius still overlaps so much
_NEAR = 0.3  # around a peak sizes are learned where the heat is at least this


def heat_sums(logits: Tensor, distances: Tensor, truths: Sequence[Truth]) -> Sums:
    """The loss summed over places, and over objects.

    Args:
        logits: (B, K, h, w) of middles.
        distances: (B, 4, h, w) from the middle of a place to left, upper, right and lower edge, in shares of width and
            height.
        truths: of each picture.
    """
    heat, weight, edges = _targets(logits, truths)
    p = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    peak = heat == 1
    sure = logits.sigmoid()
    right = (1 - sure) ** 2 * p[0]
    wrong = (1 - heat) ** 4 * sure**2 * p[1]
    classes = -torch.where(peak, right, wrong).sum()
    found = edges_around(distances)  # (B, 4, h, w)
    counts = weight > 0
    mine, true = (part.movedim(1, -1)[counts] for part in (found, edges))
    general = overlaps(mine, true)[1]
    away = (mine - true).abs().sum(-1)
    lost = (weight[counts] * (2 * (1 - general) + 5 * away)).sum() if bool(counts.any()) else distances.sum() * 0.0
    return Sums(classes, lost)


def edges_around(distances: Tensor) -> Tensor:
    """(B, 4, h, w) left, upper, right and lower edges, from the distances to them."""
    height, width = distances.shape[-2:]
    x = (torch.arange(width, dtype=distances.dtype, device=distances.device) + 0.5) / width
    y = (torch.arange(height, dtype=distances.dtype, device=distances.device) + 0.5) / height
    left, upper, right, lower = distances.unbind(1)
    across, down = x.expand_as(left), y[:, None].expand_as(left)
    return torch.stack([across - left, down - upper, across + right, down + lower], dim=1)


def _targets(logits: Tensor, truths: Sequence[Truth]) -> tuple[Tensor, Tensor, Tensor]:
    """Heat (B, K, h, w); how much the size of each place counts, (B, h, w); and true edges there, (B, 4, h, w)."""
    rows, _, height, width = logits.shape
    heat = torch.zeros_like(logits)
    weight, edges = logits.new_zeros(rows, height, width), logits.new_zeros(rows, 4, height, width)
    y, x = torch.meshgrid(
        torch.arange(height, device=logits.device), torch.arange(width, device=logits.device), indexing="ij"
    )
    for row, truth in enumerate(truths):
        areas = (truth.edges[:, 2:] - truth.edges[:, :2]).prod(-1)
        for number in areas.argsort(descending=True, stable=True).tolist():  # the smallest last, and so on top
            box = truth.edges[number].to(logits.dtype)
            left, upper, right, lower = box.tolist()
            column = min(int((left + right) / 2 * width), width - 1)
            line = min(int((upper + lower) / 2 * height), height - 1)
            spread = [max(1e-3, _radius(side) / 3) for side in ((right - left) * width, (lower - upper) * height)]
            bump = torch.exp(-0.5 * (((x - column) / spread[0]) ** 2 + ((y - line) / spread[1]) ** 2).to(logits.dtype))
            label = int(truth.labels[number])
            heat[row, label] = torch.maximum(heat[row, label], bump)
            near = bump >= _NEAR
            share = bump * near / (bump * near).sum()
            weight[row] = torch.where(near, share, weight[row])
            edges[row] = torch.where(near, box[:, None, None], edges[row])
    return heat, weight, edges


def _radius(side: float) -> float:
    """How far a box of this side, in places, may be moved along it and still overlap enough."""
    return max(1.0, side * (1 - _OVERLAP) / (1 + _OVERLAP) * 1.5)


def peaks(logits: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable places that are higher than those around them.

    Args:
        logits: (B, K, h, w).
        most: how many of a picture.

    Returns:
        Probabilities, labels and places (numbers from 0 to h * w - 1), (B, most) each.
    """
    heat = logits.sigmoid()
    highest = functional.max_pool2d(heat, 3, stride=1, padding=1)
    flat = torch.where(heat == highest, heat, 0.0).flatten(1)  # (B, K * h * w)
    found, places = flat.topk(min(most, flat.shape[1]), dim=1)
    area = logits.shape[-2] * logits.shape[-1]
    return found, places // area, places % area
