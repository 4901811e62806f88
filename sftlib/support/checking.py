"""Checking of keywords and option values: one decorator and a few helpers, used by every public call."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeGuard, TypeVar

from sftlib.errors import OptionError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def nearest(name: object, known: Iterable[object]) -> str:
    """A clause naming the known name nearest to ``name``, or all of them when none is near.

    Example:
        >>> nearest("learning_rat", ["epochs", "learning_rate"])
        "did you mean 'learning_rate'?"
        >>> nearest("zzz", ["epochs", "seed"])
        "known: 'epochs', 'seed'"
    """
    names = {str(item): item for item in known}
    lowered = {key.lower(): key for key in names}
    close = get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f"did you mean {names[lowered[close[0]]]!r}?"
    shown = ", ".join(repr(item) for item in list(names.values())[:20])
    return f"known: {shown}{', ...' if len(names) > 20 else ''}"


def checked(function: Callable[P, R], *, moved: Mapping[str, str] | None = None) -> Callable[P, R]:
    """Turn a call that does not fit the signature into an `OptionError` that names the nearest option.

    The function keeps its signature, docstring and types.

    Args:
        function: that is called.
        moved: options that it had once -> where each went.

    Raises:
        OptionError: an unknown keyword, too many positional arguments, or a missing one.

    Example:
        >>> @checked
        ... def fit(data, *, epochs=3): ...
        >>> fit([], epoch=1)
        Traceback (most recent call last):
        ...
        sftlib.errors.OptionError: fit() has no option 'epoch': did you mean 'epochs'?
    """
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    shown, hints = function.__qualname__.removesuffix(".__init__"), moved or {}
    usage = ", ".join([*positional, "*", "..."]) if len(known) > len(positional) else ", ".join(positional)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [] if takes_any else [name for name in kwargs if name not in known]
            # A class method is told by the class that it was called on, which may have inherited it.
            called = f"{args[0].__name__}.{function.__name__}" if args and isinstance(args[0], type) else shown
            found = [
                f"{called}() has no option {name!r}: {hints.get(name) or nearest(name, known)}" for name in unknown
            ]
            raise OptionError("\n".join(found) or f"{called}({usage}): {error}") from None
        return function(*args, **kwargs)

    return wrapper


def checked_fields(cls: type[T]) -> type[T]:
    """`checked` for a dataclass that users make: put it above ``@dataclass``.

    Example:
        >>> from dataclasses import dataclass
        >>> @checked_fields
        ... @dataclass(frozen=True)
        ... class Walk:
        ...     steps: int = 1
        >>> Walk(step=2)
        Traceback (most recent call last):
        ...
        sftlib.errors.OptionError: Walk() has no option 'step': did you mean 'steps'?
    """
    setattr(cls, "__init__", checked(cls.__init__))  # noqa: B010 - an assignment is refused by mypy
    return cls


def choice(option: str, value: object, known: Iterable[str]) -> str | None:
    """The problem with ``value`` as one of ``known``, or None when there is none.

    Example:
        >>> choice("schedule", "linaer", ["linear", "cosine"])
        "schedule='linaer': did you mean 'linear'?"
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return None
    return f"{option}={value!r}: {nearest('' if value is None else value, names)}"


def whole_number(
    option: str, value: object, at_least: int, *, at_most: int | None = None, other: str = ""
) -> str | None:
    """The problem with ``value`` as a whole number (numpy's count too), or None when there is none.

    Args:
        option: its name.
        value: as given.
        at_least: the smallest that will do.
        at_most: the largest that will do.
        other: what else would do, for the message.

    Example:
        >>> whole_number("epochs", 2.5, at_least=1)
        'epochs=2.5: expected a whole number of at least 1'
    """
    good = isinstance(value, Integral) and not isinstance(value, bool)
    if good and at_least <= value and (at_most is None or value <= at_most):  # type: ignore[operator]
        return None
    bounds = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    return f"{option}={value!r:.60}: expected {other}a whole number {bounds}"


def true_or_false(option: str, value: object) -> str | None:
    """The problem with ``value`` as True or False, or None when there is none.

    Example:
        >>> true_or_false("progress", "yes")
        "progress='yes': expected True or False"
    """
    return None if isinstance(value, bool) else f"{option}={value!r:.60}: expected True or False"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is an int or a float, of Python or numpy; a bool is not.

    Example:
        >>> is_number(2), is_number(True), is_number("2")
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def real_number(
    option: str, value: object, low: float, high: float = math.inf, *, expected: str, ends: bool = True
) -> str | None:
    """The problem with ``value`` as a finite number between two bounds (numpy's count too), or None.

    Args:
        option: its name.
        value: as given.
        low: the lower bound.
        high: the upper bound.
        expected: what would do, for the message.
        ends: whether the bounds themselves will do; without, a value must lie above 0 where ``low`` is 0.

    Example:
        >>> real_number("dropout", "0.1", 0, 1, expected="a number from 0 to 1")
        "dropout='0.1': expected a number from 0 to 1"
    """
    number = float(value) if is_number(value) and abs(value) < 1e300 else math.nan
    if low < number < high or (ends and number in (low, high)):
        return None
    return f"{option}={value!r:.60}: expected {expected}"


def share(option: str, value: object) -> str | None:
    """The problem with ``value`` as a part of the whole that leaves something of it, or None.

    Example:
        >>> share("dropout", 1.0)
        'dropout=1.0: expected a number of at least 0 and below 1'
    """
    expected = "a number of at least 0 and below 1"
    return real_number(option, value, 0, math.nextafter(1, 0), expected=expected)


def above_zero(option: str, value: object, *, otherwise: str = "") -> str | None:
    """The problem with ``value`` as a finite number above 0, or None.

    Args:
        option: its name.
        value: as given.
        otherwise: what else would do, for the message.

    Example:
        >>> above_zero("max_grad_norm", 0, otherwise="None for no limit")
        'max_grad_norm=0: expected a finite number above 0, or None for no limit'
    """
    more = f", or {otherwise}" if otherwise else ""
    return real_number(option, value, 0, ends=False, expected=f"a finite number above 0{more}")


def one_of_types(option: str, value: object, kind: Any, expected: str) -> str | None:
    """The problem with ``value`` as an object of some type, or None.

    Example:
        >>> one_of_types("keep_best", 3, str | None, "the name of a metric, or None")
        'keep_best=3: expected the name of a metric, or None'
    """
    return None if isinstance(value, kind) else f"{option}={value!r:.60}: expected {expected}"


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a user gave it; ``~`` is the home folder, and stays a name where there is none.

    Example:
        >>> user_path("reviews.csv").name
        'reviews.csv'
    """
    return Path(os.path.expanduser(os.fsdecode(os.fspath(path))))


def folder_path(path: object, *, option: str = "path") -> Path:
    """A path that a user gave for a folder; ``~`` is the home folder.

    Raises:
        OptionError: it is no path.

    Example:
        >>> folder_path(None)
        Traceback (most recent call last):
        sftlib.errors.OptionError: path=None: expected the path of a folder, as a string or a pathlib.Path
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise OptionError(f"{option}={path!r:.60}: expected the path of a folder, as a string or a pathlib.Path")
    return user_path(path)


def nearest_folder(path: Path) -> str:
    """A clause naming the folder beside ``path`` whose name is nearest to its own; empty when none is near."""
    if not path.parent.is_dir():
        return ""
    hint = nearest(path.name, [item.name for item in sorted(path.parent.iterdir()) if item.is_dir()])
    found = re.fullmatch(r"did you mean '(.+)'\?", hint)
    return f"did you mean {str(path.parent / found[1])!r}?" if found else ""


def raise_together(problems: Iterable[str | Literal[False] | None], error: type[Exception] = OptionError) -> None:
    """Raise one ``error`` that lists every problem, or nothing when there is none."""
    found = [problem for problem in problems if problem]
    if found:
        raise error("\n".join(found))
