"""Frozen values whose options are their fields: tasks, and what they learned. Written as JSON and read back strictly.

Reading is constructing, so whatever a value checks when it is made is checked of a file too, once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from sftlib.errors import OptionError
from sftlib.support.checking import nearest, raise_together

T = TypeVar("T")
Problem = str | Literal[False] | None


def given_fields(value: Any) -> list[Field[Any]]:
    """The fields of a dataclass, or of an object of one, that are given when it is made and compared."""
    return [item for item in fields(value) if item.init and item.compare]


def settle(value: Any) -> None:
    """Make numpy's numbers Python's, lists tuples, and mappings dicts of their own, in a frozen dataclass.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Walk:
        ...     steps: int
        ...     places: tuple[str, ...] = ()
        >>> walk = Walk(np.int64(2), ["here", "there"])
        >>> settle(walk)
        >>> walk
        Walk(steps=2, places=('here', 'there'))
    """
    for item in given_fields(value):
        object.__setattr__(value, item.name, _plain(getattr(value, item.name)))


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A value that checks itself when it is made: whoever inherits says in `problems` what is wrong with it.

    Raises:
        OptionError: all of it at once.
    """

    def __post_init__(self) -> None:
        settle(self)
        raise_together(self.problems())

    def problems(self) -> Iterable[Problem]:
        """What is wrong with its fields."""
        return ()


def shown(value: Any, *, without: Collection[str] = ()) -> str:
    """A dataclass as it is written, without what has its default.

    Args:
        value: the dataclass.
        without: fields that are left out in any case.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Walk:
        ...     steps: int = 1
        ...     back: bool = False
        >>> shown(Walk(back=True))
        'Walk(back=True)'
    """
    values = {item.name: (getattr(value, item.name), item.default) for item in given_fields(value)}
    listed = [
        f"{name}={now!r}"
        for name, (now, usual) in values.items()
        if name not in without and (usual is MISSING or now != usual)
    ]
    return f"{type(value).__name__}({', '.join(listed)})"


def as_json(value: Any) -> Any:
    """A value as JSON: of a dataclass an object, of a mapping a list of pairs, since a key need not be a text.

    Example:
        >>> as_json({True: 1.0, False: 0.5})
        [[True, 1.0], [False, 0.5]]
    """
    if is_dataclass(value):
        return {item.name: as_json(getattr(value, item.name)) for item in given_fields(value)}
    if isinstance(value, Mapping):
        return [[as_json(key), as_json(item)] for key, item in value.items()]
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


def from_json(kind: type[T], given: object, *, name: str) -> T:
    """The dataclass that `as_json` described.

    Args:
        kind: of dataclass; its fields say what is a mapping or a dataclass again.
        given: as it was read.
        name: what to call it in messages.

    Raises:
        OptionError: no object, entries that ``kind`` does not have or that it lacks, or values that they cannot have.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Walk:
        ...     steps: int = 1
        ...     back: bool = False
        >>> from_json(Walk, {"steps": 3}, name="walk")
        Walk(steps=3, back=False)
        >>> from_json(Walk, {"step": 2}, name="walk")
        Traceback (most recent call last):
        ...
        sftlib.errors.OptionError: walk has 'step': did you mean 'steps'?
    """
    if not isinstance(given, Mapping):
        raise OptionError(f"{name}: found {given!r:.60}, expected an object")
    known = {item.name: item for item in given_fields(kind)}
    needed = [item.name for item in known.values() if item.default is MISSING and item.default_factory is MISSING]
    raise_together(
        [
            *(f"{name} has {entry!r:.60}: {nearest(entry, known)}" for entry in given if entry not in known),
            *(f"{name} lacks {entry!r}" for entry in needed if entry not in given),
        ]
    )
    hints = get_type_hints(kind)
    values = {entry: _read(hints[entry], value, f"{name}.{entry}") for entry, value in given.items()}
    try:
        return kind(**values)
    except OptionError as error:
        raise OptionError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _read(hint: Any, value: object, name: str) -> Any:
    """A value as its field wants it; what is of a wrong type is left for the dataclass to refuse."""
    kinds: list[Any] = [hint, *get_args(hint)]
    inner: Any = next((kind for kind in kinds if is_dataclass(kind)), None)
    if inner is not None and value is not None:
        return from_json(inner, value, name=name)
    if hint is NoneType and value is not None:
        raise OptionError(f"{name}: found {value!r:.60}, expected null")
    if any(get_origin(kind) is Mapping for kind in kinds) and isinstance(value, list | Mapping):
        return _mapping(value, name)
    return value


def _mapping(value: object, name: str) -> dict[Any, Any]:
    good = isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    if not isinstance(value, list) or not good or not all(isinstance(key, str | int) for key, _ in value):
        raise OptionError(f"{name}: found {value!r:.60}, expected pairs of a key and a value")
    return dict(value)
