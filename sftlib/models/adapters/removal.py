"""A model without its adapter: merged into its weights, taken out, or switched off for a while."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sftlib.models.adapters.library import is_part


def merged(model: nn.Module) -> nn.Module:
    """A plain copy of a model with its adapter added to its weights, on the device of the model."""
    return _without(copy.deepcopy(model), merge=True).requires_grad_(True)


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
