"""A model without its adapter: merged into its weights, taken out, or switched off for a while."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sftlib.models.adapters.library import is_part
from sftlib.models.ties import settle_ties


def has_adapter(model: nn.Module) -> bool:
    """Whether any layer of a model is one of `peft`'s; asked without that package."""
    return any(type(module).__module__.partition(".")[0] == "peft" for module in model.modules())


def merged(model: nn.Module, *, config_too: bool = True) -> nn.Module:
    """A plain copy of a model with its adapter added to its weights, on the device of the model.

    A weight that was one with another, and of which the adapter changed one alone, is two weights afterwards.

    Args:
        model: with an adapter.
        config_too: whether the config of the copy is to say so, where it can.
    """
    plain = _without(_with_own_weights(copy.deepcopy(model)), merge=True).requires_grad_(True)
    settle_ties(plain, config_too=config_too)
    return plain


def _with_own_weights(model: Any) -> Any:
    """A model, in place, in which no layer with an adapter shares a weight: what is added to one is added to one."""
    held = Counter(id(child) for module in model.modules() for child in module.children())
    used = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    for part in [module for module in model.modules() if is_part(module) and hasattr(module, "base_layer")]:
        if held[id(part.base_layer)] > 1:  # the very layer stands elsewhere too
            part.base_layer = copy.deepcopy(part.base_layer)
        for name, weight in part.base_layer._parameters.items():
            if type(weight) is nn.Parameter and used[id(weight)] > 1:
                setattr(part.base_layer, name, nn.Parameter(weight.detach().clone(), weight.requires_grad))
    return model


def without_adapter(model: nn.Module) -> nn.Module:
    """The base of a model with an adapter: a module of its own, made of the very same weights."""
    shared = {id(value): value for _, value in [*model.named_parameters(), *model.named_buffers()]}
    return _without(copy.deepcopy(model, memo=dict(shared)), merge=False)


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Within this context a model computes as if it had no adapter: its base, with the head that it began with.

    Args:
        model: with an adapter, or without any, which changes nothing.
    """
    parts: list[Any] = [part for part in model.modules() if is_part(part)] if hasattr(model, "peft_config") else []
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for part in parts:
        part.enable_adapters(False)
    try:
        yield
    finally:
        for part in parts:
            part.enable_adapters(True)
        for parameter, before in required:
            parameter.requires_grad_(before)


def _without(model: Any, *, merge: bool) -> nn.Module:
    """Take the adapter out of a model, in place, added to its weights or not."""
    done: list[str] = []
    for name, module in [(name, module) for name, module in model.named_modules() if is_part(module)]:
        if any(name.startswith(f"{part}.") for part in done):
            continue  # went with the module around it
        done.append(name)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _plain_part(module, merge=merge))
    if hasattr(model, "peft_config"):
        del model.peft_config
    if hasattr(model, "_hf_peft_config_loaded"):
        model._hf_peft_config_loaded = False
    return model  # type: ignore[no-any-return]


def _plain_part(part: Any, *, merge: bool) -> nn.Module:
    if not merge and hasattr(part, "original_module"):
        return part.original_module  # type: ignore[no-any-return]
    if hasattr(part, "unload_and_optionally_merge_module"):
        return part.unload_and_optionally_merge_module(merge=merge, safe_merge=True, adapter_names=None)  # type: ignore[no-any-return]
    if merge:
        part.merge(safe_merge=True)
    return part.get_base_layer()  # type: ignore[no-any-return]
