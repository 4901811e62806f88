"""The learning rate of those who name none, by what is trained."""

from __future__ import annotations

from torch import nn

from sftlib.models.adapters import rate_of_adapters
from sftlib.models.structure import body_of

WHOLE_MODEL = 5e-5
ONE_LAYER = 1e-2  # on features that stay as they are; measured on five sets, see docs/benchmarks.md
DEEPER_HEAD = 1e-3


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
        >>> usual_rate(model, adapted=False)
        5e-05
        >>> _ = model.bert.requires_grad_(False)
        >>> usual_rate(model, adapted=False)
        0.01
    """
    if adapted:
        return rate_of_adapters(model)
    body = body_of(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    alone = len({_owner(name) for name in trained}) == 1
    if body is None:
        behind_frozen = alone and len(trained) < sum(1 for _ in model.parameters())
        return ONE_LAYER if behind_frozen else whole or WHOLE_MODEL
    if any(parameter.requires_grad for parameter in body.parameters()):
        return whole or WHOLE_MODEL
    return ONE_LAYER if alone else DEEPER_HEAD


def _owner(name: str) -> str:
    """The layer of a parameter, also where what is learned stands behind what is computed with."""
    layer, behind, _ = name.partition(".parametrizations.")
    return layer if behind else name.rpartition(".")[0]
