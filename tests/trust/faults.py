"""Faults at any call to the system that a save makes: a kill, or an error."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: Every call by which a save changes what is on disk.
CALLS = ("mkdir", "open", "write", "fsync", "chmod", "rename", "unlink", "rmdir")

Action = Callable[[int, str, Callable[[], Any]], Any]


@contextmanager
def intercepted(action: Action, *, calls: tuple[str, ...] = CALLS) -> Iterator[None]:
    """While this lasts, ``action(number, name, call)`` stands in for each of these functions of `os`."""
    count = 0

    def stand_in(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            partly = (args[0], bytes(args[1])[: len(args[1]) // 2]) if name == "write" else None
            call.partly = lambda: partly and original(*partly)  # type: ignore[attr-defined]
            return action(count, name, lambda: original(*args, **kwargs))

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, stand_in(name, getattr(os, name)))
        yield


def count_calls(work: Callable[[], object], *, calls: tuple[str, ...] = CALLS) -> int:
    """How many of these calls a piece of work makes."""
    numbers = [0]

    def note(number: int, name: str, call: Callable[[], Any]) -> Any:
        numbers.append(number)
        return call()

    with intercepted(note, calls=calls):
        work()
    return numbers[-1]


def kill_at(point: int) -> Action:
    """SIGKILL to this very process at a call; a write gets half of its bytes out before."""

    def act(number: int, name: str, call: Callable[[], Any]) -> Any:
        if number == point:
            getattr(getattr(os, name), "partly", lambda: None)()
            os.kill(os.getpid(), signal.SIGKILL)
        return call()

    return act


def fail_at(point: int, error: int, *, for_good: bool = False) -> Action:
    """An `OSError` instead of a call; with ``for_good`` also instead of every later one that needs space."""

    def act(number: int, name: str, call: Callable[[], Any]) -> Any:
        if number == point or (for_good and number > point and name in ("mkdir", "write")):
            raise OSError(error, os.strerror(error))
        return call()

    return act
