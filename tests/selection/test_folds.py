"""Which rows are held out: every row once, twins together, groups whole, and refusals before any training."""

from __future__ import annotations

import numpy as np
import pytest

from sftlib import TaskDataset, cross_validate
from sftlib.errors import OptionError
from sftlib.selection.folds import check_folds, make_folds
from tests.selection.helpers import reviews, tuner


def test_every_row_is_held_out_once_and_classes_are_spread() -> None:
    data = reviews(50)
    folds = make_folds(data, folds=5, repeats=2, groups=None, seed=3)
    for repeat in range(2):
        held_out = np.concatenate([fold.held_out for fold in folds if fold.repeat == repeat])
        assert sorted(held_out.tolist()) == list(range(50))
    for fold in folds:
        assert not set(fold.train.tolist()) & set(fold.held_out.tolist())
        labels = data.select(fold.held_out).column("label")
        assert abs(labels.count("good") - 5) <= 1
    assert [f.held_out.tolist() for f in folds[:5]] != [f.held_out.tolist() for f in folds[5:]]


def test_twins_are_never_on_two_sides() -> None:
    texts = [f"text {i % 10}" for i in range(40)]
    data = TaskDataset({"text": texts, "label": [i % 2 for i in range(40)]})
    for fold in make_folds(data, folds=4, repeats=1, groups=None, seed=0):
        assert not {texts[i] for i in fold.train} & {texts[i] for i in fold.held_out}


def test_groups_are_never_on_two_sides_and_one_is_left_out_each() -> None:
    data = reviews(48)
    places = data.column("place")
    for fold in make_folds(data, folds=2, repeats=1, groups="place", seed=0):
        assert not {places[i] for i in fold.train} & {places[i] for i in fold.held_out}
    one_out = make_folds(data, folds="groups", repeats=1, groups="place", seed=0)
    assert [fold.name for fold in one_out] == ["place 0", "place 1", "place 2", "place 3"]
    assert all({places[i] for i in fold.held_out} == {fold.name} for fold in one_out)


def test_a_row_that_stands_in_two_groups_is_not_learned_when_one_is_left_out() -> None:
    data = TaskDataset(
        {"text": ["same", "b", "same", "d", "e", "f"], "label": [0, 1, 0, 1, 0, 1], "place": list("xxyyzz")}
    )
    first = make_folds(data, folds="groups", repeats=1, groups="place", seed=0)[0]
    assert first.held_out.tolist() == [0, 1]
    assert first.train.tolist() == [3, 4, 5]


def test_rows_selected_in_another_order_and_twice() -> None:
    data = reviews(40).select([*range(39, -1, -1), 0, 1])
    folds = make_folds(data, folds=4, repeats=1, groups=None, seed=0)
    assert sorted(np.concatenate([fold.held_out for fold in folds]).tolist()) == list(range(42))
    for fold in folds:
        texts = data.column("text")
        assert not {texts[i] for i in fold.train} & {texts[i] for i in fold.held_out}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"folds": 30}, "the label '(bad|good)' has 24 rows"),
        ({"folds": 1}, "folds=1: expected 'groups'"),
        ({"folds": "group"}, "folds='group'"),
        ({"repeats": 0}, "repeats=0"),
        ({"groups": "palce"}, "did you mean 'place'"),
        ({"groups": "place"}, "there are 4 groups; give folds=4"),
        ({"folds": "groups"}, "say which rows belong together"),
        ({"folds": "groups", "groups": "one"}, "all 48 rows are of one group"),
        ({"metric": "accurracy"}, "accuracy"),
        ({"fold": 3}, "did you mean 'folds'"),
    ],
)
def test_what_the_data_cannot_have_is_refused_before_any_training(changes: dict, expected: str, monkeypatch) -> None:
    rows = reviews(48)
    data = TaskDataset({**{name: rows.column(name) for name in rows.columns}, "one": ["x"] * 48})
    learner = tuner()
    monkeypatch.setattr(type(learner), "fit", lambda *_, **__: pytest.fail("something was fitted"))
    with pytest.raises(OptionError, match=expected):
        cross_validate(learner, data, progress=False, **changes)


def test_all_that_is_wrong_comes_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        check_folds(reviews(48), 1, 0, None)
    assert "folds=1" in str(caught.value)
    assert "repeats=0" in str(caught.value)
