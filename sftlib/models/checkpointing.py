"""Activation checkpointing: what a layer computed is thrown away and computed again in the backward pass.

A third more time for a fraction of the memory, and the very same numbers: dropout masks too, which are told at the
second time what they were told at the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sftlib.models.dropout import DropoutMasks
from sftlib.models.language.encoder_decoder import is_encoder_decoder


def can_checkpoint(model: nn.Module) -> bool:
    """Whether transformers knows the layers of a model, and what they drop out can be dropped once more."""
    if is_encoder_decoder(model):
        return False  # dropout by function calls is caught in the forward pass alone
    return bool(getattr(model, "supports_gradient_checkpointing", False))


@contextmanager
def checkpointed(model: Any, masks: DropoutMasks, *, on: bool) -> Iterator[None]:
    """While this context lasts, a model in training mode keeps the inputs of its layers only.

    Args:
        model: of transformers, where ``on``.
        masks: of this run.
        on: whether to do it at all.
    """
    if not on or getattr(model, "is_gradient_checkpointing", False):
        yield
        return
    new = hasattr(model, "activation_checkpointing_enable")  # transformers 5.2x renamed it
    enable = model.activation_checkpointing_enable if new else model.gradient_checkpointing_enable
    disable = model.activation_checkpointing_disable if new else model.gradient_checkpointing_disable
    enable({"use_reentrant": False, "context_fn": masks.twice})
    try:
        yield
    finally:
        disable()
