"""What a comparison of models found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from sftlib.selection.paired import Difference
from sftlib.selection.tables import Table, ends, frame
from sftlib.support.display import counted


@final
@dataclass(frozen=True)
class Standing:
    """One line of a comparison.

    Attributes:
        name: of the model.
        score: on rows that it has not seen: of the tuned model where it was in the race, else of a head on its frozen
            features, or of the estimator; on the rows of the race, so that all can be compared. None where it failed.
        interval: of that, at 95 %, from drawing rows.
        difference: to the best, with its interval.
        equal: whether it cannot be told from the best.
        frozen: score of a head on its frozen features, over all rows.
        tuned: score of the tuned model, on the rows of the race.
        parameters: of the model; None of an estimator.
        megabytes: of its weights in fp32.
        predicted: rows a second in predicting.
        trained: rows a second in training.
        licence: as the card in its folder says.
        seconds: in all.
        error: what it failed with.
    """

    name: str
    score: float | None = None
    interval: tuple[float, float] = (math.nan, math.nan)
    difference: Difference | None = None
    equal: bool = False
    frozen: float | None = None
    tuned: float | None = None
    parameters: int | None = None
    megabytes: float | None = None
    predicted: float | None = None
    trained: float | None = None
    licence: str | None = None
    seconds: float = 0.0
    error: str | None = None


@final
@dataclass(frozen=True, repr=False)
class Comparison:
    """What a comparison found; prints as a table, the best first.

    Attributes:
        metric: that models are ranked by.
        standings: a line a model, the best first.
        rows: of the data.
        race_rows: that the ranking rests on.
        untried: models that the time did not suffice for.
        seconds: in all.
    """

    metric: str
    standings: tuple[Standing, ...]
    rows: int
    race_rows: int
    untried: tuple[str, ...]
    seconds: float

    @property
    def best(self) -> str:
        """The name of the model with the best score."""
        return self.standings[0].name

    @property
    def equals(self) -> tuple[str, ...]:
        """The models that cannot be told from the best, the best itself first."""
        return tuple(one.name for one in self.standings if one.equal)

    @property
    def simplest(self) -> str:
        """Of `equals` the one with the fewest parameters; an estimator that counts words has none to speak of."""
        return min((one for one in self.standings if one.equal), key=lambda one: one.parameters or 0).name

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for one in self.standings:
            apart = one.difference
            lines.append(
                {
                    "model": one.name,
                    self.metric: one.score,
                    "95 %": ends(*one.interval),
                    "to the best": None if apart is None else apart.value,
                    "95 % of that": "" if apart is None or apart.value == 0 else ends(apart.low, apart.high),
                    "equal": "yes" if one.equal else "",
                    "frozen": one.frozen,
                    "tuned": one.tuned,
                    "parameters": one.parameters,
                    "MB": _rounded(one.megabytes),
                    "rows/s": _rounded(one.predicted),
                    "rows/s trained": _rounded(one.trained),
                    "licence": one.licence or "",
                    "note": "" if one.error is None else f"failed: {one.error:.120}",
                }
            )
        return lines

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a model.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return frame(self._plain(), purpose="Comparison.to_frame()")

    def _plain(self) -> list[dict[str, Any]]:
        lines = []
        for one in self.standings:
            apart = one.difference or Difference(math.nan, math.nan, math.nan)
            line = {name: value for name, value in vars(one).items() if name not in ("interval", "difference")}
            line |= {"low": one.interval[0], "high": one.interval[1], "difference": apart.value}
            lines.append(line | {"difference_low": apart.low, "difference_high": apart.high})
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "metric": self.metric,
            "best": self.best,
            "equals": list(self.equals),
            "simplest": self.simplest,
            "models": self._plain(),
            "untried": list(self.untried),
            "rows": self.rows,
            "race_rows": self.race_rows,
            "seconds": self.seconds,
        }

    def _table(self) -> Table:
        notes = [
            f"ranked on {counted(self.race_rows, 'row')} that none has seen; frozen: a head on features of the model "
            f"as it is, over all {self.rows:,} rows; speeds are of this machine at this hour"
        ]
        if len(self.equals) > 1:
            notes.append(f"{', '.join(self.equals)} cannot be told apart; the simplest: {self.simplest}")
        if self.untried:
            notes.append(f"not tried, the time was over: {', '.join(self.untried)}")
        return Table(self._lines(), notes)

    def __str__(self) -> str:
        return str(self._table())

    def __repr__(self) -> str:
        score = self.standings[0].score
        return f"Comparison(best={self.best!r}, {self.metric}={math.nan if score is None else score:.4f})"

    def _repr_html_(self) -> str:
        return self._table().html()


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
