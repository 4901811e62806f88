"""Maps of features of several sizes, brought together: what dense heads of our own stand on.

Letters: ``B`` pictures, ``K`` labels, ``H`` and ``W`` pixels, ``h`` and ``w`` places.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.errors import OptionError
from sftlib.support.checking import checked, raise_together, whole_number

_GROUPS = 8  # of channels that are normalised together, each picture by itself


@final
class Pyramid(nn.Module):
    """A body, and its maps of several sizes brought together at the finest that is asked for (Lin et al., 2017).

    Nothing that is added to the body depends on other pictures of a batch.

    Args:
        body: a model of pictures of transformers, or any module that returns a map (B, C, h, w), several of them, or
            something with ``feature_maps`` or ``hidden_states``.
        stride: pixels of a place, as far as the body has maps so fine.
        channels: of the map that comes out.

    Raises:
        OptionError: numbers that cannot be, or a body that makes no maps.
    """

    def __init__(self, body: nn.Module, *, stride: int, channels: int) -> None:
        super().__init__()
        raise_together(
            [
                whole_number("stride", stride, at_least=1),
                whole_number("channels", channels, at_least=_GROUPS),
                None if channels % _GROUPS == 0 else f"channels={channels}: expected a multiple of {_GROUPS}",
            ]
        )
        self.body = body
        self._stride = stride
        self.options = {"stride": stride, "channels": channels}
        widths = widths_of(body, stride)
        self.inward = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in widths])
        self.smooth = nn.Sequential(*_layer(channels), *_layer(channels))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, channels, h, w) of pictures (B, 3, H, W)."""
        found: Tensor | None = None
        for level, inward in zip(
            maps_of(self.body, pixel_values, self._stride), self.inward, strict=True
        ):  # the coarsest first
            own = inward(level)
            if found is not None:
                own = own + functional.interpolate(found, size=own.shape[-2:], mode="bilinear", align_corners=False)
            found = own
        assert found is not None
        places: Tensor = self.smooth(found)
        return places


def widths_of(body: nn.Module, stride: int) -> list[int]:
    """How many features a place has in each map that `maps_of` finds, the coarsest first; the body is left as it was.

    Raises:
        OptionError: a body that makes no maps.
    """
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():
            return [level.shape[1] for level in maps_of(body, torch.zeros(1, 3, 64, 64), stride)]
    finally:
        body.train(was_training)


def maps_of(body: nn.Module, pixels: Tensor, stride: int) -> list[Tensor]:
    """The last map of each size that is no finer than asked for, the coarsest first.

    Args:
        body: as of `Pyramid`.
        pixels: (B, 3, H, W)
        stride: pixels of a place, as far as the body has maps so fine.

    Raises:
        OptionError: a body that makes no maps.
    """
    asks = "output_hidden_states" in inspect.signature(body.forward).parameters
    answered = body(pixels, output_hidden_states=True) if asks else body(pixels)
    by_size = {tuple(level.shape[-2:]): level for level in _tensors(answered) if level.ndim == 4}
    fit = [level for level in by_size.values() if pixels.shape[-1] // level.shape[-1] >= stride]
    if not fit:
        fit = sorted(by_size.values(), key=lambda level: level.shape[-1])[:1]
    if not fit:
        raise OptionError(
            f"body={type(body).__name__}: it returned {type(answered).__name__} without a map of features "
            "(B, channels, h, w), or several of them"
        )
    return sorted(fit, key=lambda level: level.shape[-1])


def _layer(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(_GROUPS, channels), nn.ReLU()]


def _tensors(answered: Any) -> Iterator[Tensor]:
    """The tensors in whatever a body returned, maps before all else."""
    if isinstance(answered, Tensor):
        yield answered
        return
    maps = getattr(answered, "feature_maps", None) or getattr(answered, "hidden_states", None)
    if maps is None and isinstance(answered, Mapping):
        maps = tuple(answered.values())
    for part in maps if maps is not None else answered if isinstance(answered, list | tuple) else ():
        yield from _tensors(part)


@final
class PlaceSegmenter(nn.Module):
    """A body of any make, and a head that scores each label for every place: for few pictures.

    Args:
        body: as of `Pyramid`.
        labels: how many there are.
        stride: pixels of a place, as far as the body has maps so fine.
        channels: of the head.
        seed: of its weights.

    Raises:
        OptionError: numbers that cannot be, or a body that makes no maps.

    Example:
        >>> PlaceSegmenter(nn.Conv2d(3, 8, 4, stride=4), labels=2)(torch.zeros(1, 3, 32, 48)).shape
        torch.Size([1, 2, 8, 12])
    """

    usual_rate = 3e-3

    @checked
    def __init__(self, body: nn.Module, labels: int, *, stride: int = 4, channels: int = 64, seed: int = 0) -> None:
        super().__init__()
        raise_together([whole_number("labels", labels, at_least=1)])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.pyramid = Pyramid(body, stride=stride, channels=channels)
            self.scores = nn.Conv2d(channels, labels, 1)

    @property
    def body(self) -> nn.Module:
        """What makes the features."""
        return self.pyramid.body

    @property
    def options(self) -> dict[str, int]:
        """What the head was made with, beside the body; the seed decided weights that are there now."""
        return {"labels": self.scores.out_channels, **self.pyramid.options}

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, K, h, w) scores of pictures (B, 3, H, W)."""
        scores: Tensor = self.scores(self.pyramid(pixel_values))
        return scores
