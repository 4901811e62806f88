"""``learning_rate="find"``: a race of short runs, each with a complete schedule of its own.

Not the range test, in which the rate rises step by step until the loss explodes: what a model does on its way through a
rising rate says little of what it does under a schedule. Here five rates around the usual one each train a fresh copy
for a tenth of the steps on nine tenths of the rows, and are judged by the loss on the others. The largest rate that is
not worse than the best by more than a standard error, rows against the same rows, wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.errors import NonFiniteError, OptionError
from sftlib.run.assemble import assemble
from sftlib.run.fitted import Fitted
from sftlib.run.judged import judged
from sftlib.run.on_disk import RunInMemory
from sftlib.run.prepare import Call, prepare

FIND = "find"

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_FEWEST_STEPS = 30
_SHARE = 10  # one step in so many
_HELD_OUT = 0.1
_PIECES = 50  # that the rows held out are cut into, for the standard error


@final
@dataclass(frozen=True)
class Raced:
    """What the race found.

    Attributes:
        rate: the winner.
        losses: rate -> mean loss on the rows held out; infinity where it was not finite.
        steps: of each run.
        head: the rate of a new head in every run, where that is another.
    """

    rate: float
    losses: dict[float, float]
    steps: int
    head: float | None = None

    def options(self, arguments: Arguments) -> Arguments:
        """The options at the rate that won."""
        return _at(arguments, self.rate, self.head)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        losses = [[rate, loss] for rate, loss in self.losses.items()]
        return {"learning_rate": {"rate": self.rate, "losses": losses, "steps": self.steps}}

    def __str__(self) -> str:
        shown = ", ".join(f"{rate:.3g}: {loss:.4f}" for rate, loss in self.losses.items())
        runs = f"{len(self.losses)} runs of {self.steps} steps"
        head = "" if self.head is None else f" ({self.head:.3g} of the head)"
        return f"learning_rate {self.rate:.3g}{head}, found in {runs} (loss by rate: {shown})"


def found_rate(call: Call) -> Raced:
    """The learning rate for this call, by a race.

    Raises:
        DataError: too few rows to hold some out.
        OptionError: no rate gives a loss that is finite.
    """
    (usual, head), steps = _usual(call), _steps(call.arguments, len(call.train))
    short = min(steps, max(_FEWEST_STEPS, math.ceil(steps / _SHARE)))
    learned, held_out = call.train.split(1 - _HELD_OUT, _HELD_OUT, seed=call.arguments.seed)
    rates = [float(f"{usual * factor:.6g}") for factor in _FACTORS]
    runs = [_at(call.arguments, rate, head) for rate in rates]
    losses = np.stack([_losses(call, options, short, learned, held_out) for options in runs])  # (rates, pieces)
    means = losses.mean(axis=1)
    if not np.isfinite(means).any():
        raise OptionError(f"learning_rate='find': the loss is not finite at any of {', '.join(map(str, rates))}")
    raced = Raced(_winner(rates, losses), dict(zip(rates, means.tolist(), strict=True)), short, head)
    if call.progress:
        tqdm.write(str(raced))
    return raced


def _winner(rates: Sequence[float], losses: NDArray[np.float64]) -> float:
    """The largest rate within a standard error of the best.

    Args:
        rates: ascending.
        losses: (rates, pieces) of the same rows each.

    Example:
        >>> _winner([1, 2, 4], np.array([[0.5, 0.7, 0.6], [0.5, 0.71, 0.59], [0.9, 0.8, 0.9]]))
        2
    """
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf).mean(axis=1)))
    for rate, line in zip(reversed(rates), losses[::-1], strict=True):
        apart = line - losses[best]
        if not np.isfinite(apart).all():
            continue
        error = apart.std(ddof=1) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
        if apart.mean() <= error:
            return rate
    return rates[best]


def _usual(call: Call) -> tuple[float, float | None]:
    """The rate that would have been taken without a race, and that of the head, where it is another."""
    settings = assemble(replace(call.arguments, learning_rate=None), call.source, call.task).settings
    return float(settings["learning_rate"]), settings["head_learning_rate"]


def _at(arguments: Arguments, rate: float, head: float | None) -> Arguments:
    """At another rate of the body, with the usual one of the head unless it was named."""
    named = arguments.head_learning_rate
    return replace(arguments, learning_rate=rate, head_learning_rate=head if named is None else named)


def _steps(arguments: Arguments, rows: int) -> int:
    return arguments.max_steps or arguments.epochs * math.ceil(rows / arguments.batch_size)


def _losses(
    call: Call, arguments: Arguments, steps: int, learned: TaskDataset, held_out: TaskDataset
) -> NDArray[np.float64]:
    """(pieces,) losses on pieces of the rows held out, of a copy that learned with these options."""
    pieces = np.array_split(np.arange(len(held_out)), min(_PIECES, len(held_out)))
    arguments = replace(arguments, max_steps=steps, keep_best=None, early_stopping=None, on_nonfinite="error")
    short = replace(call, arguments=arguments, train=learned, valid=None, callbacks=(), progress=False)
    fitting = prepare(short, RunInMemory())
    try:
        fitting.go()
    except NonFiniteError:
        return np.full(len(pieces), np.inf)
    return np.array([_loss(fitting.fitted, held_out.select(piece)) for piece in pieces])


def _loss(fitted: Fitted, rows: TaskDataset) -> float:
    found = judged(fitted, rows, fitted.encode(rows), ())
    return found.loss_sum / found.count if found.count else 0.0
