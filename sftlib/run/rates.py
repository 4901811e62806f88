"""The learning rates of those who name none, by what is trained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, final

from torch import nn

from sftlib.models.adapters import rate_of_adapters
from sftlib.models.structure import body_of, head_of

WHOLE_MODEL: Final = 5e-5
USUAL_WIDTH: Final = 768  # of the models that this rate is usual for; the rate falls as the width grows
NARROW: Final = 2e-4  # the most for a pretrained body, however narrow
ONE_LAYER: Final = 1e-2  # on features that stay as they are; measured on five sets, see docs/benchmarks.md
DEEPER_HEAD: Final = 1e-3
NEW_HEAD: Final = 10.0  # times the rate of the body under it; measured on four sets, see docs/benchmarks.md


@final
@dataclass(frozen=True)
class Rates:
    """Peaks of the schedule.

    Attributes:
        body: of what no other is named for.
        head: of the parameters above a pretrained body.
    """

    body: float
    head: float


def usual_rates(model: nn.Module, *, adapted: bool, whole: float | None = None, drawn: Collection[str] = ()) -> Rates:
    """Good peaks of the schedule.

    A body that is pretrained already wants small steps, the smaller the wider it is; what begins at nothing above it,
    ten times as large ones. An adapter, which begins at nothing as well, wants larger ones, and a layer on features
    that stay as they are the largest. Where body and head cannot be told apart, as in a module of one's own, a single
    layer that is trained while others are frozen is taken for such a layer.

    Args:
        model: with its head, frozen as it will be.
        adapted: whether it has an adapter.
        whole: what is good for all of the model, where that is not what pretrained ones want.
        drawn: names of the weights that begin at nothing.

    Example:
        >>> from sftlib.testing import tiny_model
        >>> model = tiny_model("bert", 2)
        >>> usual_rates(model, adapted=False, drawn=["classifier.weight"])
        Rates(body=0.0002, head=0.002)
        >>> usual_rates(model, adapted=False)
        Rates(body=0.0002, head=0.0002)
        >>> _ = model.bert.requires_grad_(False)
        >>> usual_rates(model, adapted=False)
        Rates(body=0.01, head=0.01)
    """
    if adapted:
        return _alike(rate_of_adapters(model))
    body = body_of(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    alone = len({_owner(name) for name in trained}) == 1
    if body is None:
        behind_frozen = alone and len(trained) < sum(1 for _ in model.parameters())
        return _alike(ONE_LAYER if behind_frozen else whole or WHOLE_MODEL)
    if not any(parameter.requires_grad for parameter in body.parameters()):
        return _alike(ONE_LAYER if alone else DEEPER_HEAD)
    if whole is not None:
        return _alike(whole)
    rate = _rate_of(model)
    return Rates(rate, NEW_HEAD * rate if head_of(model) & set(drawn) else rate)


def _alike(rate: float) -> Rates:
    return Rates(rate, rate)


def _rate_of(model: nn.Module) -> float:
    """Of a whole pretrained model."""
    width = getattr(getattr(model, "config", None), "hidden_size", None)
    if not isinstance(width, int) or not 0 < width < USUAL_WIDTH:
        return WHOLE_MODEL
    return float(f"{min(NARROW, WHOLE_MODEL * USUAL_WIDTH / width):.2g}")


def _owner(name: str) -> str:
    """The layer of a parameter, also where what is learned stands behind what is computed with."""
    layer, behind, _ = name.partition(".parametrizations.")
    return layer if behind else name.rpartition(".")[0]
