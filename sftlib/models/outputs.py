"""Reading what a model returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def logits(outputs: Any) -> Tensor:
    """The scores in whatever a model returned, in fp32 at least: a tensor, ``.logits``, or the first of a tuple."""
    found = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    if found is None and isinstance(outputs, Mapping):
        found = outputs.get("logits")
    if found is None and isinstance(outputs, tuple):
        found = outputs[0]
    if not isinstance(found, Tensor):
        raise TypeError(f"the model returned {type(outputs).__name__}; expected a tensor or something with .logits")
    return found.to(torch.promote_types(found.dtype, torch.float32))
