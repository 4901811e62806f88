"""Several heads on one body: the models of several tasks, of which one keeps the body and the others ask it for theirs.

Each is an ordinary model of transformers. The body of all but the first is taken away, and the first one's stands in
its place without becoming a child: its weights are counted, trained and written once, and whatever is done to it (a
layout, fewer embeddings, more tokens) is done for all.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from sftlib.errors import OptionError
from sftlib.models.structure import body_of

#: The child of the first model that holds the others.
HEADS = "other_heads"

_BEFORE = "of_"  # the name of a task, so that none is that of a method
_OWN = "own_children_of_body"


def shared(models: Mapping[str, nn.Module]) -> nn.Module:
    """The first of these models with the heads of the others, all on one body; changed in place.

    Args:
        models: name of a task -> its model; all from one source.

    Raises:
        OptionError: models that have no body in common.
    """
    (first, lead), *others = models.items()
    if not others:
        return lead
    body = _body(lead, first)
    known = {name: tuple(value.shape) for name, value in body.state_dict().items()}
    heads = nn.ModuleDict()
    for name, model in others:
        own = _body(model, name)
        lacking = {key for key, value in own.state_dict().items() if known.get(key) != tuple(value.shape)}
        if lacking:
            raise OptionError(
                f"MultiTask: {type(model).__name__} of {name!r} has weights in its body that {type(lead).__name__} of "
                f"{first!r} does not have, such as {sorted(lacking)[0]}; the two cannot share one"
            )
        prefix = _prefix(model)
        vars(model)[_OWN] = tuple(child for child, module in own.named_children() if module is not None)
        del model._modules[prefix]
        vars(model)[prefix] = body  # found by its name, and no child
        heads[_BEFORE + name] = model
    lead.add_module(HEADS, heads)
    return lead


def model_of(lead: nn.Module, name: str) -> nn.Module:
    """The model of a task: one of the other heads, or the first model itself."""
    heads = lead._modules.get(HEADS)
    found = None if heads is None else heads._modules.get(_BEFORE + name)
    return lead if found is None else found


def plain_copy(lead: nn.Module, name: str) -> nn.Module:
    """A model of its own for one task, with a copy of the body; an ordinary model of its class."""
    model = model_of(lead, name)
    if model is lead:
        twin = copy.deepcopy(lead)
        twin._modules.pop(HEADS, None)
        return twin
    whole, theirs = lead.config, model.config
    config: Any = copy.deepcopy(theirs)
    for entry in ("vocab_size", "num_hidden_layers"):  # of the body, which may have grown since
        if hasattr(whole, entry):
            setattr(config, entry, getattr(whole, entry))
    twin = copy.deepcopy(model, memo={id(whole): config, id(theirs): config})
    prefix, kept = _prefix(model), vars(twin).pop(_OWN)
    body = vars(twin).pop(prefix)
    for child, module in list(body.named_children()):
        if module is not None and child not in kept:
            setattr(body, child, None)  # such as BERT's pooler, which a head of tokens does not have
    own = dict(twin._modules)
    twin._modules.clear()
    twin._modules.update({prefix: body, **own})  # the body first, as it was
    return twin


def _prefix(model: nn.Module) -> str:
    return str(model.base_model_prefix)


def _body(model: nn.Module, name: str) -> nn.Module:
    body = body_of(model)
    prefix = getattr(model, "base_model_prefix", "")
    if body is None or model._modules.get(prefix) is not body:
        raise OptionError(
            f"MultiTask: the model of {name!r}, {type(model).__name__}, is no body of transformers under a head, so no "
            "other head can share it"
        )
    return body
