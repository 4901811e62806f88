"""Number formats of the forward and backward pass; the weights and the optimizer stay in fp32."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.sizes import NARROW, typical_width
from sftlib.support.checking import choice


class Precision(ABC):
    """How products are computed.

    Attributes:
        name: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        reason: why this one, for the start-up line.
    """

    name: str

    def __init__(self, reason: str = "as asked") -> None:
        self.reason = reason

    @abstractmethod
    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass."""

    def scale(self, total: Tensor) -> Tensor:
        """What to call ``backward`` on instead of the total loss."""
        return total

    def divisor(self) -> float:
        """What gradients must be divided by to undo `scale`."""
        return 1.0

    def after_step(self, finite: bool) -> bool:
        """Hear whether loss and gradients of the step were finite; answer whether that is nothing to worry about."""
        return finite


@final
class Fp32(Precision):
    """Single precision everywhere."""

    name = "fp32"

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()


@final
class Bf16(Precision):
    """Products in bfloat16: the range of fp32, 8 bits of precision."""

    name = "bf16"

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, dtype=torch.bfloat16)


@final
class Fp16(Precision):
    """Products in half precision, with a loss scale that halves on overflow and doubles after 2,000 good steps."""

    name = "fp16"

    def __init__(self, reason: str = "as asked") -> None:
        super().__init__(reason)
        self.loss_scale = 2.0**12
        self.good_steps = 0

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, dtype=torch.float16)

    def scale(self, total: Tensor) -> Tensor:
        return total * self.loss_scale

    def divisor(self) -> float:
        return self.loss_scale

    def after_step(self, finite: bool) -> bool:
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.loss_scale /= 2
            return self.loss_scale >= 1.0  # an overflow that a smaller scale cures is part of the method
        if self.good_steps == 2_000:
            self.loss_scale, self.good_steps = self.loss_scale * 2, 0
        return True


_BY_NAME: dict[str, type[Precision]] = {"fp32": Fp32, "bf16": Bf16, "fp16": Fp16}


def resolve_precision(name: str, *, device: torch.device, model: nn.Module) -> Precision:
    """The precision a name stands for; ``"auto"`` is decided from what device and model are, never from a stopwatch.

    Raises:
        OptionError: an unknown name.
    """
    problem = choice("precision", name, ["auto", *_BY_NAME])
    if problem is not None:
        raise OptionError(problem)
    if name != "auto":
        return _BY_NAME[name]()
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return Bf16("tensor cores for bf16") if capability >= (8, 0) else Fp16("tensor cores for fp16")
    if device.type != "cpu":
        return Fp32("the safe choice on this device")
    units = _bf16_units()
    if units is None:
        return Fp32("this processor has no instructions for products in bf16")
    if typical_width(model) < NARROW:
        return Fp32(f"layers narrower than {NARROW} gain little from bf16")
    return Bf16(f"this processor has instructions for products in bf16: {units}")


def _bf16_units() -> str | None:
    """What the processor multiplies bf16 numbers with; torch before 2.9 cannot tell, so nothing.

    On Zen 4, AVX512-BF16 does 346 to 443 GFLOP/s where fp32 does 139 to 209, from width 256 up (docs/benchmarks.md).
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    named = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    return next((name for key, name in named.items() if capabilities.get(key, False)), None)
