"""Confidence intervals by the percentile bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from sftlib.metrics.base import Family

Replicate = Callable[[np.random.Generator], float]


def percentile_interval(replicate: Replicate, *, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """The central ``level`` of a metric's bootstrap values; those that are nan are left out.

    Args:
        replicate: the metric of one resample, drawn with the generator.
        level: share inside, in (0, 1).
        resamples: how many to draw.
        seed: of the one generator behind all of them.

    Returns:
        Lower and upper end; nan when no resample has a value.
    """
    generator = np.random.default_rng(seed)
    values = np.array([replicate(generator) for _ in range(resamples)])
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def of_rows(compute: Callable[..., float], family: Family) -> Replicate:
    """Replicates of a function of references and predictions: of rows drawn with replacement."""
    return lambda generator: compute(*family.pairs(generator.integers(0, family.rows, family.rows)))


def problems(level: float, resamples: int, seed: int) -> Iterable[str]:
    """What is wrong with the options of an interval."""
    if not 0 < level < 1:
        yield f"level={level!r}: expected a number between 0 and 1, such as 0.95"
    if not isinstance(resamples, int) or resamples < 1:
        yield f"resamples={resamples!r}: expected a whole number above 0"
    if not isinstance(seed, int) or seed < 0:
        yield f"seed={seed!r}: expected a whole number, 0 or more"
