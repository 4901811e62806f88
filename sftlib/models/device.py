"""Which device to compute on."""

from __future__ import annotations

import torch

from sftlib.errors import OptionError


def resolve_device(name: str) -> torch.device:
    """``"auto"`` takes CUDA, else Apple's MPS, else the CPU; any name that torch knows is taken as it is.

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
        raise OptionError(
            f"device={name!r} is not to be had here: use 'auto', 'cpu', or a device of this machine"
        ) from error
    return device
