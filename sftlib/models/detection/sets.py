"""Losses of detectors that answer a set of boxes: matched one to one with the true ones, then summed.

Each sum is over the boxes, or the queries, of each picture by itself, so that it does not depend on what else is in a
batch. What it has to be divided by is the task's affair.

Letters: ``B`` pictures, ``Q`` queries of a picture, ``n`` true boxes of a picture, ``K`` labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sftlib.models.detection.boxes import edges_of, middles_of, overlaps

_TINY = 1e-8


class Truth(NamedTuple):
    """The true objects of a picture.

    Attributes:
        labels: (n,) numbers of their labels.
        edges: (n, 4) left, upper, right, lower, in shares of width and height.
    """

    labels: Tensor
    edges: Tensor


class Answer(NamedTuple):
    """What one layer of a detector answers.

    Attributes:
        logits: (B, Q, K), or (B, Q, K + 1) with "no object" last.
        boxes: (B, Q, 4) middles, widths and heights.
    """

    logits: Tensor
    boxes: Tensor


class Sums(NamedTuple):
    """The two parts of a loss, which may be divided by different counts.

    Attributes:
        classes: () of labels, over all queries.
        boxes: () of boxes, over those that are matched.
    """

    classes: Tensor
    boxes: Tensor


class ClassLoss(ABC):
    """What a label costs: in matching, and in learning."""

    #: How many of the most probable labels and boxes of a picture are answered; None for each query's own label.
    most: int | None = None

    @abstractmethod
    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(Q, n) what it would cost each query to have each true label.

        Args:
            logits: (Q, K or K + 1).
            labels: (n,).
        """

    @abstractmethod
    def summed(self, logits: Tensor, labels: Tensor, overlap: Tensor) -> Tensor:
        """() the loss over all queries.

        Args:
            logits: (B, Q, K or K + 1).
            labels: (B, Q) the label that each query should have; -1 for none.
            overlap: (B, Q) intersection over union of its box and the true one; 0 for none.
        """

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., K) of each label."""

    def divisor(self, matched: float, queries: float) -> float | None:
        """What the sum is divided by where that is not the number of boxes.

        Args:
            matched: queries that have an object.
            queries: all of them.
        """
        return None


@final
@dataclass(frozen=True)
class Softmax(ClassLoss):
    """Cross-entropy over the labels and "no object", of which queries without an object count less (DETR, YOLOS).

    Attributes:
        no_object: the weight of a query without an object.
    """

    no_object: float = 0.1

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -logits.softmax(-1)[:, labels]

    def summed(self, logits: Tensor, labels: Tensor, overlap: Tensor) -> Tensor:
        last = logits.shape[-1] - 1
        target = torch.where(labels < 0, last, labels)
        weights = torch.ones(last + 1, dtype=logits.dtype, device=logits.device)
        weights[last] = self.no_object
        return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), weight=weights, reduction="sum")

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[..., :-1]

    def divisor(self, matched: float, queries: float) -> float:
        return matched + self.no_object * (queries - matched)


@final
@dataclass(frozen=True)
class Focal(ClassLoss):
    """Focal loss over independent labels (Lin et al., 2017; Conditional and Deformable DETR).

    Attributes:
        alpha: the weight of what is there, against what is not.
        gamma: how little what is sure counts.
        most: of the answers of a picture.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    most: int | None = 100

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        return _focal_cost(logits.sigmoid()[:, labels], 0.25, 2.0)

    def summed(self, logits: Tensor, labels: Tensor, overlap: Tensor) -> Tensor:
        target = _one_hot(labels, logits)
        p = logits.sigmoid()
        losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        sure = p * target + (1 - p) * (1 - target)
        weight = self.alpha * target + (1 - self.alpha) * (1 - target)
        return (weight * losses * (1 - sure) ** self.gamma).sum()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


@final
@dataclass(frozen=True)
class Varifocal(ClassLoss):
    """What is there is learned up to the overlap of its box (Zhang et al., 2021; RT-DETR).

    Attributes:
        alpha: the weight of what is not there.
        gamma: how little what is surely not there counts.
        cost_alpha: as of `Focal`, in matching.
        cost_gamma: the same.
        most: of the answers of a picture; one a query when None.
    """

    alpha: float = 0.75
    gamma: float = 2.0
    cost_alpha: float = 0.25
    cost_gamma: float = 2.0
    most: int | None = 300

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        return _focal_cost(logits.sigmoid()[:, labels], self.cost_alpha, self.cost_gamma)

    def summed(self, logits: Tensor, labels: Tensor, overlap: Tensor) -> Tensor:
        there = _one_hot(labels, logits)
        target = overlap.to(logits.dtype)[..., None] * there
        weight = self.alpha * logits.detach().sigmoid() ** self.gamma * (1 - there) + target
        return functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """(B, Q, K) 1 where a query has a label."""
    found = functional.one_hot(labels + 1, logits.shape[-1] + 1)[..., 1:]
    return found.to(logits.dtype)


def _focal_cost(p: Tensor, alpha: float, gamma: float) -> Tensor:
    absent = (1 - alpha) * p**gamma * -(1 - p + _TINY).log()
    return alpha * (1 - p) ** gamma * -(p + _TINY).log() - absent


@final
@dataclass(frozen=True)
class Recipe:
    """How much each part of a loss weighs, in matching and in learning.

    Attributes:
        classes: of labels.
        costs: of labels, of edges, of overlap, in matching.
        weights: the same, in learning.
    """

    classes: ClassLoss
    costs: tuple[float, float, float] = (1.0, 5.0, 2.0)
    weights: tuple[float, float, float] = (1.0, 5.0, 2.0)

    def sums(self, answers: Sequence[Answer], truths: Sequence[Truth]) -> Sums:
        """The loss of all layers that answer, summed."""
        parts = [self._of_layer(answer, truths) for answer in answers]
        classes, boxes = (torch.stack(part).sum() for part in zip(*parts, strict=True))
        return Sums(classes, boxes)

    def _of_layer(self, answer: Answer, truths: Sequence[Truth]) -> Sums:
        matches = [
            self.match(logits.detach(), boxes.detach(), truth)
            for logits, boxes, truth in zip(answer.logits, answer.boxes, truths, strict=True)
        ]
        labels = answer.logits.new_full(answer.logits.shape[:2], -1, dtype=torch.int64)
        overlap = torch.zeros(labels.shape, dtype=answer.boxes.dtype, device=labels.device)
        lost = answer.boxes.sum() * 0.0  # keeps the gradient of a batch without objects
        for row, ((queries, objects), truth) in enumerate(zip(matches, truths, strict=True)):
            if not len(queries):
                continue
            found, edges = answer.boxes[row, queries], truth.edges[objects].to(answer.boxes.dtype)
            plain, general = overlaps(edges_of(found), edges)
            labels[row, queries] = truth.labels[objects]
            overlap[row, queries] = plain.detach()
            away = (found - middles_of(edges)).abs().sum()
            lost = lost + self.weights[1] * away + self.weights[2] * (1 - general).sum()
        return Sums(self.weights[0] * self.classes.summed(answer.logits, labels, overlap), lost)

    def match(self, logits: Tensor, boxes: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
        """Which query stands for which object, at the least cost in all (Carion et al., 2020).

        Args:
            logits: (Q, K or K + 1).
            boxes: (Q, 4).
            truth: of the picture.

        Returns:
            Numbers of queries and of objects, as many as there are of the fewer.
        """
        if not len(truth.labels):
            none = torch.empty(0, dtype=torch.int64, device=logits.device)
            return none, none
        edges = truth.edges.to(boxes.dtype)
        away = torch.cdist(boxes, middles_of(edges), p=1)
        apart = -overlaps(edges_of(boxes)[:, None], edges[None])[1]
        cost = self.costs[1] * away + self.costs[0] * self.classes.cost(logits, truth.labels) + self.costs[2] * apart
        found = _assigned(cost.cpu().numpy())
        queries, objects = (torch.as_tensor(numbers, device=logits.device) for numbers in found)
        return queries, objects


def _assigned(cost: Any) -> Any:
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped, unused-ignore]

    most = np.finfo(cost.dtype).max
    return linear_sum_assignment(np.nan_to_num(cost, nan=most, posinf=most, neginf=most))


def recipe_of(config: Any, *, no_object: bool) -> Recipe:
    """How a detector of transformers is trained, by its config; by the usual numbers where it has none.

    Args:
        config: of the model, or None.
        no_object: whether its logits have one more than there are labels.
    """

    def get(name: str, usual: float) -> float:
        value = getattr(config, name, None)
        return float(usual if value is None else value)

    if hasattr(config, "weight_loss_vfl") and not no_object:
        classes: ClassLoss = Varifocal(
            get("focal_loss_alpha", 0.75),
            get("focal_loss_gamma", 2.0),
            get("matcher_alpha", 0.25),
            get("matcher_gamma", 2.0),
            getattr(config, "num_queries", None),
        )
        costs = (get("matcher_class_cost", 2.0), get("matcher_bbox_cost", 5.0), get("matcher_giou_cost", 2.0))
        weights = (get("weight_loss_vfl", 1.0), get("weight_loss_bbox", 5.0), get("weight_loss_giou", 2.0))
        return Recipe(classes, costs, weights)
    classes = Softmax(get("eos_coefficient", 0.1)) if no_object else Focal(get("focal_alpha", 0.25))
    costs = (get("class_cost", 1.0 if no_object else 2.0), get("bbox_cost", 5.0), get("giou_cost", 2.0))
    return Recipe(classes, costs, (1.0, get("bbox_loss_coefficient", 5.0), get("giou_loss_coefficient", 2.0)))
