"""Halving: all candidates begin with short runs, and go on to longer ones as long as they cannot be told to be worse.

A short run is complete: its schedule rises and falls within its own steps. A run that is cut off in the middle of a
long schedule has a learning rate that it would not have had at its end, and ranks learning rates wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from sftlib.data.dataset import TaskDataset
from sftlib.finetuner import FineTuner
from sftlib.selection.paired import Difference

#: An interval of this level must exclude 0 for a candidate to leave.
LEVEL = 0.8


@final
@dataclass(frozen=True)
class Rung:
    """Runs of one length.

    Attributes:
        number: from 0.
        share: of the optimizer steps.
        units: numbers of the folds that are looked at.
    """

    number: int
    share: float
    units: tuple[int, ...]


def rungs_of(factor: int, *, units: int, candidates: int) -> tuple[Rung, ...]:
    """The rungs of a search: two short ones on one fold, then all steps on all folds.

    Args:
        factor: by which steps grow, and candidates at least are meant to shrink.
        units: folds.
        candidates: how many there are; where there are no more than the factor, nothing is won by short runs.

    Example:
        >>> [(round(rung.share, 3), rung.units) for rung in rungs_of(3, units=3, candidates=9)]
        [(0.111, (0,)), (0.333, (0,)), (1.0, (0, 1, 2))]
    """
    everything = tuple(range(units))
    if factor == 1 or candidates <= factor:
        return (Rung(0, 1.0, everything),)
    shares = [1 / factor**2, 1 / factor]
    return (*(Rung(number, share, (0,)) for number, share in enumerate(shares)), Rung(len(shares), 1.0, everything))


def shortened(tuner: FineTuner, train: TaskDataset, share: float) -> FineTuner:
    """The same for a share of its steps, with a complete schedule of its own."""
    if share == 1.0:
        return tuner
    options: dict[str, Any] = tuner.get_params(deep=False)
    whole = options["max_steps"] or options["epochs"] * math.ceil(len(train) / options["batch_size"])
    steps = max(1, round(whole * share))
    warmup = options["warmup"]
    shorter = {"warmup": max(1, round(warmup * share))} if isinstance(warmup, int) and warmup else {}
    return tuner.clone().set_params(max_steps=steps, **shorter)


def inside(order: Sequence[int], factor: int, to_the_last: Sequence[Difference]) -> list[int]:
    """Who goes on: the better ones, and all others that cannot be told from the last of these.

    Args:
        order: candidates, the best first.
        factor: by which they are meant to shrink.
        to_the_last: of each in this order, how far it is from the last one inside, at `LEVEL`.
    """
    count = math.ceil(len(order) / factor)
    return [one for place, one in enumerate(order) if place < count or not to_the_last[place].told_apart]
