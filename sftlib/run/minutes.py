"""``fit(minutes=...)``: a schedule over a budget of time, planned after a few steps and corrected at the quarters.

The clock decides nothing else, and whatever it decides is written down: a record in the history, and in the checkpoint,
so that a run that goes on follows the plan that was made and makes none for the steps already done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, final

from sftlib.errors import OptionError
from sftlib.train.callbacks import Callback
from sftlib.train.schedules import Schedule
from sftlib.train.state import Training

_FIRST = 5  # steps that are timed before the first plan; the very first of them is left out
_RESERVE = 0.03  # of the time, for what comes after the last step
_OFF = 0.1  # by which a plan must be off to be corrected
_QUARTERS = (0.25, 0.5, 0.75)
_OF_A_STEP = 1 / 3  # what a pass of evaluation takes of a step on as many rows


@final
class Planned(Schedule):
    """Another schedule, run through at a pace that may change: it begins at its beginning and ends at its end.

    Args:
        inner: over as many steps as were asked for.

    Attributes:
        turns: (step, place of the inner schedule, steps of the run) from which on a plan holds.

    Example:
        >>> from sftlib.train.schedules import Linear
        >>> planned = Planned(Linear(100, warmup=0))
        >>> planned.turn(step=10, steps=30)
        >>> [round(planned.factor(step), 3) for step in (0, 9, 10, 20, 29)]
        [1.0, 0.91, 0.9, 0.45, 0.045]
    """

    def __init__(self, inner: Schedule) -> None:
        super().__init__(inner.steps, inner.warmup)
        self._inner = inner
        self.turns: list[tuple[int, float, int]] = [(0, 0.0, inner.steps)]

    def turn(self, *, step: int, steps: int) -> None:
        """From this step on the run is to end after so many."""
        self.turns.append((step, self._place(step), steps))

    def factor(self, step: int) -> float:
        return min(1.0, self._inner.factor(self._place(step)))  # type: ignore[arg-type]  # between two steps

    def after_warmup(self, progress: float) -> float:
        return self._inner.after_warmup(progress)

    def _place(self, step: int) -> float:
        begun, place, steps = next(turn for turn in reversed(self.turns) if turn[0] <= step)
        return place + (self._inner.steps - place) * (step - begun) / max(1, steps - begun)


@final
class Deadline(Callback):
    """Lays the steps of a run over the time that is left.

    Args:
        minutes: in all, from ``started``.
        started: when the call began, by ``clock``.
        rows: of the validation data.
        batch_size: rows of a step.
        clock: seconds.

    Attributes:
        schedule: of the run; set when the loop is wired.
    """

    def __init__(
        self,
        minutes: float,
        *,
        started: float,
        rows: int = 0,
        batch_size: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.schedule: Planned | None = None
        self._seconds = 60 * minutes
        self._started = started
        self._passes = math.ceil(rows / batch_size)
        self._clock = clock
        self._most = 0
        self._marks: list[int] = []  # steps at which the plan is looked at
        self._since: tuple[int, float] = (0, started)  # a step, and when it ended

    def on_fit_start(self, training: Training) -> None:
        self._most = training.steps
        assert self.schedule is not None
        if len(self.schedule.turns) > 1:  # a run that goes on, by the plan that was made
            training.steps = self.schedule.turns[-1][2]
            self._started = self._clock() - self._spent
        elif self._left() <= 0:
            raise OptionError(
                f"minutes={self._seconds / 60:g}: opening the model and reading the rows took "
                f"{self._clock() - self._started:.1f} s already, which leaves no time for a step"
            )
        self._since = (training.step, self._clock())

    _spent = 0.0  # by a run that goes on, before

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        step = training.step
        if step == 1:
            self._since = (1, self._clock())  # the first takes longer than others
        elif step == min(_FIRST, self._most) and not self._marks:
            self._plan(training, force=True)
            self._marks = [step + math.ceil((training.steps - step) * quarter) for quarter in _QUARTERS]
        elif step in self._marks:
            self._plan(training, force=False)

    def _left(self) -> float:
        return self._seconds * (1 - _RESERVE) - (self._clock() - self._started)

    def _plan(self, training: Training, *, force: bool) -> None:
        """Look how many steps fit into what is left, at the pace since the last look."""
        step, now = training.step, self._clock()
        begun, since = self._since
        a_step = (now - since) / max(1, step - begun)
        if force:  # no evaluation has been seen yet
            a_step += self._passes * a_step * _OF_A_STEP / training.steps_per_epoch
        last = self._passes * a_step * _OF_A_STEP
        fitting = max(1, math.floor((self._left() - last) / max(a_step, 1e-9)))
        steps = min(self._most, step + fitting)
        self._since = (step, now)
        if not force and abs(steps - training.steps) <= _OFF * (training.steps - step):
            return
        assert self.schedule is not None
        self.schedule.turn(step=step, steps=steps)
        training.steps = steps
        plan = {
            "kind": "plan",
            "step": step,
            "steps": steps,
            "seconds_a_step": a_step,
            "seconds_spent": now - self._started,
        }
        training.history.begin_with([*training.history, plan])

    def state_dict(self) -> dict[str, Any]:
        assert self.schedule is not None
        return {
            "turns": [list(turn) for turn in self.schedule.turns],
            "marks": self._marks,
            "spent": self._clock() - self._started,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self.schedule is not None
        self.schedule.turns = [(int(step), float(place), int(steps)) for step, place, steps in state["turns"]]
        self._marks = [int(mark) for mark in state["marks"]]
        self._spent = float(state["spent"])
