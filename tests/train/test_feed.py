"""The one place that hands rows to a model: what is drawn, counted, made ahead and identified."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sftlib.encoders.base import Draws, Encoder, Loaded, Rows
from sftlib.encoders.encoded import Encoded, Filed
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.tasks.base import Task
from sftlib.testing import tiny_tokenizer
from sftlib.train.ahead import Ahead, WhenAsked
from sftlib.train.comm import Alone
from sftlib.train.feed import Feed
from sftlib.train.plan import Budget, ShuffledPlan
from tests.contracts.cases import case_of

ROWS, BATCH = 24, 8


class Numbers(TextEncoder):  # type: ignore[misc]
    """Reads a number for each row, slowly, and adds a number that is drawn."""

    slow = True

    def __init__(self) -> None:
        super().__init__(tiny_tokenizer(), 8)
        self.threads: set[str] = set()

    @property
    def draws(self) -> bool:
        return True

    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        time.sleep(0.001)
        self.threads.add(threading.current_thread().name)
        files: Any = encoded.inputs["number"]
        drawn = [0.0 if draws is None else float(draws(row).generator("shift").random()) for row in rows.tolist()]
        read = [float(files[row]) for row in rows.tolist()]
        return Loaded({"number": np.array(read) + np.array(drawn)})

    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        return {"number": torch.from_numpy(loaded.inputs["number"])}


class Counting(Task):
    """Counts what an effective batch holds."""

    name = "counting"

    def counts(self, encoded: Encoded, rows: Rows) -> Mapping[str, float]:
        return {"sum": float(np.asarray(encoded.targets["value"])[rows].sum())}


for _method in Task.__abstractmethods__:
    setattr(Counting, _method, lambda self, *_: None)
Counting.__abstractmethods__ = frozenset()


def encoded() -> Encoded:
    files = Filed([str(row) for row in range(ROWS)], str.encode)
    return Encoded({"number": files}, {"value": np.arange(ROWS)}, cost=np.arange(ROWS) % 5 + 1)


def feed_of(encoder: Encoder, rows: int, *, seed: int = 0, identified: bool = False) -> Feed:
    return Feed(
        Counting(),
        encoded(),
        encoder,
        device=torch.device("cpu"),
        budget=Budget(rows, 2**62),
        comm=Alone(),
        plan=ShuffledPlan(ROWS, batch_size=BATCH, seed=seed),
        seed=seed,
        identified=identified,
    )


def by_row(feed: Feed, steps: Sequence[int]) -> dict[tuple[int, int], float]:
    """(step, row) -> what the model is shown."""
    return {
        (step, int(row)): float(number)
        for step in steps
        for batch in feed.step(step)
        for row, number in zip(batch.rows, batch.inputs["number"], strict=True)
    }


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_28_what_is_drawn_depends_on_seed_epoch_and_row_alone(rows: int) -> None:
    """Not on how a batch is cut, on the order of steps, or on threads."""
    whole = by_row(feed_of(Numbers(), BATCH), range(9))
    assert by_row(feed_of(Numbers(), rows), range(9)) == whole
    assert by_row(feed_of(Numbers(), rows), [7, 2, 0]) == {key: whole[key] for key in whole if key[0] in (7, 2, 0)}
    shifts = {(step // 3, row): number - row for (step, row), number in whole.items()}
    assert len(set(shifts.values())) == 3 * ROWS  # every row another in every epoch
    assert all(0 <= shift < 1 for shift in shifts.values())
    assert by_row(feed_of(Numbers(), rows, seed=1), range(3)) != {key: whole[key] for key in whole if key[0] < 3}


def test_rows_are_loaded_in_threads_ahead_of_time() -> None:
    encoder = Numbers()
    by_row(feed_of(encoder, 2), range(3))
    assert encoder.threads
    assert threading.current_thread().name not in encoder.threads


def test_an_error_of_a_thread_comes_out_where_its_batch_is_asked_for() -> None:
    def make(key: int) -> int:
        if key == 2:
            raise ValueError("broken file")
        return key

    found = Ahead(make)([0, 1, 2, 3])
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="broken file"):
        next(found)


def test_what_was_made_ahead_is_used_by_the_next_call() -> None:
    made: list[int] = []
    ahead = Ahead(lambda key: made.append(key) or key)  # type: ignore[func-returns-value]
    assert list(ahead([0, 1], then=[2, 3])) == [0, 1]
    assert list(ahead([2, 3])) == [2, 3]
    assert sorted(made) == [0, 1, 2, 3]
    assert list(WhenAsked(str)([5], then=[6])) == ["5"]


def test_evaluation_draws_nothing_and_sees_every_row_once() -> None:
    seen = {
        int(row): float(number)
        for rows, batch in feed_of(Numbers(), 5).everything()
        for row, number in zip(batch.rows, batch.inputs["number"], strict=True)
    }
    assert seen == {row: float(row) for row in range(ROWS)}


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_counts_are_those_of_the_whole_step(rows: int) -> None:
    feed, plan = feed_of(Numbers(), rows), ShuffledPlan(ROWS, batch_size=BATCH, seed=0)
    for step in range(3):
        assert {batch.of_step["sum"] for batch in feed.step(step)} == {float(plan.rows(step).sum())}


def test_rows_are_identified_by_content_and_only_where_nothing_is_drawn() -> None:
    feed = feed_of(Numbers(), 4, identified=True)
    known = {int(row): by for _, batch in feed.everything() for row, by in zip(batch.rows, batch.known_by, strict=True)}
    assert len(set(known.values())) == ROWS
    assert all(batch.known_by == () for batch in feed.step(0))


def test_a_budget_is_halved_until_rows_stand_alone() -> None:
    feed = feed_of(Numbers(), 8)
    sizes = []
    while True:
        sizes.append(max(len(batch.rows) for batch in feed.step(0)))
        if not feed.halve(0):
            break
    assert sizes == [8, 4, 2, 1]


def test_texts_are_laid_out_when_they_are_asked_for() -> None:
    assert not TextEncoder.slow
    assert case_of("text-classification").data()  # the contract tests run the rest
