"""What sources do to a config and to weights before a model has its head."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from sftlib.models.opening import quiet
from sftlib.models.seeds import seeded
from sftlib.models.sizes import dropout_rates, parts_of
from sftlib.models.sources.base import Head
from sftlib.models.ties import loosen_as_in

_OF_HEADS = re.compile(r"(classifier|seq_classif|cls)_dropout(_prob|_rate)?$")  # fields of a config that say so


def adjust(config: Any, head: Head, dropout: float | None) -> None:
    """Give a config the fields of a head, without dropout before its output where it wants none.

    A ``dropout`` that is not None takes the place of every rate.
    """
    config.update(head.settings())
    if getattr(config, "architectures", ()) is None:
        config.architectures = []  # transformers goes through them where there are several classes
    if not head.drops:
        for name in [name for name in config.to_dict() if _OF_HEADS.match(name)]:
            setattr(config, name, 0.0)
    if dropout is None:
        return
    for part in (config, *parts_of(config)):
        for name in dropout_rates(part):
            setattr(part, name, dropout)


def from_config(head: Head, config: Any, seed: int) -> Any:
    """A model with random weights."""
    with quiet(), seeded(seed):
        return getattr(transformers, head.auto_class).from_config(config, dtype=torch.float32)


def drawn(head: Head, config: Any, seed: int) -> dict[str, Tensor]:
    """Every weight of a model as it is drawn."""
    found: dict[str, Tensor] = from_config(head, config, seed).state_dict()
    return found


def copy_weights(source: nn.Module, target: Any) -> Set[str]:
    """Copy every weight of the same name, with or without the body's prefix, and the same shape; return their names.

    What is frozen in the source is frozen in the target.
    """
    prefix = f"{target.base_model_prefix}."
    loosen_as_in(target, source.state_dict())
    own = target.state_dict()
    frozen = {name for name, parameter in source.named_parameters() if not parameter.requires_grad}
    copied = {}
    for name, weight in source.state_dict().items():
        for candidate in (name, prefix + name, name.removeprefix(prefix)):
            if candidate in own and own[candidate].shape == weight.shape:
                copied[candidate] = weight
                if name in frozen:
                    target.get_parameter(candidate).requires_grad_(False)
                break
    target.load_state_dict(copied, strict=False)
    return copied.keys()
