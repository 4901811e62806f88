"""What a search may try: lists of values for options, ranges, and several such maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.base import Inputs
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.support.checking import checked_fields, is_number, raise_together, true_or_false, whole_number
from sftlib.tasks.base import Task

Options = Mapping[str, Any]


@final
@checked_fields
@dataclass(frozen=True)
class Range:
    """Every number between two, of which a search tries some.

    Args:
        low: the smallest.
        high: the largest; whole numbers between two whole numbers.
        log: whether all orders of magnitude are tried as often as each other, as learning rates want it.

    Raises:
        OptionError: ends that are no numbers, or in the wrong order, or not above 0 with ``log``.

    Example:
        >>> Range(1e-5, 1e-3, log=True).at(0.5), Range(1, 9).at(0.99)
        (0.0001, 9)
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        numbers = all(is_number(end) and math.isfinite(end) for end in (self.low, self.high))
        raise_together(
            [
                not numbers and f"Range({self.low!r:.40}, {self.high!r:.40}): expected two finite numbers",
                numbers
                and not self.low < self.high
                and f"Range({self.low!r}, {self.high!r}): the first must be smaller than the second",
                numbers
                and self.log is True
                and self.low <= 0
                and f"Range({self.low!r}, {self.high!r}, log=True): expected numbers above 0",
                true_or_false("log", self.log),
            ]
        )

    def at(self, share: float) -> float | int:
        """The number at a share of the way, 0 to 1."""
        whole = isinstance(self.low, int | np.integer) and isinstance(self.high, int | np.integer)
        # A whole number has half a step on each side, so that the ends come as often as the others.
        low, high = (self.low - 0.5, self.high + 0.5) if whole and not self.log else (self.low, self.high)
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        if whole:
            return min(max(round(value), int(self.low)), int(self.high))
        return float(f"{value:.4g}")  # four digits: nobody can tell more apart, and people read them


@final
@dataclass(frozen=True)
class Candidate:
    """One way to train.

    Attributes:
        number: 0 for the tuner's own options.
        changes: option -> value, of those that differ between candidates.
        tuner: with these options, not fitted.
    """

    number: int
    changes: Mapping[str, Any]
    tuner: FineTuner


def candidates_of(
    tuner: FineTuner, options: object, *, usual: type[Task], trials: int | None, seed: int
) -> tuple[Candidate, ...]:
    """Every candidate, the tuner's own options first.

    Args:
        tuner: not fitted.
        options: option -> list of values, or `Range`; or a list of such maps.
        usual: the task of the data, whose options may be named where the tuner has none given.
        trials: how many to try of what cannot be listed.
        seed: of what is tried then.

    Raises:
        OptionError: options that do not exist, values that they cannot have, or the same twice: all at once.
    """
    maps = _maps(options)
    tuner = _with_values(tuner, {name for one in maps for name in one}, usual)
    wished = [changes for one in maps for changes in _spread(one, trials, seed)]
    names = list(dict.fromkeys(name for one in maps for name in one))
    found, problems = [tuner.clone()], []
    for changes in wished:
        try:
            found.append(tuner.clone().set_params(**changes))
        except OptionError as error:
            problems += [line for line in str(error).splitlines() if line not in problems]
    raise_together(problems)
    return _distinct(found, names, exact=trials is None)


def _with_values(tuner: FineTuner, names: Set[str], usual: type[Task]) -> FineTuner:
    """The same where ``task__...`` and ``inputs__...`` find something that has options."""
    given = tuner.get_params(deep=False)
    values: dict[str, Any] = {"task": usual, "inputs": usual.inputs}
    wanted = {
        part: make()
        for part, make in values.items()
        if not isinstance(given[part], Task | Inputs) and any(name.startswith(f"{part}__") for name in names)
    }
    return tuner.clone().set_params(**wanted) if wanted else tuner


def _known_by(value: Any) -> str:
    """What tells a value from others: itself where it is plain, else which object it is."""
    return str(id(value)) if callable(value) or hasattr(value, "state_dict") else repr(value)


def _maps(options: object) -> list[Options]:
    shown = "option -> list of values, such as {'learning_rate': [2e-5, 5e-5]}, or a list of such maps"
    maps = [options] if isinstance(options, Mapping) else options
    if not isinstance(maps, Sequence) or isinstance(maps, str) or not maps:
        raise OptionError(f"options={options!r:.60}: expected {shown}")
    problems = []
    for one in maps:
        if not isinstance(one, Mapping) or not one:
            problems.append(f"options: found {one!r:.60}, expected {shown}")
            continue
        for name, values in one.items():
            listed = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes)
            if not isinstance(name, str) or not (isinstance(values, Range) or (listed and len(values))):
                problems.append(
                    f"options[{name!r:.40}]={values!r:.60}: expected a list of values, such as [{values!r:.40}], or "
                    "Range(low, high)"
                )
    raise_together(problems)
    return list(maps)


def _spread(one: Options, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """What is tried of a map: all of it, or so many points spread evenly over it."""
    ranges = [name for name, values in one.items() if isinstance(values, Range)]
    if trials is None:
        if ranges:
            raise OptionError(f"options[{ranges[0]!r}]={one[ranges[0]]}: say how many to try, with trials=")
        return [dict(zip(one, values, strict=True)) for values in itertools.product(*map(list, one.values()))]
    raise_together([whole_number("trials", trials, at_least=1)])
    places = _places(trials, len(one), seed)
    return [
        {name: _at(values, share) for (name, values), share in zip(one.items(), line, strict=True)}
        for line in places.tolist()
    ]


def _at(values: Any, share: float) -> Any:
    return (
        values.at(share) if isinstance(values, Range) else list(values)[min(int(share * len(values)), len(values) - 1)]
    )


def _places(points: int, dimensions: int, seed: int) -> NDArray[np.float64]:
    """(points, dimensions) shares from 0 to 1, spread evenly: Sobol's sequence, turned by a draw of the seed."""
    from scipy.stats import qmc

    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0x736561726368], dtype=np.uint64)))
    power = max(1, math.ceil(math.log2(points)))
    drawn = qmc.Sobol(dimensions, scramble=False).random_base2(power)[:points]
    return np.asarray((drawn + generator.random(dimensions)) % 1.0)


def _distinct(tuners: Sequence[FineTuner], names: Sequence[str], *, exact: bool) -> tuple[Candidate, ...]:
    """Candidates without the tuner's own options a second time; others that come twice are refused in a grid."""
    found: dict[str, Candidate] = {}
    problems, wished = [], set[str]()
    for place, tuner in enumerate(tuners):
        params = tuner.get_params(deep=True)
        changes = {name: params[name] for name in names if name in params}
        key = repr([(name, _known_by(params[name])) for name in names if name in params])
        if key not in found:
            found[key] = Candidate(len(found), changes, tuner)
        if exact and key in wished:
            problems.append(f"options: {dict(changes)!r:.100} comes twice")
        wished |= {key} if place else set()
    raise_together(problems)
    return tuple(found.values())
