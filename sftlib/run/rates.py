"""The learning rate of those who name none, by what is trained; and the rates of parts that have one of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from torch import nn

from sftlib.errors import OptionError
from sftlib.models.adapters import rate_of_adapters
from sftlib.models.own_heads import body_under, own_head
from sftlib.models.structure import layers_of

WHOLE_MODEL: Final = 5e-5
USUAL_WIDTH: Final = 768  # of the models that this rate is usual for
NARROW: Final = 2e-4  # the most for a pretrained body, however narrow
ONE_LAYER: Final = 1e-2  # on features that stay as they are, or nearly; measured on five sets, see docs/benchmarks.md
DEEPER_HEAD: Final = 1e-3


@final
@dataclass(frozen=True)
class Rates:
    """Peaks of the learning rate.

    Attributes:
        whole: of everything that has no rate of its own.
        head: of what stands outside the body, where that is another; else None.
        own: name of a parameter -> its rate, of those that have another.
    """

    whole: float
    head: float | None = None
    own: Mapping[str, float] = field(default_factory=dict)


def rates_of(
    model: nn.Module,
    asked: float | None,
    *,
    head: float | None = None,
    decay: float = 1.0,
    adapted: bool = False,
    whole: float | None = None,
    attached: Collection[str] = (),
    new: Collection[str] = (),
) -> Rates:
    """The rates of a run.

    Args:
        model: with its head, frozen as it will be.
        asked: ``learning_rate``, or None for what is usual.
        head: ``head_learning_rate``, or None for what is usual.
        decay: ``layer_decay``.
        adapted: whether the model has an adapter.
        whole: what is good for all of the model, where that is not what pretrained ones want.
        attached: names of children that were added to the model and are no part of its body.
        new: names of parameters that begin at nothing and, where no rate is named, learn as fast as they would alone.

    Raises:
        OptionError: a rate of a head, or of layers, that cannot be found in the model.

    Example:
        >>> from sftlib.testing import tiny_model
        >>> found = rates_of(tiny_model("bert", 2), 1e-4, head=1e-3, decay=0.5)
        >>> found.own["classifier.weight"], found.own["bert.embeddings.word_embeddings.weight"]
        (0.001, 2.5e-05)
    """
    rate = usual_rate(model, adapted=adapted, whole=whole) if asked is None else asked
    outside = None if head is None else _of_head(model, head, attached)
    if head is None and asked is None and not adapted:
        outside = _usual_head(model, new)
        head = max(outside.values(), default=None)
    own = {**_of_layers(model, rate, decay), **(outside or {})}
    return Rates(rate, head, {name: peak for name, peak in own.items() if peak != rate})


def _usual_head(model: nn.Module, new: Collection[str]) -> dict[str, float]:
    """Name -> rate of what begins at nothing above a body that is trained, where it is usually another.

    The steps that are good for such a layer on features that stay are good for it on features that hardly change. At
    the rate of the body it would take many epochs to say what the features tell already, and the body would be bent by
    it meanwhile (ants and bees, and 500 questions of 77 kinds, in three epochs, docs/benchmarks.md).
    """
    body, own = body_under(model), own_head(model)
    if body is None or not any(parameter.requires_grad for parameter in body.parameters()):
        return {}
    inside = {id(parameter) for parameter in body.parameters()}
    above = [name for name, p in model.named_parameters() if id(p) not in inside and p.requires_grad]
    if own is not None:
        return dict.fromkeys(above, own.usual_rate)
    begun = [name for name in above if name in new]
    return dict.fromkeys(begun, ONE_LAYER if len({_owner(name) for name in begun}) == 1 else DEEPER_HEAD)


def _added(model: nn.Module, attached: Collection[str]) -> set[str]:
    """The names of parameters in children that were added."""
    return {name for name, _ in model.named_parameters() if name.partition(".")[0] in attached}


def _of_head(model: nn.Module, rate: float, attached: Collection[str]) -> dict[str, float]:
    """Name -> rate of what stands outside the body.

    Raises:
        OptionError: body and head cannot be told apart.
    """
    body, added = body_under(model), _added(model, attached)
    if body is None and added:
        return dict.fromkeys(added, rate)
    if body is None:
        raise OptionError(
            f"head_learning_rate: body and head of {type(model).__name__} cannot be told apart; leave it out, or give "
            "a model of transformers with a head"
        )
    inside = {id(parameter) for parameter in body.parameters()}
    return {name: rate for name, parameter in model.named_parameters() if id(parameter) not in inside}


def _of_layers(model: nn.Module, rate: float, decay: float) -> dict[str, float]:
    """Name -> rate of the body's parameters: the top layer has all of it, and what stands before them the least.

    Raises:
        OptionError: the layers cannot be found.
    """
    if decay == 1:
        return {}
    body = body_under(model)
    layers = None if body is None else layers_of(body, headless=True)
    if body is None or layers is None:
        raise OptionError(
            f"layer_decay={decay}: the layers of {type(model).__name__} cannot be found, or share their weights; leave "
            "it out, or use head_learning_rate"
        )
    depth = {id(p): len(layers) - 1 - number for number, layer in enumerate(layers) for p in layer.parameters()}
    found, below = {}, len(layers)  # in the order of a body, what stands before its layers feeds them
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter in body.parameters():
        below = 0 if id(parameter) in depth else below
        found[names[id(parameter)]] = rate * decay ** depth.get(id(parameter), below)
    return found


def usual_rate(model: nn.Module, *, adapted: bool, whole: float | None = None) -> float:
    """A good peak of the schedule.

    A body that is pretrained already wants small steps; an adapter, which begins at nothing, larger ones; a layer that
    begins at nothing on features that stay as they are, the largest. Where body and head cannot be told apart, as in a
    module of one's own, a single layer that is trained while others are frozen is taken for such a layer.

    Args:
        model: with its head, frozen as it will be.
        adapted: whether it has an adapter.
        whole: what is good for all of the model, where that is not what pretrained ones want.

    Example:
        >>> from sftlib.testing import tiny_model
        >>> model = tiny_model("bert", 2)
        >>> usual_rate(model, adapted=False)  # very narrow
        0.0002
        >>> _ = model.bert.requires_grad_(False)
        >>> usual_rate(model, adapted=False)
        0.01
    """
    if adapted:
        return rate_of_adapters(model)
    body = body_under(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    alone = len({_owner(name) for name in trained}) == 1
    if body is None:
        behind_frozen = alone and len(trained) < sum(1 for _ in model.parameters())
        return ONE_LAYER if behind_frozen else whole or WHOLE_MODEL
    if any(parameter.requires_grad for parameter in body.parameters()):
        return whole or _of_width(body)
    own = own_head(model)
    return own.usual_rate if own is not None else ONE_LAYER if alone else DEEPER_HEAD


def _of_width(body: nn.Module) -> float:
    """The rate of a whole pretrained model: the smaller the wider it is, from the usual width down."""
    width = getattr(getattr(body, "config", None), "hidden_size", None)
    if not isinstance(width, int) or not 0 < width < USUAL_WIDTH:
        return WHOLE_MODEL
    return float(f"{min(NARROW, WHOLE_MODEL * USUAL_WIDTH / width):.2g}")


def _owner(name: str) -> str:
    """The layer of a parameter, also where what is learned stands behind what is computed with."""
    layer, behind, _ = name.partition(".parametrizations.")
    return layer if behind else name.rpartition(".")[0]
