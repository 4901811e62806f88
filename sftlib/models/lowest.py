"""The lowest layers of a pretrained model alone, as the ordinary model that they are."""

from __future__ import annotations

from typing import Any

from torch import nn

from sftlib.errors import OptionError
from sftlib.models.structure import layers_of

_COUNT = "num_hidden_layers"  # the name that configs of transformers have in common
_OWN = ("encoder_layers",)  # what models that write call the same; before transformers 5.4 two numbers that agree


def keep_lowest(config: Any, layers: int) -> None:
    """Have a config speak of so many layers; transformers then opens the lowest ones, and leaves the others.

    Args:
        config: changed in place.
        layers: how many.

    Raises:
        OptionError: there are fewer, or the config does not say how many there are.
    """
    count, kind = getattr(config, _COUNT, None), getattr(config, "model_type", type(config).__name__)
    if not isinstance(count, int):
        raise OptionError(f"layers={layers}: a model of the kind {kind!r} does not say how many layers it has")
    if layers > count:
        raise OptionError(f"layers={layers}: this model has {count} layers; expected at most {count}")
    for name, value in vars(config).items():  # what a config says of each layer
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, value[:layers])
    own = [name for name in _OWN if getattr(config, name, None) == count]
    for name in (_COUNT, *own):
        setattr(config, name, layers)


def check_lowest(model: nn.Module, layers: int) -> None:
    """Refuse a model whose layers are no single list, so that a number of them would mean something else.

    Raises:
        OptionError: naming it.
    """
    found = layers_of(model, headless=True)
    if found is None or len(found) != layers:
        raise OptionError(f"layers={layers}: the layers of {type(model).__name__} cannot be told apart; leave it out")
