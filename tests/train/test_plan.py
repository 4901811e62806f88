"""Which rows make up which step, and how they are cut."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.train.history import History
from sftlib.train.plan import ShuffledPlan, cut
from sftlib.train.state import Training


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_every_row_once_an_epoch(rows: int, size: int, seed: int) -> None:
    per_epoch = math.ceil(rows / size)
    plan = ShuffledPlan(rows, batch_size=size, seed=seed)
    assert plan.steps_per_epoch == per_epoch
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        assert Counter(row for step in steps for row in plan.rows(step).tolist()) == Counter(range(rows))
        assert [plan.epoch(step) for step in steps] == [epoch] * per_epoch
        assert all(len(plan.rows(step)) == size for step in list(steps)[:-1])


def test_steps_can_be_asked_in_any_order() -> None:
    plan = ShuffledPlan(23, batch_size=4, seed=7)
    forwards = [plan.rows(step).tolist() for step in range(30)]
    for step in np.random.default_rng(0).permutation(30).tolist():
        assert plan.rows(step).tolist() == forwards[step]
        assert ShuffledPlan(23, batch_size=4, seed=7).rows(step).tolist() == forwards[step]


def test_epochs_and_seeds_are_shuffled_anew() -> None:
    orders = set()
    for seed in range(4):
        plan = ShuffledPlan(50, batch_size=50, seed=seed)
        orders |= {tuple(plan.rows(step).tolist()) for step in range(5)}
    assert len(orders) == 20


def test_every_place_is_as_likely() -> None:
    """The first row of 2,000 epochs: uniform over 8, by chi-square at 1e-4."""
    plan = ShuffledPlan(8, batch_size=8, seed=0)
    counts = np.bincount([int(plan.rows(step)[0]) for step in range(2000)], minlength=8)
    assert float(((counts - 250) ** 2 / 250).sum()) < 29.9


def test_a_run_may_end_inside_an_epoch() -> None:
    training = Training(torch.nn.Linear(1, 1), History(), steps=6, steps_per_epoch=4)
    ends = []
    for training.step in range(1, 7):
        ends.append(training.ends_epoch)
    assert ends == [False, False, False, True, False, True]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 120), st.data())
def test_cuts_keep_every_row_and_the_budget(lengths: list[int], rows: int, tokens: int, data: st.DataObject) -> None:
    sizes = np.array(lengths)
    chosen = np.array(data.draw(st.permutations(range(len(lengths)))))[: data.draw(st.integers(1, len(lengths)))]
    parts = cut(chosen, sizes, max_rows=rows, max_cost=tokens)
    assert sorted(np.concatenate(parts).tolist()) == sorted(chosen.tolist())
    for part in parts:
        longest = max(int(sizes[part].max()), 1)
        assert 1 <= len(part) <= rows
        assert len(part) == 1 or len(part) * longest <= tokens
    flat = sizes[np.concatenate(parts)]
    assert (np.diff(flat) <= 0).all()  # the longest first


def test_rows_of_one_length_keep_their_order() -> None:
    rows = np.array([4, 2, 9, 0])
    assert np.concatenate(cut(rows, np.full(10, 3), max_rows=3, max_cost=99)).tolist() == rows.tolist()


def test_no_rows_make_no_parts() -> None:
    assert cut(np.array([], dtype=np.int64), np.array([1, 2]), max_rows=2, max_cost=9) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_parts_are_as_large_as_the_budget_allows(limit: int) -> None:
    parts = cut(np.arange(12), np.full(12, 5), max_rows=limit, max_cost=10**9)
    assert [len(part) for part in parts][:-1] == [min(limit, 12)] * (math.ceil(12 / limit) - 1)
