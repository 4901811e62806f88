"""Which rows of which task make up a step: shares, no row twice before all have come, and one task as it is alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from sftlib.tasks.mixing import MixedPlan, shares
from sftlib.train.plan import ShuffledPlan


@pytest.mark.parametrize("rows", [1, 7, 64, 101])
@pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
def test_one_task_has_the_steps_of_all_rows_shuffled(rows: int, mixing: float) -> None:
    mixed = MixedPlan([np.arange(rows)], mixing=mixing, batch_size=8, seed=3)
    plain = ShuffledPlan(rows, batch_size=8, seed=3)
    assert mixed.steps_per_epoch == plain.steps_per_epoch
    for step in range(3 * plain.steps_per_epoch):
        assert mixed.rows(step).tolist() == plain.rows(step).tolist()


@pytest.mark.parametrize("mixing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sizes", [(5, 90), (1, 1, 1), (40, 3, 17), (1000, 1)])
def test_rows_of_a_task_come_again_only_when_all_have_come(sizes: tuple[int, ...], mixing: float) -> None:
    ends = np.cumsum([0, *sizes])
    members = [np.arange(start, stop) for start, stop in pairwise(ends)]
    plan = MixedPlan(members, mixing=mixing, batch_size=8, seed=1)
    stream = np.concatenate([plan.rows(step) for step in range(4 * plan.steps_per_epoch)])
    for own in members:
        mine = stream[np.isin(stream, own)].tolist()
        for start in range(0, len(mine), len(own)):
            assert max(Counter(mine[start : start + len(own)]).values()) == 1
    found = Counter(np.searchsorted(ends, stream, side="right").tolist())
    assert [found[number + 1] for number in range(len(sizes))] == [4 * count for count in plan.counts]


@pytest.mark.parametrize("sizes", [(900, 100), (3, 3, 1000), (1, 1), (7, 5, 3, 2)])
@pytest.mark.parametrize("mixing", [0.0, 0.25, 0.5, 1.0])
def test_shares_add_up_and_follow_the_temperature(sizes: tuple[int, ...], mixing: float) -> None:
    found = shares(sizes, mixing)
    exact = np.array(sizes, float) ** mixing
    exact *= sum(sizes) / exact.sum()
    assert sum(found) == sum(sizes)
    assert np.abs(np.array(found) - np.maximum(exact, 1.0)).max() < 1.0 + (exact < 1.0).sum()
    assert min(found) >= 1


def test_steps_can_be_asked_in_any_order_and_differ_by_seed() -> None:
    members = [np.arange(20), np.arange(20, 26)]
    one, other, third = (MixedPlan(members, mixing=0.5, batch_size=4, seed=seed) for seed in (0, 0, 1))
    forwards = [one.rows(step).tolist() for step in range(14)]
    assert [other.rows(step).tolist() for step in reversed(range(14))] == forwards[::-1]
    assert [third.rows(step).tolist() for step in range(14)] != forwards
