"""Weights that a model has under two names, as an output layer that is the table of its inputs.

transformers ties them by the model's config, and by what a folder holds: where it holds both, and they differ, they
stay apart. What takes a model apart and puts it together again follows the same rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_FLAG = "tie_word_embeddings"


def ties_of(model: nn.Module) -> dict[str, str]:
    """Name of a weight -> name of the weight that it is one with."""
    ties = getattr(model, "all_tied_weights_keys", None)
    own = dict(model.named_parameters(remove_duplicate=False))
    return {a: b for a, b in ties.items() if a in own and b in own} if isinstance(ties, Mapping) else {}


def loosen(model: Any, names: Iterable[str]) -> None:
    """Give weights that are tied to others a value of their own, which is the same until it changes."""
    for name in names:
        parent, _, leaf = name.rpartition(".")
        module = model.get_submodule(parent)
        weight = getattr(module, leaf)
        setattr(module, leaf, nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad))
        model.all_tied_weights_keys.pop(name)


def loosen_as_stored(model: nn.Module, stored: Collection[str]) -> None:
    """Take apart what a file holds under both names: what is tied is stored once."""
    loosen(model, [name for name, other in ties_of(model).items() if name in stored and other in stored])


def loosen_as_in(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Take apart what differs in these weights, of another model or of a part of one."""
    loosen(
        model,
        [
            name
            for name, other in ties_of(model).items()
            if name in weights and other in weights and not _same(weights[name], weights[other])
        ],
    )


def settle_ties(model: Any, *, config_too: bool) -> None:
    """After weights were changed one by one: those that are equal are one again, the others stay apart.

    Args:
        model: changed in place.
        config_too: whether its config is to say so, where it can. What a family computes may depend on that.
    """
    weights = dict(model.named_parameters(remove_duplicate=False))
    ties = ties_of(model)
    apart = [name for name, other in ties.items() if not _same(weights[name], weights[other])]
    for name, other in ties.items():
        if name not in apart and weights[name] is not weights[other]:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, weights[other])
    said = [part for part in _saying(model, apart) if config_too and _can_say(part.config)]
    for part in said:
        setattr(part.config, _FLAG, False)
    loosen(model, list(ties) if said else apart)


def newly_apart(before: Any, after: Any) -> list[tuple[str, str]]:
    """Pairs of names of what is one weight in a model and two different ones in another."""
    ties, now = getattr(before, "all_tied_weights_keys", None) or {}, ties_of(after)
    weights = dict(after.named_parameters(remove_duplicate=False))
    found = [(name, other) for name, other in ties.items() if name not in now and {name, other} <= weights.keys()]
    return [(name, other) for name, other in found if not _same(weights[name], weights[other])]


def _saying(model: Any, names: Collection[str]) -> list[Any]:
    """The models within a model whose configs tie these weights."""
    found = []
    for prefix, part in model.named_modules():
        own = getattr(part, "all_tied_weights_keys", None)
        under = f"{prefix}." if prefix else ""
        if own and getattr(part.config, _FLAG, False) and any(f"{under}{name}" in names for name in own):
            found.append(part)
    return found


def _can_say(config: Any) -> bool:
    """Whether a config can say that nothing is tied, and says nothing else by it."""
    plain = {**config.to_dict(), _FLAG: False}
    return bool(type(config).from_dict(dict(plain)).to_dict() == plain)


def _same(left: Tensor, right: Tensor) -> bool:
    return left is right or left.data_ptr() == right.data_ptr() or torch.equal(left, right)
