"""Which device to compute on."""

from __future__ import annotations

import torch
from torch import Tensor

from sftlib.errors import OptionError

#: Where Python reads what is computed.
HOST = torch.device("cpu")


def resolve_device(name: str | torch.device) -> torch.device:
    """``"auto"`` takes CUDA, else Apple's MPS, else the CPU; any device that this machine has is taken as it is.

    Raises:
        OptionError: a device that this machine does not have.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise OptionError(f"device={str(name)!r}: this machine has no such device; expected {_present()}") from error
    if device.type == "meta":
        raise OptionError(f"device={str(name)!r}: nothing can be computed there; expected {_present()}")
    return device


def sent(values: Tensor, device: torch.device) -> Tensor:
    """What the host has, on a device; without waiting for what the device still computes.

    The other way the host always waits: it would read what is not there yet. (Apple's devices are waited for, since
    they copy from the host's own memory, which may be given to another tensor meanwhile.)
    """
    return values.to(device, non_blocking=device.type != "mps")


def _present() -> str:
    """The names that `resolve_device` takes on this machine."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return " or ".join(map(repr, ["auto", *cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]))
