"""How a model is built: a body under a head, layers in the body; and hooks, for as long as a context lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from torch import nn
from torch.utils.hooks import RemovableHandle


def body_of(model: nn.Module) -> nn.Module | None:
    """The pretrained body under a head; None where the two cannot be told apart."""
    body = getattr(model, "base_model", None)
    if isinstance(body, nn.Module) and body is not model:
        return body
    return _encoder_of(model) if body is model else None


def _encoder_of(model: nn.Module) -> nn.Module | None:
    """The encoder of a model that is nothing else but it and a head, as Whisper's for classes of sounds."""
    first, whole = next(iter(model._modules), ""), getattr(model, "base_model_prefix", "")
    encoder = model._modules.get("encoder")
    if encoder is None or not hasattr(encoder, "config") or "decoder" in model._modules or whole in model._modules:
        return None
    if first != "encoder" or _is_headless(model):  # what stands before it feeds it, as BERT's embeddings do
        return None
    inside = {id(parameter) for parameter in encoder.parameters()}
    return encoder if any(id(parameter) not in inside for parameter in model.parameters()) else None


def _is_headless(model: nn.Module) -> bool:
    """Whether a model is what transformers has for its config where no head is asked for."""
    config = getattr(model, "config", None)
    if not isinstance(config, transformers.PreTrainedConfig):
        return False
    kinds: Any = transformers.MODEL_MAPPING.get(type(config), ())  # a class, or several
    return isinstance(model, kinds)


def layers_of(model: nn.Module, *, headless: bool = False) -> nn.ModuleList | None:
    """The layers of a transformer, each with its own weights; None where there is no single list of them.

    Args:
        model: with its head.
        headless: whether a body without a head, as text embedding has it, is looked into as well.
    """
    alone = model if headless and getattr(model, "base_model", None) is model else None
    body, count = body_of(model) or alone, getattr(getattr(model, "config", None), "num_hidden_layers", None)
    if body is None or not isinstance(count, int):
        return None
    lists = [module for module in body.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    inner = {child for module in lists for child in module.modules() if child is not module}
    outermost = [module for module in lists if module not in inner]
    return outermost[0] if len(outermost) == 1 else None


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that a model is a stack of, or its stacks: members of lists of one kind, the outermost of them.

    A layer that shares a weight with anything outside itself is left out.

    Example:
        >>> layer = lambda: nn.Sequential(nn.Linear(2, 2))
        >>> len(repeated_layers(nn.Sequential(nn.Embedding(9, 2), nn.ModuleList([layer(), layer()]))))
        2
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and _is_stack(module)]
    inner = {child for stack in stacks for child in stack.modules() if child is not stack}
    layers = list(dict.fromkeys(layer for stack in stacks if stack not in inner for layer in stack))
    owners = _owners(model)
    return [layer for layer in layers if all(owners[key] == count for key, count in _owners(layer).items())]


def _is_stack(modules: nn.ModuleList) -> bool:
    one_kind = len(modules) > 1 and len({type(module) for module in modules}) == 1
    return one_kind and all(any(True for _ in module.parameters()) and any(module.children()) for module in modules)


def _owners(model: nn.Module) -> Counter[int]:
    """How often each parameter is used."""
    every = (module for _, module in model.named_modules(remove_duplicate=False))
    return Counter(id(p) for module in every for p in module._parameters.values() if p is not None)


@contextmanager
def hooked(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    """Within this context these hooks are there; afterwards they are gone."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
