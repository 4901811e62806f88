"""Options of `FineTuner` that shape a task: each says which of them it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sftlib.errors import OptionError


def refuse_options(task: str, options: Mapping[str, Any], *, known: tuple[str, ...]) -> None:
    """Refuse loss options that were set although the task has no use for them.

    Raises:
        OptionError: naming each.
    """
    unused = [name for name, value in options.items() if name not in known and value not in (None, 0.0)]
    if unused:
        listed = ", ".join(f"{name}={options[name]!r}" for name in unused)
        has = f"it has {', '.join(known)}" if known else "it has no loss options"
        raise OptionError(f"{task} has no use for {listed}; {has}")
