"""From a call of `FineTuner.fit` to a tuned model: what is asked, what is found out before, and what is told after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

from sftlib.run.baseline import Baseline, baseline
from sftlib.run.few_shot import check_few_shot
from sftlib.run.find_rate import FIND, found_rate
from sftlib.run.fitted import Fitted
from sftlib.run.open_run import Disk
from sftlib.run.prepare import Call
from sftlib.run.pseudo import check_unlabelled, with_unlabelled
from sftlib.run.recipes import Shown, learned


def tuned(call: Call, disk: Disk, *, unlabelled: Any, compared: bool, shown: Shown) -> Fitted:
    """The tuned model.

    Args:
        call: what is asked for.
        disk: what it leaves there.
        unlabelled: rows without labels, as the user gave them; None without.
        compared: whether to say what the body does as it came, under a head alone.
        shown: is given the model while it is tuned.

    Raises:
        DataError: rows that cannot be used.
        OptionError: options that do not go with the data, the model, or one another.
        CheckpointError: the folder cannot be used.
    """
    if call.arguments.few_shot:
        check_few_shot(call.arguments, call.task)
    if unlabelled is not None:
        check_unlabelled(call.task)
        call, before = _before(call, compared)
        return before.beside(call, with_unlabelled(call, unlabelled, disk))
    with disk.open(quiet=not call.progress, comm=call.comm) as run:
        call, before = _before(call, compared)
        fitted = learned(call, run, shown)
    return before.beside(call, fitted)


@final
@dataclass(frozen=True)
class _Before:
    """What was found out before the first step.

    Attributes:
        decided: for `FineTuner.decided`.
        baseline: what the body does as it came; None where nobody asked.
    """

    decided: dict[str, Any]
    baseline: Baseline | None

    def beside(self, call: Call, fitted: Fitted) -> Fitted:
        """The tuned model, with that; said where it should be known."""
        if self.baseline is not None:
            self.baseline.tell(call, fitted)
        return replace(fitted, decided={**fitted.decided, **self.decided})


def _before(call: Call, compared: bool) -> tuple[Call, _Before]:
    decided: dict[str, Any] = {}
    if call.arguments.learning_rate == FIND:
        raced = found_rate(call)
        call = replace(call, arguments=raced.options(call.arguments))
        decided.update(raced.to_dict())
    found = baseline(call) if compared else None
    if found is not None:
        decided.update(found.to_dict())
    return call, _Before(decided, found)
