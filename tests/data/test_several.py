"""`MultiTask`: what it refuses, what it says of its parts, and how it is cut."""

from __future__ import annotations

from typing import Any

import pytest

from sftlib import MultiTask, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.multitask import MultiTask as ByItsOwnName


def moods(rows: int = 8, *, named: str = "mood") -> TaskDataset:
    return TaskDataset(
        {"text": [f"{named} text {i}" for i in range(rows)], "label": [("good", "bad")[i % 2] for i in range(rows)]}
    )


def stars(rows: int = 6) -> TaskDataset:
    return TaskDataset({"text": [f"star {i}" for i in range(rows)], "target": [float(i) for i in range(rows)]})


def test_it_is_a_data_set_of_data_sets() -> None:
    data = MultiTask({"mood": moods(), "stars": stars()})
    assert ByItsOwnName is MultiTask
    assert len(data) == 14
    assert data.names == ("mood", "stars")
    assert data["stars"].task == "text-regression"
    assert [row["task"] for row in data] == ["mood"] * 8 + ["stars"] * 6
    assert next(iter(data)) == {"task": "mood", "text": "mood text 0", "label": "good"}
    assert "mood" in data
    assert "moods" not in data
    with pytest.raises(KeyError, match="did you mean 'mood'"):
        data["moods"]


def test_everything_wrong_with_the_options_is_said_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        MultiTask({"my task": moods(), "stars": stars()}, mixing=2.0, weights={"star": 1.0, "stars": 0.0})
    said = str(caught.value)
    for part in (
        "'my task' is no identifier",
        "mixing=2.0",
        "weights['star']: did you mean 'stars'?",
        "weights['stars']",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("parts", "options", "error", "words"),
    [
        ({}, {}, OptionError, "expected a mapping"),
        ([moods()], {}, OptionError, "expected a mapping"),
        ({"mood": {"text": ["a"]}}, {}, DataError, "'mood': expected a TaskDataset, found dict; wrap the rows"),
        ({"mood": moods().select([])}, {}, DataError, "'mood' holds no rows"),
        ({"mood": moods()}, {"weights": "auto"}, OptionError, "no rule that sets them by itself"),
        ({"mood": moods()}, {"mixng": 1}, OptionError, "did you mean 'mixing'"),
    ],
)
def test_what_cannot_be_several_tasks_is_refused(parts: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words.replace("[", r"\[")):
        MultiTask(parts, **options)


def test_it_is_cut_part_by_part_as_each_is_by_itself() -> None:
    data = MultiTask({"mood": moods(20), "stars": stars(12)}, mixing=0.3, weights={"stars": 2.0})
    train, rest = data.split(0.75, 0.25, seed=4)
    assert list(train["mood"]) == list(moods(20).split(0.75, 0.25, seed=4)[0])
    assert (len(train), len(rest)) == (15 + 9, 5 + 3)
    assert (train.mixing, train.weights["stars"], train.weights["mood"]) == (0.3, 2.0, 1.0)


def test_what_it_is_known_by_follows_everything_that_decides() -> None:
    def data(**options: Any) -> str:
        return MultiTask({"mood": moods(), "stars": stars()}, **options).fingerprint()

    others = [
        data(mixing=0.4),
        data(weights={"mood": 2.0}),
        MultiTask({"stars": stars(), "mood": moods()}).fingerprint(),
        MultiTask({"mood": moods(), "star": stars()}).fingerprint(),
        MultiTask({"mood": moods(), "stars": stars(5)}).fingerprint(),
    ]
    assert data() == data()
    assert len({data(), *others}) == 6


def test_a_text_that_another_task_is_tested_on_is_told() -> None:
    train = MultiTask({"mood": moods(), "stars": stars()})
    valid = MultiTask(
        {"mood": moods(4, named="other"), "stars": TaskDataset({"text": ["mood text 3"], "target": [1.0]})}
    )
    (across,) = train.report(valid).across
    assert "1 inputs of 'mood' stand in valid under 'stars'" in across
    assert across in train.report(valid).problems
    assert "mood" in str(train.report())
