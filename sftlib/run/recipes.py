"""Which of the ways to learn is asked for. Each has a file of its own; whoever adds one names it here."""

from __future__ import annotations

from collections.abc import Callable

from sftlib.run.few_shot import HEAD_FIRST, few_shot
from sftlib.run.fitted import Fitted
from sftlib.run.head_first import head_first
from sftlib.run.on_disk import Run
from sftlib.run.prepare import Call, prepare

Shown = Callable[[Fitted], None]


def to_nobody(fitted: Fitted) -> None:
    """Nobody looks at a model before it is tuned."""


def learned(call: Call, run: Run, shown: Shown = to_nobody) -> Fitted:
    """One model, by the recipe that was asked for.

    Args:
        call: what is asked for.
        run: what it leaves on disk.
        shown: is given the model of a plain run before its first step, and again as the steps left it, be it by an
            error: callbacks use it meanwhile.
    """
    if call.arguments.few_shot == HEAD_FIRST:
        return head_first(call, run)
    if call.arguments.few_shot:
        return few_shot(call, run)
    fitting = prepare(call, run)
    shown(fitting.fitted)
    try:
        fitting.go()
    finally:
        shown(fitting.fitted)
    return fitting.fitted
