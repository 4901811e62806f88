"""What a head reads of a body: its own place, or the mean over all tokens; and the head itself, off and on again.

A model class of transformers reads one place (BERT the first token, through its pooler). A sentence encoder was trained
to be read by the mean over its tokens, and read otherwise it is worth little. Where the class cannot say "mean", one
more layer makes the place hold it: attention without queries and keys is uniform, so the layer passes on the mean of
its values; with the identity for values, a large factor behind it and norms without effect the first token becomes the
mean, normalised. The layer stays as it is made, so the saved folder is one that transformers opens, with the same
answers.

Letters: ``H`` features, ``K`` outputs.
"""

from __future__ import annotations

import copy
import math
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.models.structure import body_of, layers_of

#: How much more the mean counts than what stood there: large enough to leave nothing of it, and a number in fp16.
_FACTOR = 1e4

#: Model types whose layers are of BERT's kind and have no notion of position in their attention.
_LIKE_BERT = ("bert", "roberta", "xlm-roberta", "camembert")


def can_read_mean(model: nn.Module) -> bool:
    """Whether `read_mean` knows how this model can be made to."""
    return _read(model) is not None


def read_mean(model: nn.Module) -> None:
    """Have the head of a model read the mean over all tokens, at about length 1, in place.

    Args:
        model: one for which `can_read_mean` is true.
    """
    found, layers = _read(model), layers_of(model)
    assert found is not None
    assert layers is not None
    layers.append(_averaging(layers[-1]))
    config: Any = model.config
    config.num_hidden_layers = len(layers)
    width = found.out_features
    with torch.no_grad():
        found.weight.copy_(torch.eye(width) / math.sqrt(width))  # small, so that the tanh behind it bends nothing
        found.bias.zero_()
    found.requires_grad_(False)


def _read(model: Any) -> nn.Linear | None:
    """The square layer between the place that is read and the output layer."""
    body = body_of(model)
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if body is None or kind not in _LIKE_BERT or layers_of(model) is None:
        return None
    pooler, head = getattr(body, "pooler", None), getattr(model, "classifier", None)
    found = getattr(pooler if pooler is not None else head, "dense", None)
    square = isinstance(found, nn.Linear) and found.in_features == found.out_features and found.bias is not None
    return found if square else None


def _averaging(like: nn.Module) -> nn.Module:
    """A layer that puts the mean over the tokens in the place of each."""
    layer: Any = copy.deepcopy(like)
    for own, original in zip(layer.modules(), like.modules(), strict=True):
        if hasattr(original, "config"):
            own.config = original.config  # the model's: how attention is computed is written there, and changes
    attention, output = layer.attention.self, layer.attention.output
    width = output.dense.out_features
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        attention.value.weight.copy_(torch.eye(width))
        output.dense.weight.copy_(torch.eye(width) * _FACTOR)
        for norm in (output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1.0)
    for module in layer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if getattr(attention, "layer_idx", None) is not None:
        attention.layer_idx += 1
    layer.requires_grad_(False)
    return layer  # type: ignore[no-any-return]


@final
class Open(nn.Identity):
    """Stands where the output layer was, so that the model answers with what that layer reads."""


def output_layer(model: nn.Module, outputs: int) -> str | None:
    """The name of the last linear layer outside the body that has so many outputs; None without one."""
    body = body_of(model)
    inside = set() if body is None else set(body.modules())
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module not in inside and module.out_features == outputs
    ]
    return found[-1] if found else None


def open_head(model: nn.Module, outputs: int) -> bool:
    """Take the output layer away, in place; False where there is none that can be told."""
    name = output_layer(model, outputs)
    if name is None:
        return False
    _put(model, name, Open())
    return True


def close_head(model: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Put an output layer in the place that `open_head` left.

    Args:
        model: opened.
        weight: (K, H)
        bias: (K,)
    """
    name = next(name for name, module in model.named_modules() if isinstance(module, Open))
    device = next(model.parameters()).device
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    _put(model, name, layer)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
