"""Values that processes of one run hand to each other: numbers as they lie in memory, the rest as JSON.

JSON values, bytes, tuples, sets, mappings with any keys, numpy arrays and numbers, and dataclasses that this process
knows already: of these the fields are filled in, and no code of theirs runs. Nothing that arrives is executed.

What is sent is a JSON document behind its length, and behind that the *pieces* it refers to by where they begin:
arrays, bytes, and lists of nothing but numbers. A list of alike things, such as predictions, is turned on its side
first: one list for each of their fields, so that most of it is numbers.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

_PLAIN = (str, int, float, bool, type(None))
_HEAD = 8  # bytes of the length of the document
_FEWEST = 4  # numbers that are worth a piece


def dump(value: object) -> bytes:
    """A value as bytes.

    Raises:
        TypeError: something of another kind, by its type.

    Example:
        >>> load(dump({"seen": (1, 2.5), 3: np.arange(2)}))
        {'seen': (1, 2.5), 3: array([0, 1])}
    """
    packing = _Packing()
    document = json.dumps(packing.pack(value)).encode()
    return b"".join([len(document).to_bytes(_HEAD, "little"), document, *packing.pieces])


def load(data: bytes) -> Any:
    """The value again."""
    begin = _HEAD + int.from_bytes(data[:_HEAD], "little")
    return _Unpacking(memoryview(data)[begin:]).unpack(json.loads(data[_HEAD:begin]))


@final
class _Packing:
    """Takes a value apart into a document of JSON and the pieces that it refers to."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._end = 0

    def pack(self, value: object) -> Any:
        """The document of a value."""
        if type(value) in _PLAIN:
            return value
        if type(value) is bytes:
            return {"bytes": self._piece(value)}
        if isinstance(value, list):
            return self._list(value)
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return {"tuple": self._list(list(value))}
        if isinstance(value, set | frozenset):
            return {type(value).__name__: self._list(list(value))}
        if isinstance(value, Mapping):
            return {"dict": [self._list(list(value)), self._list(list(value.values()))]}
        if isinstance(value, np.ndarray | np.generic):
            return self._array(np.asarray(value))
        module, name, fields = _fields_of(value)
        return {"fields": [module, name, [self.pack(getattr(value, field)) for field in fields]]}

    def _piece(self, data: bytes) -> list[int]:
        begin, self._end = self._end, self._end + len(data)
        self.pieces.append(data)
        return [begin, len(data)]

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype.hasobject:
            return {"objects": [list(value.shape), self._list(value.ravel().tolist())]}
        return {"array": [value.dtype.str, list(value.shape), *self._piece(np.ascontiguousarray(value).tobytes())]}

    def _list(self, values: list[Any]) -> Any:
        kinds = {type(value) for value in values}
        if len(values) >= _FEWEST and (kinds == {float} or (kinds == {int} and _fit(values))):
            dtype = np.float64 if kinds == {float} else np.int64
            return {"numbers": self._array(np.array(values, dtype=dtype))}
        if len(values) > 1 and len(kinds) == 1:
            turned = self._turned(values, kinds.pop())
            if turned is not None:
                return turned
        return [self.pack(value) for value in values]

    def _turned(self, values: list[Any], kind: type) -> Any:
        """A list of alike things as one list for each of their fields; None where they have none in common."""
        if kind is dict:
            keys = list(values[0])
            if not keys or any(list(value) != keys for value in values):
                return None
            columns = [self._list([value[key] for value in values]) for key in keys]
            return {"dicts": [self._list(keys), columns]}
        if kind is tuple:
            if not values[0] or any(len(value) != len(values[0]) for value in values):
                return None
            return {"tuples": [self._list(list(column)) for column in zip(*values, strict=True)]}
        if not (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
            return None
        module, name, fields = _fields_of(values[0])
        return {"rows": [module, name, [self._list([getattr(value, field) for value in values]) for field in fields]]}


@final
class _Unpacking:
    """Puts a value together again.

    Args:
        pieces: all of them, end to end.
    """

    def __init__(self, pieces: memoryview) -> None:
        self._pieces = pieces
        self._kinds: Mapping[str, Callable[[Any], Any]] = {
            "bytes": self._bytes,
            "numbers": self._numbers,
            "tuple": lambda inside: tuple(self.unpack(inside)),
            "set": lambda inside: set(self.unpack(inside)),
            "frozenset": lambda inside: frozenset(self.unpack(inside)),
            "dict": self._dict,
            "dicts": self._dicts,
            "tuples": self._columns,
            "rows": self._rows,
            "fields": self._fields,
            "array": self._array,
            "objects": self._objects,
        }

    def unpack(self, document: Any) -> Any:
        """The value of a document."""
        if isinstance(document, list):
            return [self.unpack(item) for item in document]
        if not isinstance(document, dict):
            return document
        ((kind, inside),) = document.items()
        return self._kinds[kind](inside)

    def _bytes(self, inside: list[int]) -> bytes:
        begin, length = inside
        return bytes(self._pieces[begin : begin + length])

    def _numbers(self, inside: Any) -> list[Any]:
        found: list[Any] = self.unpack(inside).tolist()
        return found

    def _dict(self, inside: list[Any]) -> dict[Any, Any]:
        keys, values = (self.unpack(part) for part in inside)
        return dict(zip(keys, values, strict=True))

    def _dicts(self, inside: list[Any]) -> list[dict[Any, Any]]:
        keys, columns = self.unpack(inside[0]), self._columns(inside[1])
        return [dict(zip(keys, values, strict=True)) for values in columns]

    def _rows(self, inside: list[Any]) -> list[Any]:
        kind = _known(*inside[:2])
        return [_filled(kind, values) for values in self._columns(inside[2])]

    def _fields(self, inside: list[Any]) -> Any:
        return _filled(_known(*inside[:2]), self.unpack(inside[2]))

    def _array(self, inside: list[Any]) -> Any:
        dtype, shape, begin, length = inside
        made = np.frombuffer(self._pieces[begin : begin + length], dtype=dtype).reshape(shape).copy()
        return made if shape else made[()]

    def _objects(self, inside: list[Any]) -> Any:
        shape, values = inside
        made = np.empty(len(found := self.unpack(values)), dtype=object)
        made[:] = found
        return made.reshape(shape)

    def _columns(self, documents: list[Any]) -> list[tuple[Any, ...]]:
        return list(zip(*(self.unpack(column) for column in documents), strict=True))


def _fit(values: list[int]) -> bool:
    return min(values) >= -(2**63) and max(values) < 2**63


def _fields_of(value: object) -> tuple[str, str, Sequence[str]]:
    """Module and name of a kind of things that have fields, and these."""
    kind = type(value)
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    names = list(getattr(value, "_fields", ())) if names is None else names
    if not names or "<" in kind.__qualname__:
        raise TypeError(f"a {kind.__qualname__} cannot be handed to another process: use plain values or a dataclass")
    return kind.__module__, kind.__qualname__, names


def _known(module: str, path: str) -> Any:
    """A kind of things that this process knows already."""
    kind: Any = sys.modules[module]
    for name in path.split("."):
        kind = getattr(kind, name)
    return kind


def _filled(kind: Any, values: Sequence[Any]) -> Any:
    if hasattr(kind, "_fields"):
        return tuple.__new__(kind, values)
    made = object.__new__(kind)
    for field, item in zip(dataclasses.fields(kind), values, strict=True):
        object.__setattr__(made, field.name, item)
    return made
