"""A search finds what was planted, says what it cannot tell apart, survives failures and being killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftlib import FineTuner, Range, TaskDataset, TextClassification, search
from sftlib.errors import CheckpointError, NonFiniteError, OptionError
from sftlib.selection.options import candidates_of
from sftlib.selection.rungs import shortened
from tests.selection.helpers import numbers, reviews, tuner


def table(found: Any) -> list[tuple[Any, ...]]:
    """What must not depend on the clock."""
    return [
        (dict(t.options), t.score, t.interval, t.difference, t.equal, t.rung, t.steps, t.error) for t in found.trials
    ]


def test_a_planted_winner_is_found_and_the_planted_loser_is_told_apart() -> None:
    found = search(tuner(learning_rate=0.0, epochs=20), reviews(40), options={"learning_rate": [3e-3]}, progress=False)
    assert found.best == {"learning_rate": 3e-3}
    assert [trial.own for trial in found.trials] == [False, True]
    assert found.equals == ({"learning_rate": 3e-3},)
    assert found.trials[1].difference.high < 0
    assert found.tuner.evaluate(reviews(60))["accuracy"] > 0.9
    assert found.tuner.get_params()["learning_rate"] == 3e-3


def test_own_options_are_always_a_trial_and_never_twice() -> None:
    found = search(tuner(), reviews(), options={"epochs": [1, 2]}, folds=2, refit=False, progress=False)
    assert sorted(trial.options["epochs"] for trial in found.trials) == [1, 2]
    assert sum(trial.own for trial in found.trials) == 1
    assert found.tuner is None


def test_the_simplest_of_equals_takes_the_least_work() -> None:
    found = search(tuner(epochs=15), reviews(60), options={"epochs": [12, 18]}, folds=2, refit=False, progress=False)
    assert {"epochs": 12} in found.equals
    assert found.simplest == {"epochs": 12}
    assert "the simplest: epochs=12" in str(found)


def test_halving_leaves_the_bad_ones_early_with_complete_schedules() -> None:
    rates = [0.0, 1e-9, 4e-3, 6e-3]
    learner = tuner(epochs=30, learning_rate=5e-3)
    found = search(learner, reviews(96), options={"learning_rate": rates}, folds=2, refit=False, progress=False)
    assert found.best["learning_rate"] >= 4e-3
    left = [trial for trial in found.trials if trial.rung < 2]
    assert left
    assert all(trial.difference is None and not trial.equal and trial.share < 1 for trial in left)
    assert all(trial.steps == (180 if trial.rung == 2 else 60 if trial.rung == 1 else 20) for trial in found.trials)
    assert "% of the steps" in str(found)


def test_halving_by_one_is_the_grid() -> None:
    ways = [
        search(
            tuner(),
            reviews(),
            options={"learning_rate": [1e-3, 1e-4, 1e-5, 0.0]},
            halving=halving,
            folds=2,
            refit=False,
            progress=False,
        )
        for halving in (False, 1)
    ]
    assert table(ways[0]) == table(ways[1])
    assert all(trial.rung == 0 and trial.share == 1 for trial in ways[0].trials)


def test_short_runs_shorten_a_warm_up_in_steps_too() -> None:
    short = shortened(tuner(epochs=3, warmup=9), reviews(48), 1 / 3).get_params(deep=False)
    assert (short["max_steps"], short["warmup"]) == (6, 3)
    assert shortened(tuner(max_steps=9), reviews(48), 1 / 9).get_params(deep=False)["max_steps"] == 1


def test_options_of_the_task_and_of_inputs() -> None:
    options = {"task__label_smoothing": [0.0, 0.2], "inputs__max_length": [8]}
    found = search(tuner(), reviews(), options=options, folds=2, progress=False)
    assert {trial.options["task__label_smoothing"] for trial in found.trials} == {0.0, 0.2}
    assert found.tuner.get_params()["inputs__max_length"] == found.best["inputs__max_length"]
    given = search(
        tuner(task=TextClassification()),
        reviews(),
        options={"task__label_smoothing": [0.1]},
        folds=2,
        refit=False,
        progress=False,
    )
    assert len(given.trials) == 2


def test_with_validation_rows_candidates_are_judged_on_them() -> None:
    train, valid = reviews(60).split(0.6, 0.4)
    found = search(tuner(), train, valid, options={"learning_rate": [0.0]}, progress=False)
    assert found.rows == len(valid)
    winner = tuner().fit(train, progress=False)
    assert found.score == winner.evaluate(valid)["accuracy"]
    assert found.tuner.predict(valid) == winner.predict(valid)


def test_a_trial_that_fails_is_a_row_and_all_failing_raises_the_first() -> None:
    found = search(tuner(), reviews(), options={"learning_rate": [1e30]}, folds=2, refit=False, progress=False)
    assert found.trials[0].own
    assert "NonFiniteError" in found.trials[-1].error
    assert found.trials[-1].score is None
    assert "failed: NonFiniteError" in str(found)
    with pytest.raises(NonFiniteError):
        search(tuner(learning_rate=1e30), reviews(), options={"learning_rate": [1e31]}, folds=2, progress=False)


def test_ranges_are_spread_evenly_and_the_same_by_the_seed() -> None:
    options = {"learning_rate": Range(1e-5, 1e-1, log=True), "epochs": Range(1, 4), "warmup": [0.0, 0.1]}
    made = [candidates_of(tuner(), options, usual=TextClassification, trials=16, seed=seed)[1:] for seed in (0, 0, 1)]
    rates = [one.changes["learning_rate"] for one in made[0]]
    assert [one.changes for one in made[0]] == [one.changes for one in made[1]] != [one.changes for one in made[2]]
    assert [sum(10.0**p <= rate < 10.0 ** (p + 1) for rate in rates) for p in range(-5, -1)] == [4, 4, 4, 4]
    assert {one.changes["epochs"] for one in made[0]} == {1, 2, 3, 4}
    assert {one.changes["warmup"] for one in made[0]} == {0.0, 0.1}


def test_a_list_of_maps() -> None:
    options = [{"freeze": ["backbone"], "learning_rate": [1e-2, 3e-2]}, {"freeze": [None], "learning_rate": [3e-3]}]
    found = search(tuner(), reviews(), options=options, folds=2, refit=False, progress=False)
    assert len(found.trials) == 3  # the last is the tuner's own


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"learning_rat": [1e-3]}, "did you mean 'learning_rate'"),
        ({"epochs": [1, 0]}, "epochs=0: expected a whole number"),
        ({"epochs": 3}, "expected a list of values"),
        ({"schedule": "linear"}, "expected a list of values, such as"),
        ({"epochs": []}, "expected a list of values"),
        ({}, "options"),
        ({"epochs": [3, 3]}, "comes twice"),
        ({"learning_rate": [1e-3, 2e-3, 1e-3]}, "comes twice"),
        ([{"epochs": [2]}, {"epochs": [2]}], "comes twice"),
        ({"learning_rate": Range(1e-5, 1e-3, log=True)}, "say how many to try, with trials="),
        ({"task__stride": [3]}, "has no option 'stride'"),
        ({"keep_best": ["accuracyy"]}, "did you mean 'accuracy'"),
    ],
)
def test_bad_options_are_refused_before_any_training(options: Any, expected: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(FineTuner, "fit", lambda *_, **__: pytest.fail("something was fitted"))
    with pytest.raises(OptionError, match=expected):
        search(tuner(), reviews(), options=options, progress=False)


def test_problems_of_all_trials_come_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        search(tuner(), reviews(), options={"epochs": [0], "dropout": [2.0]})
    assert "epochs=0" in str(caught.value)
    assert "dropout=2.0" in str(caught.value)
    with pytest.raises(OptionError, match=r"high|smaller"):
        Range(2, 1)
    with pytest.raises(OptionError, match="above 0"):
        Range(0, 1, log=True)


def test_a_search_that_was_killed_goes_on_to_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, data = {"learning_rate": [0.0, 1e-3, 1e30], "freeze": [None, "backbone"]}, reviews(40)
    fit, count = FineTuner.fit, [0]

    def counting(self: FineTuner, *args: Any, **given: Any) -> FineTuner:
        count[0] += 1
        return fit(self, *args, **given)

    monkeypatch.setattr(FineTuner, "fit", counting)
    whole = search(tuner(), data, options=options, folds=2, refit=False, progress=False)
    needed = count[0]
    for killed in (1, needed // 2, needed - 1):
        folder, count[0] = tmp_path / str(killed), 0

        def interrupted(self: FineTuner, *args: Any, killed: int = killed, **given: Any) -> FineTuner:
            if count[0] == killed:
                raise KeyboardInterrupt
            return counting(self, *args, **given)

        monkeypatch.setattr(FineTuner, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(tuner(), data, options=options, folds=2, output_dir=folder, refit=False, progress=False)
        monkeypatch.setattr(FineTuner, "fit", counting)
        count[0] = 0
        found = search(tuner(), data, options=options, folds=2, output_dir=folder, refit=False, progress=False)
        assert table(found) == table(whole)
        assert count[0] <= needed - killed + 2  # what is frozen is computed again, what is finished is not
    count[0] = 0
    again = search(tuner(), data, options=options, folds=2, output_dir=folder, refit=False, progress=False)
    assert count[0] == 0
    assert table(again) == table(whole)
    with pytest.raises(CheckpointError, match="another search"):
        search(tuner(), data, options={"learning_rate": [0.1]}, folds=2, output_dir=folder, progress=False)


def test_time_is_over_after_the_trial_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"learning_rate": [1e-3, 2e-3, 4e-3]}
    found = search(tuner(), reviews(), options=options, folds=2, minutes=1e-9, halving=False, progress=False)
    assert len(found.trials) == 1
    assert found.untried == ({"learning_rate": 1e-3}, {"learning_rate": 2e-3}, {"learning_rate": 4e-3})
    assert "not tried, the time was over" in str(found)
    assert found.tuner is not None


def test_regression_and_loss_as_metrics() -> None:
    found = search(
        tuner(learning_rate=1e-9), numbers(), options={"learning_rate": [3e-3]}, folds=3, metric="mse", progress=False
    )
    assert found.best == {"learning_rate": 3e-3}
    by_loss = search(
        tuner(learning_rate=1e-9),
        numbers(),
        options={"learning_rate": [3e-3]},
        folds=3,
        metric="loss",
        refit=False,
        progress=False,
    )
    assert by_loss.best == {"learning_rate": 3e-3}


def test_the_best_epoch_of_the_folds_is_taken_for_the_refit() -> None:
    found = search(
        tuner(epochs=5, keep_best="accuracy"), reviews(60), options={"learning_rate": [1e-3]}, folds=2, progress=False
    )
    assert found.tuner.get_params()["epochs"] == found.trials[0].epochs


def test_it_prints_is_html_and_becomes_a_frame() -> None:
    found = search(tuner(), reviews(), options={"epochs": [1, 3]}, folds=2, progress=False)
    frame = found.to_frame()
    assert list(frame["epochs"]) == [trial.options["epochs"] for trial in found.trials]
    assert "optimistic by about" in str(found)
    assert "<table>" in found._repr_html_()
    assert repr(found).startswith("Found(best={'epochs':")
    assert found.to_dict()["best"] == found.best


def test_what_was_passed_in_is_not_changed() -> None:
    learner = tuner()
    before = learner.get_params()
    search(learner, reviews(), options={"epochs": [1]}, folds=2, progress=False)
    assert learner.get_params() == before
    assert isinstance(reviews(), TaskDataset)
