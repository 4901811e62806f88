"""What an adapter stands on: the weights that it does not train, by which a saved adapter knows its base."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from operator import itemgetter

import torch
from torch import Tensor, nn

from sftlib.models.adapters.library import NAME, own_names


def base_digest(model: nn.Module, plain: nn.Module | None = None) -> str:
    """Hex SHA-256 over the weights that a model's adapter stands on, by name; what is trained is no part of it.

    Args:
        model: with its adapter.
        plain: its base in full precision, when the model holds it in fewer bits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(_base_weights(model, plain), key=itemgetter(0)):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stamps(model: nn.Module) -> dict[int, int]:
    """Where the base's weights lie and how often they were written to."""
    names = {name: value for name, value in model.named_parameters() if not value.is_meta}
    new = ("lora_", ".modules_to_save.")
    own = own_names(model) if hasattr(model, "peft_config") else set()
    return {
        value.data_ptr(): value._version
        for name, value in names.items()
        if name not in own and not any(part in name for part in new)
    }


def _base_weights(model: nn.Module, plain: nn.Module | None) -> Iterator[tuple[str, Tensor]]:
    """Weights that the adapter does not train, under the names they have in a plain model."""
    state = model.state_dict()
    wrapped = {name.partition(".modules_to_save.")[0] for name in state if ".modules_to_save." in name}
    own, tokens = own_names(model), {_plain_name(name): rows for name, rows in _trained_rows(model).items()}
    weights = {_plain_name(name): value for name, value in state.items() if name not in own}  # copies lie in `wrapped`
    for name, value in (weights if plain is None else plain.state_dict()).items():
        if not any(name.startswith(f"{part}.") for part in wrapped):
            yield name, _without_rows(value, tokens.get(name, ()))


def _plain_name(name: str) -> str:
    return re.sub(r"\.(?:base_layer|token_adapter|original_module)(?=\.)", "", name)


def _trained_rows(model: nn.Module) -> dict[str, Sequence[int]]:
    """Name of an embedding's weight -> the tokens whose rows are trained."""
    return {
        f"{name}.token_adapter.base_layer.weight": module.token_adapter.token_indices[NAME]
        for name, module in model.named_modules()
        if hasattr(module, "token_adapter")
    }


def _without_rows(table: Tensor, rows: Sequence[int]) -> Tensor:
    """A table with some rows set to 0, whatever they were."""
    return table.index_fill(0, torch.tensor(list(rows), device=table.device), 0.0) if len(rows) else table
