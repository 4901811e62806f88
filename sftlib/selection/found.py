"""What a search found: its trials, the best of them, and those that cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from sftlib.finetuner import FineTuner
from sftlib.selection.paired import Difference
from sftlib.selection.tables import Table, ends, frame, named
from sftlib.support.display import counted


@final
@dataclass(frozen=True)
class Trial:
    """One line of a search.

    Attributes:
        options: option -> value.
        own: whether these are the options that the tuner came with.
        score: on the rows held out, of the longest runs that it came to; None where it failed.
        interval: of the score, at 95 %, from drawing rows.
        difference: to the best, with its interval at 95 %; None where it left earlier, since scores of runs of another
            length cannot be compared.
        equal: whether it cannot be told from the best.
        rung: how far it came, from 0.
        share: of the steps, in these runs.
        steps: optimizer steps of one of them.
        seconds: in all.
        work: what training took, in weights touched; no clock has a say in it.
        epochs: the median of the best epochs, where something looked for the best.
        error: what it failed with.
    """

    options: Mapping[str, Any]
    own: bool = False
    score: float | None = None
    interval: tuple[float, float] = (math.nan, math.nan)
    difference: Difference | None = None
    equal: bool = False
    rung: int = 0
    share: float = 1.0
    steps: int = 0
    seconds: float = 0.0
    work: float = 0.0
    epochs: int | None = None
    error: str | None = None


@final
@dataclass(frozen=True, repr=False)
class Found:
    """What a search found; prints as a table, the best first.

    Attributes:
        metric: that trials are ranked by.
        trials: all of them, sorted: those that came furthest first, the best of them first.
        tuner: fitted anew on all training rows with the best options; None where that was not asked for.
        optimism: by how much the best of so many looks better on these rows than it is.
        untried: options that the time did not suffice for.
        rows: that candidates were judged on.
        seconds: in all.
    """

    metric: str
    trials: tuple[Trial, ...]
    tuner: FineTuner | None
    optimism: float
    untried: tuple[Mapping[str, Any], ...]
    rows: int
    seconds: float

    @property
    def best(self) -> dict[str, Any]:
        """The options with the best score."""
        return dict(self.trials[0].options)

    @property
    def score(self) -> float:
        """Their score, which is optimistic; see `optimism`."""
        assert self.trials[0].score is not None
        return self.trials[0].score

    @cached_property
    def equals(self) -> tuple[dict[str, Any], ...]:
        """The options that cannot be told from the best, the best itself first."""
        return tuple(dict(trial.options) for trial in self.trials if trial.equal)

    @property
    def simplest(self) -> dict[str, Any]:
        """Of `equals` the one that takes the least work."""
        return dict(min((trial for trial in self.trials if trial.equal), key=lambda trial: trial.work).options)

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for trial in self.trials:
            apart = trial.difference
            line: dict[str, Any] = {name: named(value) for name, value in trial.options.items()}
            line |= {self.metric: trial.score, "95 %": ends(*trial.interval)}
            line |= {"to the best": None if apart is None else apart.value}
            line |= {"95 % of that": "" if apart is None or apart.value == 0 else ends(apart.low, apart.high)}
            line |= {"equal": "yes" if trial.equal else "", "rung": trial.rung, "steps": trial.steps}
            line |= {"seconds": round(trial.seconds, 1), "note": _note(trial)}
            lines.append(line)
        return lines

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a trial, options with their own values.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame(self._plain(), purpose="Found.to_frame()")

    def _plain(self) -> list[dict[str, Any]]:
        lines = []
        for trial in self.trials:
            apart = trial.difference or Difference(math.nan, math.nan, math.nan)
            lines.append(
                {
                    **trial.options,
                    "score": math.nan if trial.score is None else trial.score,
                    "low": trial.interval[0],
                    "high": trial.interval[1],
                    "difference": apart.value,
                    "difference_low": apart.low,
                    "difference_high": apart.high,
                    "equal": trial.equal,
                    "own": trial.own,
                    "rung": trial.rung,
                    "steps": trial.steps,
                    "seconds": trial.seconds,
                    "error": trial.error,
                }
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values; options as they were given."""
        return {
            "metric": self.metric,
            "best": self.best,
            "equals": [dict(one) for one in self.equals],
            "simplest": self.simplest,
            "optimism": self.optimism,
            "trials": self._plain(),
            "untried": [dict(one) for one in self.untried],
            "rows": self.rows,
            "seconds": self.seconds,
        }

    def _table(self) -> Table:
        equal = [trial for trial in self.trials if trial.equal]
        notes = []
        if len(equal) > 1:
            simplest = ", ".join(f"{name}={named(value)}" for name, value in self.simplest.items())
            notes.append(f"{counted(len(equal), 'trial')} cannot be told from one another; the simplest: {simplest}")
        if len(self.trials) > 1 and self.optimism == self.optimism:
            notes.append(
                f"the best of {len(self.trials)} by the same {self.rows:,} rows is optimistic by about "
                f"{abs(self.optimism):.4f}; score it once on rows that no trial has seen"
            )
        for options in self.untried:
            left = ", ".join(f"{name}={named(value)}" for name, value in options.items())
            notes.append(f"not tried, the time was over: {left}")
        return Table(self._lines(), notes)

    def __str__(self) -> str:
        return str(self._table())

    def __repr__(self) -> str:
        return f"Found(best={self.best!r}, {self.metric}={self.score:.4f}, {counted(len(self.trials), 'trial')})"

    def _repr_html_(self) -> str:
        return self._table().html()


def _note(trial: Trial) -> str:
    own = "own options" if trial.own else ""
    if trial.error is not None:
        return f"failed: {trial.error:.120}"
    early = f"left after {trial.share:.0%} of the steps" if trial.share < 1 else ""
    return "; ".join(part for part in (own, early) if part)
