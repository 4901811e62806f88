"""A run over a budget of time: ends in time, with a complete schedule, and the plan decides what the clock decided."""

from __future__ import annotations

from typing import Any

import pytest

from sftlib import FineTuner
from sftlib.errors import OptionError
from sftlib.run import minutes
from tests.selection.helpers import reviews, tuner


class FakeClock:
    """Ticks when a step ends: ``pace`` seconds each, ``later`` from a step on."""

    def __init__(self, pace: float, later: tuple[int, float] = (10**9, 0.0)) -> None:
        self.now, self._pace, self._later, self.steps = 0.0, pace, later, 0

    def __call__(self) -> float:
        return self.now

    def step(self) -> None:
        self.steps += 1
        self.now += self._later[1] if self.steps > self._later[0] else self._pace


def run(monkeypatch: pytest.MonkeyPatch, clock: FakeClock, budget: float, **options: Any) -> FineTuner:
    made = minutes.Deadline.__init__

    def init(self: Any, *args: Any, **given: Any) -> None:
        made(self, *args, **{**given, "started": 0.0, "clock": clock})

    told = minutes.Deadline.on_step_end

    def step(self: Any, training: Any, record: Any) -> None:
        clock.step()
        told(self, training, record)

    monkeypatch.setattr(minutes.Deadline, "__init__", init)
    monkeypatch.setattr(minutes.Deadline, "on_step_end", step)
    return tuner(**{"epochs": 1000, **options}).fit(reviews(), minutes=budget, progress=False)


def test_the_time_is_used_and_kept_and_the_rate_ends_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(1.0)
    learned = run(monkeypatch, clock, 2.0)
    assert 0.94 * 120 <= clock.now <= 120
    rates = [record["learning_rate"] for record in learned.history.steps]
    assert rates[-1] < 0.05 * max(rates)
    (plan,) = [record for record in learned.history if record["kind"] == "plan"]
    assert plan["steps"] == len(rates)


@pytest.mark.parametrize("later", [(30, 2.0), (60, 1.7), (20, 0.5)])
def test_a_machine_that_becomes_busy_or_free(later: tuple[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(1.0, later)
    learned = run(monkeypatch, clock, 2.0)
    assert 0.85 * 120 <= clock.now <= 1.05 * 120
    rates = [record["learning_rate"] for record in learned.history.steps]
    assert rates[-1] < 0.1 * max(rates)
    assert len([record for record in learned.history if record["kind"] == "plan"]) > 1


def test_epochs_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(run(monkeypatch, FakeClock(0.01), 2.0, epochs=2).history.steps) == 12


def test_real_seconds() -> None:
    import time

    begun = time.monotonic()
    tuner(epochs=100_000).fit(reviews(), minutes=0.05, progress=False)
    assert time.monotonic() - begun < 60  # a hundred thousand epochs take hours: only that the budget ends it


@pytest.mark.parametrize(
    ("options", "budget", "expected"),
    [
        ({}, 0, "minutes=0: expected a finite number above 0"),
        ({}, "ten", "minutes='ten'"),
        ({"max_steps": 3}, 1, "one of them, not both"),
        ({}, 1e-9, "leaves no time for a step"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], budget: Any, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        tuner(**options).fit(reviews(), minutes=budget, progress=False)


def test_a_run_that_goes_on_follows_the_plan(tmp_path: Any) -> None:
    from sftlib import Callback

    class Stop(Callback):
        def __init__(self, at: int) -> None:
            self.at = at

        def on_step_end(self, training: Any, record: Any) -> None:
            if training.step == self.at:
                raise KeyboardInterrupt

    options: dict[str, Any] = {"epochs": 4}
    with pytest.raises(KeyboardInterrupt):
        tuner(**options).fit(
            reviews(), minutes=10, output_dir=tmp_path / "run", save_every=6, callbacks=[Stop(14)], progress=False
        )
    found = tuner(**options).fit(
        reviews(), minutes=10, output_dir=tmp_path / "run", resume=True, callbacks=[Stop(-1)], progress=False
    )
    assert len(found.history.steps) == 24
    assert [record["step"] for record in found.history if record["kind"] == "plan"] == [5]
