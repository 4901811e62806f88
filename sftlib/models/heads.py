"""The output layer of a module that is not of transformers: found by what it puts out, and made anew for other labels.

Letters: ``K`` outputs.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.attempts import attempt
from sftlib.models.seeds import seeded
from sftlib.models.structure import hooked
from sftlib.support.checking import nearest

Run = Callable[[], Tensor]


def with_outputs(model: nn.Module, outputs: int, run: Run, *, named: str | None, seed: int) -> str | None:
    """Give a module an output layer of another width, where it has another and it is certain which layer that is.

    Certain is: it is named; or the module has ``reset_classifier``, as timm's models have; or exactly one linear layer,
    or convolution of one pixel, puts out what the module puts out, or as many numbers.

    Args:
        model: changed.
        outputs: K
        run: its scores (1, K') of a small row.
        named: dotted name of the layer; None to find it.
        seed: of its new weights.

    Returns:
        The name of the layer that was replaced; None where nothing was.

    Raises:
        OptionError: there is no such layer, or it cannot be told which one it is.
    """
    layers = _layers(model)
    if named is not None and named not in layers:
        raise OptionError(
            f"output_layer={named!r}: {type(model).__name__} has no linear layer, nor a convolution of one pixel, of "
            f"that name: {nearest(named, layers)}"
        )
    tried = attempt(lambda: _looked_at(model, layers, run), kinds=(Exception,))
    if tried.value is None:
        return None  # what is wrong with it is told when rows are at hand
    width, same = tried.value
    if named is None and (width is None or width == outputs):
        return None
    name = named or ("" if _resets(model) else _only(model, layers, same, width, outputs))
    with seeded(seed):
        if name:
            if _width(layers[name]) == outputs:
                return None
            _put(model, name, _anew(layers[name], outputs))
        else:
            model.reset_classifier(outputs)  # type: ignore[operator]
    what = f"its layer {name!r}" if name else "its classifier (reset_classifier)"
    logging.getLogger("sftlib").warning(
        "%s: %s put out %s numbers and is replaced by a new one of %d",
        type(model).__name__,
        what,
        _width(layers[name]) if name else width,
        outputs,
    )
    return name or "reset_classifier"


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> layer that could be the last: linear, or a convolution of one pixel."""
    return {
        name: module
        for name, module in model.named_modules()
        if name
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and set(module.kernel_size) == {1}))
    }


def _looked_at(model: nn.Module, layers: dict[str, nn.Module], run: Run) -> tuple[int | None, list[str]]:
    """How many numbers the module puts out (None where they are no row of scores), and which layers put out these."""
    seen: dict[str, Tensor] = {}

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _, __, found: seen.__setitem__(name, found.detach()) if isinstance(found, Tensor) else None

    was_training = model.training
    model.eval()
    try:
        with hooked([layer.register_forward_hook(look(name)) for name, layer in layers.items()]), torch.no_grad():
            scores = run()
    finally:
        model.train(was_training)
    if scores.dim() != 2 or len(scores) != 1:
        return None, []
    flat = scores.flatten()
    same = [name for name, found in seen.items() if found.numel() == flat.numel() and _equal(found.flatten(), flat)]
    return int(scores.shape[1]), same


def _equal(left: Tensor, right: Tensor) -> bool:
    return torch.equal(left.to(right.dtype), right)


def _resets(model: nn.Module) -> bool:
    return callable(getattr(model, "reset_classifier", None)) and callable(getattr(model, "get_classifier", None))


def _only(model: nn.Module, layers: dict[str, nn.Module], same: list[str], width: int | None, outputs: int) -> str:
    found = same or [name for name, layer in layers.items() if _width(layer) == width]
    if len(found) == 1:
        return found[0]
    which = f"may be {', '.join(map(repr, found[:5]))}" if found else "is none of its linear layers"
    raise OptionError(
        f"model={type(model).__name__}: it puts out {width:,} numbers and {outputs:,} are needed; which layer is to be "
        f"replaced cannot be told ({which}): name it in the task, such as output_layer={(found or ['fc'])[-1]!r}, or "
        "give the model its new layer yourself"
    )


def _width(layer: nn.Module) -> int:
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    assert isinstance(width, int)
    return width


def _anew(layer: nn.Module, outputs: int) -> nn.Module:
    """A layer of the same make with fresh weights."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        made: nn.Module = nn.Linear(layer.in_features, outputs, bias=bias)
    else:
        assert isinstance(layer, nn.Conv2d)
        made = nn.Conv2d(layer.in_channels, outputs, 1, stride=layer.stride, padding=layer.padding, bias=bias)  # type: ignore[arg-type]
    like = next(layer.parameters())
    return made.to(device=like.device, dtype=like.dtype).train(layer.training)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    before = getattr(owner, child)
    for other, held in list(owner._modules.items()):
        if held is before:
            setattr(owner, other, layer)


def random_like(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of the same form, of noise that is the same every time: of zeros many layers put out the same."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(value.shape, generator=generator, dtype=value.dtype) if value.is_floating_point() else value
        for name, value in copy.copy(inputs).items()
    }
