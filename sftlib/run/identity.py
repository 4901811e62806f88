"""What a run is known by when it is to go on: its options, data, weights and versions, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from sftlib.arguments import Arguments
from sftlib.models.adapters import described as described_adapter
from sftlib.support.libraries import versions
from sftlib.support.redaction import redacted
from sftlib.tasks.base import Task
from sftlib.train.callbacks import Callback, EarlyStopping


def described_options(arguments: Arguments, model: str, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Every option as JSON values that can be compared, without secrets; objects by their name.

    Args:
        arguments: as given.
        model: what the model is called; where it lies does not matter, its weights are compared.
        callbacks: of the user.
    """
    options = {name: _described(value) for name, value in arguments.of_a_result().items()}
    options["adapter"] = described_adapter(arguments.adapter)
    if isinstance(arguments.task, Task):
        options["task"] = {"name": arguments.task.name, **arguments.task.config()["options"]}
    kinds = [_named(callback) for callback in callbacks]  # by kind alone: what they hold is state, which is restored
    described: dict[str, Any] = redacted({**options, "model": model, "callbacks": kinds})
    return described


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each entry that is not what it was.

    Example:
        >>> differences({"epochs": 3, "warmup": 1}, {"epochs": 4, "warmup": 1})
        ['epochs: 3 -> 4']
    """
    names = list(dict.fromkeys([*before, *now]))
    lines = []
    for name in names:
        old, new = before.get(name), now.get(name)
        if json.dumps(old) == json.dumps(new):  # 1 is not 1.0
            continue
        if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys() and "rows" not in old:
            lines += [f"{name}.{line}" for line in differences(old, new)]
        else:
            lines.append(f"{name}: {_shown(old)} -> {_shown(new)}")
    return lines


def digest_of_weights(model: nn.Module) -> str:
    """Hex SHA-256 over every weight and its name."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def digest_of(value: object) -> str:
    """Hex SHA-256 over a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def libraries() -> dict[str, str]:
    """Versions that could change a result."""
    return versions("numpy")


def _described(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, EarlyStopping | torch.device):
        return str(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):  # such as `Text`; without what it leaves open
        given = {item.name: _described(getattr(value, item.name)) for item in fields(value) if item.compare}
        return {type(value).__qualname__: given}
    return _named(value)


def _named(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return str(named.__qualname__)  # without its module: a script is `__main__` today and imported tomorrow


def _shown(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("rows"), int):
        return f"{value['rows']:,} rows, fingerprint {value.get('fingerprint')!s:.12}"
    text = json.dumps(value)
    is_digest = isinstance(value, str) and len(value) == 64
    return f"SHA-256 {value[:12]}" if is_digest else text
