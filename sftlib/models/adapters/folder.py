"""An adapter's own files in a saved folder, in the layout that `peft` opens too."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from sftlib.models.adapters.config import SETTINGS, read_settings
from sftlib.models.adapters.insertion import adapter_settings, adapter_weights
from sftlib.models.adapters.kinds import SavedAdapter
from sftlib.models.files.strict import GENERATION, stored_weights
from sftlib.support import storage

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # what the model is called inside peft's own wrapper

#: Files of an adapter, beside those of its encoder.
ADAPTER_FILES = frozenset({SETTINGS, WEIGHTS, GENERATION})


def write_adapter(model: nn.Module, folder: Path) -> None:
    """Write an adapter, and what is trained whole with it; nothing of the base."""
    weights = {f"{_PREFIX}{name}": value.clone() for name, value in adapter_weights(model).items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    storage.write_json(folder / SETTINGS, adapter_settings(model))


def read_adapter(folder: Path) -> SavedAdapter:
    """Read the adapter of a verified folder; nothing in it is executed, and no base is looked for.

    Raises:
        StorageError: its settings are no JSON object.
        ValueError: settings that are not allowed, or weights that are none, or not finite.
    """
    settings = read_settings(folder / SETTINGS)
    stored = stored_weights(folder / WEIGHTS)
    odd = [name for name, weight in stored.items() if not name.startswith(_PREFIX) or weight.dtype is None]
    if odd:
        raise ValueError(f"{WEIGHTS} has {odd[0]:.80}, which is no weight of an adapter")
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(
                f"{WEIGHTS} has numbers that are not finite in {name:.80}; the run that made it went wrong"
            )
    return SavedAdapter(settings, {name.removeprefix(_PREFIX): value for name, value in weights.items()})
