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
from sftlib.models.structure import body_of


class Headed(Protocol):
    """A body, and a head of our own.

    Attributes:
        usual_rate: the learning rate of the head, where none is named.
    """

    usual_rate: float

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


def body_under(model: nn.Module) -> nn.Module | None:
    """The body under a head of transformers, or of ours on a body of any make; None where they cannot be told apart."""
    own = own_head(model)
    return body_of(model) if own is None else own.body


def own_head(model: nn.Module) -> Headed | None:
    """The model, if it is a head of ours on a body of any make; else None."""
    return cast(Headed, model) if HEADS.get(type(model).__name__) is type(model) else None


def headed(model: nn.Module) -> Headed | None:
    """The model, if it is a head of ours on a body that transformers builds from its config alone; else None."""
    found = own_head(model)
    if found is None:
        return None
    config: Any = getattr(found.body, "config", None)
    known = isinstance(config, transformers.PreTrainedConfig)
    kind: Any = transformers.MODEL_MAPPING.get(type(config), None) if known else None
    return found if kind is type(found.body) else None
