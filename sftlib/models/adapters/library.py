"""What an adapter is made of inside a model: the layers of `peft`, and the name that it has for them."""

from __future__ import annotations

from typing import Any

from torch import nn

from sftlib.support.extras import require

NAME = "default"  # peft's own name for the only adapter


def peft() -> Any:
    """The library itself.

    Raises:
        MissingExtraError: it is not installed.
    """
    return require("peft", extra="lora", purpose="an adapter")


def is_part(module: Any) -> bool:
    """Whether a module is a layer with an adapter, or one that is trained whole."""
    layers = require("peft.tuners.tuners_utils", extra="lora", purpose="an adapter")
    other = require("peft.utils.other", extra="lora", purpose="an adapter")
    return isinstance(module, layers.BaseTunerLayer | other.AuxiliaryTrainingWrapper)


def own_names(model: nn.Module) -> set[str]:
    """Names of the adapter's own weights and tables."""
    layers = require("peft.tuners.tuners_utils", extra="lora", purpose="an adapter")
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, layers.BaseTunerLayer):
            parts = (*module.adapter_layer_names, *module.other_param_names)
            found |= {f"{name}.{key}" for key in module.state_dict() if key.partition(".")[0] in parts}
    return found
