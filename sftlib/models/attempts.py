"""Trying a model by running it: what a call gives, or why it gives nothing.

What a model can do is not read off its class but tried. That a model cannot is an answer; a mistake of our own is not,
and must not pass for one.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, final

from sftlib.errors import SftlibError
from sftlib.models.memory import is_out_of_memory
from sftlib.models.opening import first_line

T = TypeVar("T")

#: What models raise that are called in a way they do not know: wrong keywords, shapes, types or forms of output.
CANNOT = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError)

#: What nobody raises in this package to say that a model cannot: raised here, they are mistakes of ours.
_MISTAKES = (AttributeError, AssertionError, NameError)

_PACKAGE = Path(__file__).parents[1]


@final
@dataclass(frozen=True)
class Tried(Generic[T]):
    """What came of a call.

    Attributes:
        value: what it returned; None after an error.
        error: why it returned nothing.
    """

    value: T | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """The kind of the error and what it says first; empty without one."""
        return "" if self.error is None else f"{type(self.error).__name__}: {first_line(self.error)}"


def attempt(call: Callable[[], T], *, kinds: tuple[type[Exception], ...] = CANNOT) -> Tried[T]:
    """Make a call that a model may not be up to.

    Args:
        call: runs the model.
        kinds: of errors that say so; `Exception` where strangers' code may raise anything.

    Raises:
        Exception: what no model is to blame for: an error that is meant for the user, memory that ran out, a mistake in
            this package.

    Example:
        >>> attempt(lambda: [1, 2][1]).value
        2
        >>> attempt(lambda: [1, 2][2]).reason
        'IndexError: list index out of range'
    """
    try:
        return Tried(call())
    except kinds as error:
        if isinstance(error, SftlibError) or is_out_of_memory(error) or _is_our_mistake(error):
            raise
        logging.getLogger("sftlib").debug("tried in vain", exc_info=error)
        return Tried(error=error)


def _is_our_mistake(error: Exception) -> bool:
    """Whether a line of this package, and none that it called, raised what a line of this package never should."""
    if not isinstance(error, _MISTAKES):
        return False
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = next(code.co_filename for code in reversed(codes) if code.co_name != "__getattr__")  # of who asked it
    return Path(raised_in).is_relative_to(_PACKAGE)
