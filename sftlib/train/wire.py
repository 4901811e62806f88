"""Values that processes of one run hand to each other, as JSON: nothing that arrives is executed.

JSON values, bytes, tuples, sets, mappings with any keys, numpy arrays and numbers, and dataclasses that this process
knows already: of these the fields are filled in, and no code of theirs runs.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_PLAIN = (str, int, float, bool, type(None))


def dump(value: object) -> bytes:
    """A value as bytes.

    Raises:
        TypeError: something of another kind, by its type.

    Example:
        >>> load(dump({"seen": (1, 2.5), 3: np.arange(2)}))
        {'seen': (1, 2.5), 3: array([0, 1])}
    """
    return json.dumps(_pack(value)).encode()


def load(data: bytes) -> Any:
    """The value again."""
    return _unpack(json.loads(data))


def _pack(value: object) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_pack(item) for item in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return {"tuple": [_pack(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {type(value).__name__: [_pack(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_pack(key), _pack(item)] for key, item in value.items()]}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": [value.dtype.str, list(value.shape), value.ravel().tolist()]}
    kind = type(value)
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    names = list(getattr(value, "_fields", ())) if names is None else names
    if not names or "<" in kind.__qualname__:
        raise TypeError(f"a {kind.__qualname__} cannot be handed to another process: use plain values or a dataclass")
    return {"fields": [kind.__module__, kind.__qualname__, [_pack(getattr(value, name)) for name in names]]}


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    return _KINDS[kind](inside)


def _filled(inside: list[Any]) -> Any:
    module, path, values = inside
    kind: Any = sys.modules[module]
    for name in path.split("."):
        kind = getattr(kind, name)
    values = _unpack(values)
    if hasattr(kind, "_fields"):
        return tuple.__new__(kind, values)
    made = object.__new__(kind)
    for field, item in zip(dataclasses.fields(kind), values, strict=True):
        object.__setattr__(made, field.name, item)
    return made


def _array(inside: list[Any]) -> Any:
    dtype, shape, values = inside
    made = np.array(values, dtype=dtype).reshape(shape)
    return made if shape else made[()]


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "bytes": base64.b64decode,
    "tuple": lambda inside: tuple(_unpack(inside)),
    "set": lambda inside: set(_unpack(inside)),
    "frozenset": lambda inside: frozenset(_unpack(inside)),
    "dict": lambda inside: {_unpack(key): _unpack(item) for key, item in inside},
    "array": _array,
    "fields": _filled,
}
