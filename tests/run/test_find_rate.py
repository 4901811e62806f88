"""A race of short runs finds a rate that learns, the same each time, and says what it found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner
from sftlib.errors import OptionError
from sftlib.run import find_rate
from tests.selection.helpers import numbers, reviews, tuner


def test_it_finds_the_largest_rate_that_is_not_worse() -> None:
    rates = [1.0, 2.0, 4.0, 8.0]
    flat = np.full(20, 0.5) + np.linspace(0, 1, 20)
    noise = np.tile([0.01, -0.01], 10)
    assert find_rate._winner(rates, np.stack([flat + 0.5, flat, flat + noise, flat + 0.2])) == 4.0
    assert find_rate._winner(rates, np.stack([flat, flat + 0.5, np.full(20, np.inf), flat + 0.5])) == 1.0
    assert find_rate._winner([1.0], flat[None]) == 1.0


def test_a_fit_uses_it_and_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_rate, "_usual", lambda call: (1e-3, None))
    learner = tuner(learning_rate="find", epochs=8)
    learned = learner.fit(reviews(60))
    rate = learned.settings["learning_rate"]
    assert rate in (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
    told = capsys.readouterr()
    assert f"learning_rate {rate:.3g}, found in 5 runs of 30 steps" in told.out + told.err
    assert [line[0] for line in learned.decided["learning_rate"]["losses"]] == [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3]
    assert learner.get_params()["learning_rate"] == "find"
    again = learner.clone().fit(reviews(60), progress=False)
    assert again.settings["learning_rate"] == rate
    plain = tuner(learning_rate=rate, epochs=8).fit(reviews(60), progress=False)
    assert again.history == plain.history


def test_a_new_head_keeps_its_own_rate_in_the_race(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_rate, "_usual", lambda call: (1e-3, 1e-2))
    learned = tuner(learning_rate="find").fit(reviews())
    rate = learned.settings["learning_rate"]
    assert learned.settings["head_learning_rate"] == 1e-2
    assert f"learning_rate {rate:.3g} (0.01 of the head)" in "".join(capsys.readouterr())
    plain = tuner(learning_rate=rate, head_learning_rate=1e-2).fit(reviews(), progress=False)
    assert learned.history == plain.history
    named = tuner(learning_rate="find", head_learning_rate=2e-3).fit(reviews(), progress=False)
    assert named.settings["head_learning_rate"] == 2e-3


def test_a_rate_that_explodes_cannot_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_rate, "_usual", lambda call: (1e-3, None))
    monkeypatch.setattr(find_rate, "_FACTORS", (1.0, 1e33))
    assert tuner(learning_rate="find").fit(reviews(), progress=False).settings["learning_rate"] == 1e-3
    monkeypatch.setattr(find_rate, "_FACTORS", (1e33,))
    with pytest.raises(OptionError, match="not finite at any"):
        tuner(learning_rate="find").fit(reviews(), progress=False)


def test_regression_and_adapters() -> None:
    assert math.isfinite(tuner(learning_rate="find").fit(numbers(), progress=False).settings["learning_rate"])


def test_another_word_is_refused() -> None:
    with pytest.raises(OptionError, match="learning_rate='search'"):
        tuner(learning_rate="search")


def test_it_goes_on_after_being_killed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_rate, "_usual", lambda call: (1e-3, None))
    data = reviews()
    whole = tuner(learning_rate="find").fit(data, progress=False)
    first: FineTuner = tuner(learning_rate="find").fit(data, output_dir=tmp_path / "run", progress=False)
    again = tuner(learning_rate="find").fit(data, output_dir=tmp_path / "run", resume=True, progress=False)
    assert first.history == again.history == whole.history
