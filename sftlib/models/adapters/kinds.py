"""What can be asked for under ``adapter=``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from sftlib.errors import OptionError
from sftlib.models.adapters.config import config_from, config_problem, settings_of
from sftlib.models.adapters.library import peft
from sftlib.support.checking import checked_fields, real_number, true_or_false, whole_number

EVERYTHING = "all-linear"
_WORD = "lora"
_LARGEST_RANK = 2**16


@final
@checked_fields
@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al., 2021): to every targeted matrix ``W`` a product ``B A`` of rank ``r`` is added.

    Attributes:
        r: rank.
        alpha: the product is scaled by ``alpha / r``, with ``rslora`` by ``alpha / sqrt(r)``; None for a scale of 2.
        dropout: rate on the input of the new layers; the masks are the library's own, whatever the layout.
        targets: names of modules, or their last parts, such as ``["q_proj", "v_proj"]``; None for every linear layer of
            the body.
        rslora: scale by the root of the rank (Kalajdzievski, 2023), which suits high ranks.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> LoRA(r=8)
        LoRA(r=8, alpha=None, dropout=0.0, targets=None, rslora=False)
    """

    r: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] | list[str] | None = None
    rslora: bool = False

    def __post_init__(self) -> None:
        targets = self.targets
        named = isinstance(targets, list | tuple) and targets and all(isinstance(name, str) for name in targets)
        found = [
            whole_number("r", self.r, at_least=1, at_most=_LARGEST_RANK),
            None
            if self.alpha is None
            else real_number("alpha", self.alpha, 0, expected="a number above 0", ends=False),
            real_number("dropout", self.dropout, 0, 1, expected="a number of at least 0 and below 1"),
            "dropout=1: expected a number of at least 0 and below 1" if self.dropout == 1 else None,
            None
            if targets is None or named
            else f"targets={targets!r:.60}: expected a list of names of modules, or None",
            true_or_false("rslora", self.rslora),
        ]
        problems = [f"LoRA: {problem}" for problem in found if problem]
        if problems:
            raise OptionError("\n".join(problems))

    @property
    def scaled_by(self) -> float:
        """``alpha`` as resolved."""
        return float(2 * (self.r**0.5 if self.rslora else self.r) if self.alpha is None else self.alpha)

    def config(self) -> Any:
        """The same in the words of `peft`; targets are settled when the model is there."""
        targets = None if self.targets is None else list(self.targets)
        return peft().LoraConfig(
            r=self.r,
            lora_alpha=self.scaled_by,
            lora_dropout=self.dropout,
            target_modules=EVERYTHING if targets is None else targets,
            use_rslora=self.rslora,
        )


@final
@dataclass(frozen=True)
class SavedAdapter:
    """An adapter that was read from a folder: what a loaded `FineTuner` starts from.

    Attributes:
        settings: the fields of `peft`'s config, checked.
        weights: name in the model -> weight.
        labels: of the head that was trained with it, in the order of its rows; empty where it has none.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    labels: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"SavedAdapter({self.settings['peft_type']}, {len(self.weights)} weights)"

    def config(self) -> Any:
        """The config of `peft`."""
        return config_from(self.settings)


def adapter_problem(value: object) -> str | None:
    """What is wrong with a value of ``adapter=``, as far as that can be known without a model.

    Raises:
        MissingExtraError: an adapter is asked for and `peft` is not installed.

    Example:
        >>> adapter_problem("lara")
        "adapter='lara': expected 'lora', LoRA(r=16, ...), a config of peft, or None"
    """
    if value is None:
        return None
    shown = f"adapter={value!r:.60}"
    if not (value == _WORD if isinstance(value, str) else isinstance(value, LoRA | SavedAdapter) or _is_peft(value)):
        hint = ": pass an object, not the class" if isinstance(value, type) else ""
        return f"{shown}: expected 'lora', LoRA(r=16, ...), a config of peft, or None{hint}"
    if isinstance(value, str | LoRA | SavedAdapter):
        peft()
        return None
    if not isinstance(value, peft().PeftConfig):
        return f"{shown}: expected 'lora', LoRA(r=16, ...), a config of peft, or None"
    return config_problem(value)


def described(adapter: object) -> str | None:
    """An adapter as a line of text, the same for equal adapters."""
    if adapter is None:
        return None
    if isinstance(adapter, SavedAdapter):
        return repr(adapter)
    if isinstance(adapter, str | LoRA):
        return repr(as_lora(adapter))
    return f"{type(adapter).__name__}({json.dumps(settings_of(adapter), sort_keys=True)})"


def as_lora(adapter: str | LoRA) -> LoRA:
    """The word means the usual settings."""
    return LoRA() if isinstance(adapter, str) else adapter


def _is_peft(value: object) -> bool:
    return not isinstance(value, type) and any(kind.__module__.startswith("peft.") for kind in type(value).__mro__)
