"""Learning rate as a pure function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final


class Schedule(ABC):
    """A factor on the learning rate: a linear rise during warm-up, then whatever the schedule says.

    Args:
        steps: optimizer steps of the run.
        warmup: a share of the steps (a float below 1) or a number of steps (an int).
    """

    def __init__(self, steps: int, warmup: float | int) -> None:
        self.steps = steps
        self.warmup = min(steps, warmup if isinstance(warmup, int) else math.ceil(warmup * steps))

    def factor(self, step: int) -> float:
        """The factor at a step (from 0). The first step is never wasted on a rate of zero.

        Example:
            >>> [Linear(4, warmup=2).factor(step) for step in range(4)]
            [0.5, 1.0, 1.0, 0.5]
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.after_warmup((step - self.warmup) / max(1, self.steps - self.warmup))

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """The factor when a share ``progress`` (0 to 1) of the steps after warm-up is done."""


@final
class Linear(Schedule):
    """Falls in a straight line towards 0."""

    def after_warmup(self, progress: float) -> float:
        return 1.0 - progress


@final
class Cosine(Schedule):
    """Falls along half a cosine towards 0 (Loshchilov and Hutter, 2017)."""

    def after_warmup(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@final
class Constant(Schedule):
    """Stays."""

    def after_warmup(self, progress: float) -> float:
        return 1.0


SCHEDULES: dict[str, type[Schedule]] = {"linear": Linear, "cosine": Cosine, "constant": Constant}
