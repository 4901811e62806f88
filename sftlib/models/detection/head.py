"""A detector for few pictures: any body that makes maps of features, and a head that answers for every place.

Letters: ``B`` pictures, ``K`` labels, ``H`` and ``W`` pixels, ``h`` and ``w`` places.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.models.pyramid import Pyramid
from sftlib.support.checking import checked, raise_together, whole_number

_RARE = 0.01  # how probable a middle is at a place before anything was learned
_SMALL = -2.5  # softplus of it: a distance of a twelfth of the picture


class PlaceAnswer(NamedTuple):
    """What a detector answers.

    Attributes:
        logits: (B, K, h, w) of the middles of objects.
        pred_boxes: (B, 4, h, w) distances to left, upper, right and lower edge, in shares of width and height.
    """

    logits: Tensor
    pred_boxes: Tensor


@final
class PlaceDetector(nn.Module):
    """A body, and a head that says for every place how probable the middle of an object is there, and how large it is.

    Args:
        body: a model of pictures of transformers, or any module that returns a map (B, C, h, w), several of them, or
            something with ``feature_maps`` or ``hidden_states``.
        labels: how many there are.
        stride: pixels of a place, as far as the body has maps so fine.
        channels: of the head.
        seed: of its weights.

    Raises:
        OptionError: numbers that cannot be, or a body that makes no maps.

    Example:
        >>> detector = PlaceDetector(nn.Conv2d(3, 8, 4, stride=4), labels=2)
        >>> found = detector(torch.zeros(1, 3, 32, 48))
        >>> found.logits.shape, found.pred_boxes.shape
        (torch.Size([1, 2, 8, 12]), torch.Size([1, 4, 8, 12]))
    """

    usual_rate = 1e-3

    @checked
    def __init__(self, body: nn.Module, labels: int, *, stride: int = 4, channels: int = 64, seed: int = 0) -> None:
        super().__init__()
        raise_together([whole_number("labels", labels, at_least=1)])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.pyramid = Pyramid(body, stride=stride, channels=channels)
            self.heat = nn.Conv2d(channels, labels, 1)
            self.edges = nn.Conv2d(channels, 4, 1)
        nn.init.constant_(self.heat.bias, -math.log((1 - _RARE) / _RARE))  # type: ignore[arg-type]
        nn.init.constant_(self.edges.bias, _SMALL)  # type: ignore[arg-type]

    @property
    def body(self) -> nn.Module:
        """What makes the features."""
        return self.pyramid.body

    @property
    def options(self) -> dict[str, int]:
        """What the head was made with, beside the body; the seed decided weights that are there now."""
        return {"labels": self.heat.out_channels, **self.pyramid.options}

    def forward(self, pixel_values: Tensor) -> PlaceAnswer:
        """What is where in pictures (B, 3, H, W)."""
        places = self.pyramid(pixel_values)
        return PlaceAnswer(self.heat(places), functional.softplus(self.edges(places)))
