"""Heads of our own on bodies of transformers: which there are, and what makes one again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

import transformers
from torch import nn

from sftlib.models.detection.head import PlaceDetector
from sftlib.models.embedder import PlaceEmbedder
from sftlib.models.pyramid import PlaceSegmenter


class Headed(Protocol):
    """A body, and a head of our own."""

    @property
    def body(self) -> nn.Module:
        """What makes the features."""

    @property
    def options(self) -> dict[str, int]:
        """What the head was made with, beside the body."""


#: Name -> class, called with a body and options.
HEADS: Mapping[str, Any] = MappingProxyType(
    {kind.__name__: kind for kind in (PlaceDetector, PlaceEmbedder, PlaceSegmenter)}
)


def headed(model: nn.Module) -> Headed | None:
    """The model, if it is a head of ours on a body that transformers builds from its config alone; else None."""
    if HEADS.get(type(model).__name__) is not type(model):
        return None
    found = cast(Headed, model)
    config = getattr(found.body, "config", None)
    known = isinstance(config, transformers.PreTrainedConfig) and type(config) in transformers.MODEL_MAPPING
    return found if known and type(found.body) is transformers.MODEL_MAPPING[type(config)] else None
