"""What a classifier reads of a sentence encoder: what that encoder was trained to say, as its folder tells.

The classes of transformers read the first token through a pooler that a sentence encoder never trained. A mean over
tokens can be said in their own words: one more layer whose attention is uniform, so that its first token is the mean
of all; large beside what stood there, which the norm behind it takes as the mean alone. The folder that is saved is an
ordinary one, and a pipeline computes the same.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils.hub import cached_file

from sftlib.support import storage

MEAN, FIRST, HEAD = "mean", "first", "head"
#: What a classifier may be asked to read.
POOLINGS = (MEAN, FIRST, HEAD)

_FILE = os.path.join("1_Pooling", "config.json")
_SAYS = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": FIRST}
_LARGE = 1e3  # times the mean, beside the first token; fp16 holds it


def pooling_of(folder: str, *, local: bool) -> str:
    """What a sentence encoder's own folder says; `HEAD` for any other folder, or another way of pooling.

    Args:
        folder: of the model, or its name on the hub.
        local: whether it lies here.
    """
    path = Path(folder) / _FILE if local else _on_the_hub(folder)
    if path is None or not path.is_file():
        return HEAD
    try:
        settings = storage.read_json(path)
    except (storage.StorageError, OSError):
        return HEAD
    asked = [way for name, way in _SAYS.items() if settings.get(name) is True]
    others = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True]
    return asked[0] if len(asked) == len(others) == 1 else HEAD


def _on_the_hub(name: str) -> Path | None:
    found = cached_file(
        name,
        _FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def pool(model: Any, way: str) -> str:
    """Have a fresh head of a sequence classifier read what is asked for, and say so.

    Args:
        model: with its head, which is drawn; changed in place.
        way: one of `POOLINGS`.

    Returns:
        What is to be said before the first step; "" where nothing is to be done.
    """
    if way == HEAD:
        return ""
    if hasattr(model.config, "classifier_pooling"):  # ModernBERT has a word for it
        model.config.classifier_pooling = "cls" if way == FIRST else "mean"
        return _told(way, "")
    dense = _dense(model)
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if dense is None or not isinstance(layers, nn.ModuleList) or not _can_be_uniform(layers[-1]):
        return f"{type(model).__name__} reads the first token, although the folder pools otherwise ({way})"
    with torch.no_grad():
        dense.weight.copy_(torch.eye(len(dense.weight)))
        dense.bias.zero_()
    if way == FIRST:
        return _told(way, "")
    layers.append(_mean_layer(layers[-1], model.config))
    model.config.num_hidden_layers += 1
    return _told(way, ", by one more layer of uniform attention, which is not trained")


def _told(way: str, how: str) -> str:
    what = "the mean of a text's tokens" if way == MEAN else "the first token"
    return f"the head reads {what}, as this encoder was trained{how}"


def _dense(model: Any) -> nn.Linear | None:
    """The square layer with a tanh between a first token and the scores, of BERT's kind or of RoBERTa's."""
    bert = getattr(getattr(model.base_model, "pooler", None), "dense", None)
    if bert is not None and isinstance(getattr(model, "classifier", None), nn.Linear):
        return bert if isinstance(bert, nn.Linear) else None
    head = getattr(model, "classifier", None)
    found = getattr(head, "dense", None)
    is_roberta = type(head).__name__.endswith("RobertaClassificationHead")
    return found if is_roberta and isinstance(found, nn.Linear) else None


def _can_be_uniform(layer: Any) -> bool:
    """Whether attention follows from queries and keys alone, without places, in a layer of BERT's kind."""
    attention = getattr(layer, "attention", None)
    parts = (getattr(attention, "self", None), getattr(attention, "output", None), getattr(layer, "output", None))
    names = ({"query", "key", "value", "dropout"}, {"dense", "LayerNorm", "dropout"}, {"dense", "LayerNorm", "dropout"})
    return all(
        part is not None and {name for name, _ in part.named_children()} == own
        for part, own in zip(parts, names, strict=True)
    )


def averages(layer: Any) -> bool:
    """Whether a layer does nothing but average, as the one that `pool` adds."""
    if not _can_be_uniform(layer):
        return False
    attention = layer.attention.self
    return not (attention.query.weight.any() or attention.key.weight.any())


def _mean_layer(like: Any, config: Any) -> nn.Module:
    """A layer whose first token is the normed mean of all tokens that are attended to.

    Args:
        like: a layer of the same model.
        config: of the model, which all its layers share: it says how they attend.
    """
    layer = copy.deepcopy(like, memo={id(config): config})
    attention, fed = layer.attention, layer.output
    eye = torch.eye(attention.self.value.out_features)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        attention.self.value.weight.copy_(eye)
        attention.output.dense.weight.copy_(_LARGE * eye)
        for norm in (attention.output.LayerNorm, fed.LayerNorm):
            norm.weight.fill_(1.0)
    if hasattr(attention.self, "layer_idx"):
        attention.self.layer_idx += 1
    return layer.requires_grad_(False)  # type: ignore[no-any-return]
