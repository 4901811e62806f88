"""What can be read off a model: how wide it is, whether it drops out, how many parameters it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

#: Layers narrower than this gain nothing from bf16 (docs/benchmarks.md). They would gain from leaving padding out, but
#: their steps are cheap, and computed as they compute themselves they agree with a plain loop bit by bit.
NARROW = 256


def typical_width(model: nn.Module) -> int:
    """The median over the model's own linear layers, not those of an adapter, of the smaller side; 0 without any."""
    added = {part for module in model.modules() for part in _of_adapter(module)}
    own = [m for m in model.modules() if isinstance(m, nn.Linear) and m not in added]
    sides = sorted(min(m.in_features, m.out_features) for m in own)
    return sides[len(sides) // 2] if sides else 0


def _of_adapter(module: Any) -> Iterator[nn.Module]:
    """What `peft` added to a module that it stands around: thin layers, which tell nothing of the model."""
    for name in getattr(module, "adapter_layer_names", ()):
        part = getattr(module, name, None)
        if isinstance(part, nn.Module):
            yield from part.modules()


def dropout_rates(config: Any) -> dict[str, float]:
    """Every dropout rate that a transformers config names."""
    return {
        name: float(value)
        for name, value in config.to_dict().items()
        if re.search(r"dropout|drop_prob|pdrop|_drop$", name) and isinstance(value, int | float)
    }


def parts_of(config: Any) -> list[Any]:
    """The configs inside a config: of the encoder and the decoder of a model put together of two."""
    return [value for value in vars(config).values() if hasattr(value, "to_dict")]


def drops_out(model: nn.Module) -> bool:
    """Whether anything in the model drops out, as far as its modules and its config tell."""
    config = getattr(model, "config", None)
    configs = [config, *parts_of(config)] if hasattr(config, "to_dict") else []
    rates = [rate for part in configs for rate in dropout_rates(part).values()]
    return any(rates) or any(m.p > 0 for m in model.modules() if isinstance(m, nn.Dropout))


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trained, all) parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
