"""The generators that callbacks may draw from: Python's, numpy's and torch's own.

The library itself draws from none of them in training (batches and dropout are functions of counters), so this is for
the code of users.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def generator_states() -> dict[str, Any]:
    """Where each generator stands, as JSON values, arrays and tensors; asking draws nothing."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def set_generator_states(states: Mapping[str, Any]) -> None:
    """Put each generator back to where it stood; devices that are not there any more are left out."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)
