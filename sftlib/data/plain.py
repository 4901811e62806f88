"""Lists, mappings and cells of whatever make, as Python's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def as_list(value: object) -> list[Any] | None:
    """The members of a list, a tuple or a flat array, in their order; None for anything else.

    Example:
        >>> as_list(("a", "b")), as_list(np.array([1, 2])), as_list("ab"), as_list({"a", "b"})
        (['a', 'b'], [1, 2], None, None)
    """
    if isinstance(value, np.ndarray):
        return list(value.tolist()) if value.ndim else None
    return list(value) if isinstance(value, list | tuple) else None


def whole(value: object) -> int | None:
    """A whole number as Python's own int; None for anything else, bools and floats among it.

    Example:
        >>> whole(np.int64(3)), whole(True), whole(3.0)
        (3, None, None)
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        return None
    return int(value)


def json_cell(cell: object) -> object:
    """What a cell of text says in JSON; itself where it is none, None where it is empty.

    Example:
        >>> json_cell('["a"]'), json_cell("[a"), json_cell("")
        (['a'], '[a', None)
    """
    if not isinstance(cell, str):
        return cell
    if cell == "":
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def copied(value: Any) -> Any:
    """A value that can be changed without changing the one it was made of; what is not a list or dict is itself.

    Example:
        >>> original = [{"role": "user"}]
        >>> copied(original)[0].update(role="tool")
        >>> original
        [{'role': 'user'}]
    """
    if type(value) is list:
        return [copied(member) for member in value]
    return {key: copied(item) for key, item in value.items()} if type(value) is dict else value


def plain_json(value: object) -> Any:
    """A value of lists, mappings, strings, numbers, bools and None as Python's own.

    Raises:
        ValueError: it holds something else, or text that cannot be encoded as UTF-8.

    Example:
        >>> plain_json({"a": (np.int64(1), None)})
        {'a': [1, None]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        value.encode("utf-8")
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {plain_json(key): plain_json(item) for key, item in value.items()}
    if (members := as_list(value)) is not None:
        return [plain_json(member) for member in members]
    raise ValueError(f"{type(value).__name__} is not a value that JSON knows")


def without_nothing(value: object) -> object:
    """A value without the keys of its mappings that have none: what columns of one type put where a row lacks a key.

    Example:
        >>> without_nothing({"city": "Bonn", "zone": None, "more": [{"a": None}]})
        {'city': 'Bonn', 'more': [{}]}
    """
    if isinstance(value, Mapping):
        return {key: without_nothing(item) for key, item in value.items() if item is not None}
    members = as_list(value) if not isinstance(value, str) else None
    return value if members is None else [without_nothing(member) for member in members]
