"""``sftlib.json`` of a saved folder: every entry of the type it was written with, or the folder is refused.

A record holds values and no places: what is opened never depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sftlib.arguments import MOVED, PLACES, Arguments
from sftlib.support import storage
from sftlib.support.checking import is_number, nearest, raise_together

_BYTES = 2**26
_ENTRIES = ("task", "task_config", "self_contained", "inputs", "settings", "metrics")
_OF_AN_ADAPTER = ("base",)  # the SHA-256 of the weights that it stands on
_RESOLVED = ("layout", "gguf_file", "quantize", "temperature", "tempered", "conformal_level", "conformal_threshold")


def read_record(path: Path, *, adapter: bool = False) -> dict[str, Any]:
    """Read and check a record.

    Args:
        path: of the file.
        adapter: whether it is that of an adapter, which stands on a base.

    Raises:
        StorageError: it is no JSON object.
        ValueError: entries that are missing, unknown or of another type, all at once.
    """
    if path.stat().st_size > _BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, expected at most {_BYTES:,}")
    record = _of_today(storage.read_json(path))
    known = (*_ENTRIES, *(_OF_AN_ADAPTER if adapter else ()))
    problems = [f"{path.name} has {name!r:.60}: {nearest(name, known)}" for name in record if name not in known]
    problems += [f"{path.name} lacks {name!r}" for name in known if name not in record]
    raise_together(problems, ValueError)
    raise_together([f"{path.name}: {problem}" for problem in _problems(record) if problem], ValueError)
    return record


def _of_today(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of version 0.1, which had texts only and their limit at the top, as it is written now."""
    if "max_length" not in record or "inputs" in record:
        return dict(record)
    limit = {"max_length": record["max_length"]}
    return {"inputs": limit, **{name: value for name, value in record.items() if name != "max_length"}}


def _problems(record: Mapping[str, Any]) -> list[str | None]:
    settings, metrics, config = record["settings"], record["metrics"], record["task_config"]
    return [
        None if isinstance(record["task"], str) else f"task={record['task']!r:.60}: expected a name",
        None if isinstance(record["self_contained"], bool) else "self_contained: expected true or false",
        None if re.fullmatch("[0-9a-f]{64}", str(record.get("base", "0" * 64))) else "base: expected a SHA-256",
        None if isinstance(record["inputs"], dict) else "inputs: expected an object",
        None if isinstance(config, dict) else "task_config: expected an object",
        *(_setting_problems(settings) if isinstance(settings, dict) else ["settings: expected an object"]),
        *(_metric_problems(metrics) if isinstance(metrics, dict) else ["metrics: expected an object"]),
    ]


def _setting_problems(settings: Mapping[str, Any]) -> list[str]:
    known = [*(item.name for item in fields(Arguments) if item.name not in PLACES), *_RESOLVED, *MOVED]
    lists_too = ("metrics", "freeze", "conformal_threshold")
    problems = [f"settings has {name!r:.60}: {nearest(name, known)}" for name in settings if name not in known]
    problems += [f"settings lacks {name!r}" for name in ("model", "seed", "padding_free") if name not in settings]
    problems += [
        f"settings has {name}={value!r:.60}: expected a plain value"
        for name, value in settings.items()
        if not (_is_plain(value) or (name in lists_too and isinstance(value, list) and all(map(_is_plain, value))))
    ]
    texts = ("model", "device", "precision")
    return problems + [
        f"settings has {name}={settings[name]!r:.60}: expected a text"
        for name in texts
        if name in settings and not isinstance(settings[name], str)
    ]


def _metric_problems(metrics: Mapping[str, Any]) -> list[str]:
    return [
        f"metrics has {name:.60}={value!r:.60}: expected a number"
        for name, value in metrics.items()
        if not is_number(value)
    ]


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
