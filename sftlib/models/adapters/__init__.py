"""Adapters: a few new weights beside frozen ones, by `peft`.

An adapter enters as a transform of the model before the optimizer is built. Its layers are put into the model itself,
which stays what transformers made of it: layouts, dropout masks and saved states meet the class they know. The head,
and whatever else the pretrained weights do not hold, is trained whole; the frozen weights underneath are never touched,
so that switching the adapter off gives the base again, to the bit.
"""

from __future__ import annotations

from sftlib.models.adapters.base import base_digest
from sftlib.models.adapters.insertion import (
    adapt,
    adapter_settings,
    adapter_weights,
    following,
    rate_of_adapters,
    with_adapter_of,
)
from sftlib.models.adapters.kinds import LoRA, SavedAdapter, adapter_problem, described
from sftlib.models.adapters.removal import adapter_off, has_adapter, merged, without_adapter

__all__ = [
    "LoRA",
    "SavedAdapter",
    "adapt",
    "adapter_off",
    "adapter_problem",
    "adapter_settings",
    "adapter_weights",
    "base_digest",
    "described",
    "following",
    "has_adapter",
    "merged",
    "rate_of_adapters",
    "with_adapter_of",
    "without_adapter",
]
