"""Checking of keywords and option values: one decorator and two helpers, used by every public call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Literal, ParamSpec, TypeVar

from sftlib.errors import OptionError

P = ParamSpec("P")
R = TypeVar("R")


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


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Turn a call that does not fit the signature into an `OptionError` that names the nearest option.

    The function keeps its signature, docstring and types.

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
    shown = function.__qualname__.removesuffix(".__init__")
    usage = ", ".join([*positional, "*", "..."]) if len(known) > len(positional) else ", ".join(positional)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [] if takes_any else [name for name in kwargs if name not in known]
            found = [f"{shown}() has no option {name!r}: {nearest(name, known)}" for name in unknown]
            raise OptionError("\n".join(found) or f"{shown}({usage}): {error}") from None
        return function(*args, **kwargs)

    return wrapper


def choice(option: str, value: object, known: Iterable[str]) -> str | None:
    """The problem with ``value`` as one of ``known``, or None when there is none.

    Example:
        >>> choice("schedule", "linaer", ["linear", "cosine"])
        "schedule='linaer': did you mean 'linear'?"
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return None
    return f"{option}={value!r}: {nearest(value, names)}"


def raise_together(problems: Iterable[str | Literal[False] | None], error: type[Exception] = OptionError) -> None:
    """Raise one ``error`` that lists every problem, or nothing when there is none."""
    found = [problem for problem in problems if problem]
    if found:
        raise error("\n".join(found))
