"""`transfer`: three ways to learn the same rows, compared on the same others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib import FineTuner, MultiTask
from sftlib.errors import NotFittedError, OptionError
from sftlib.multitask import transfer
from tests.contracts.cases import same_weights, weights
from tests.selection.helpers import numbers, reviews, tuner


@pytest.fixture(scope="module")
def source() -> FineTuner:
    return tuner(epochs=3).fit(numbers(40), progress=False)


def test_each_way_is_the_run_that_one_would_write(source: FineTuner) -> None:
    train, test = reviews(48).split(0.5, 0.5, seed=1)
    before = weights(source)
    found = transfer(source, train, test=test)
    assert list(found.scores) == ["alone", "after the source", "together"]
    alone = tuner(epochs=3).fit(train, progress=False)
    assert same_weights(weights(found.tuners["alone"]), weights(alone))
    assert found.scores["alone"] == alone.evaluate(test)["accuracy"]
    both = tuner(epochs=3).fit(MultiTask({"target": train, "source": numbers(40)}), progress=False)
    assert found.scores["together"] == both.evaluate(test, task="target")["accuracy"]
    after = found.tuners["after the source"]
    assert found.scores["after the source"] == after.evaluate(test)["accuracy"]
    assert not same_weights(weights(after), weights(alone))
    assert same_weights(weights(source), before)
    for way, apart in found.differences.items():
        assert apart.value == pytest.approx(found.scores[way] - found.scores["alone"])
    assert "against alone" in str(found)
    assert found.to_dict()["rows"] == len(train)


def test_without_a_step_the_body_is_that_of_the_source(source: FineTuner) -> None:
    still = tuner(epochs=3).fit(numbers(40), progress=False).set_params(learning_rate=0.0, max_steps=1)
    found = transfer(still, reviews(16))
    body = {name: value for name, value in weights(found.tuners["after the source"]).items() if "encoder" in name}
    theirs = weights(source)
    assert body
    assert all((value == theirs[name]).all() for name, value in body.items())


def test_several_tasks_are_a_source_and_a_folder_has_no_rows(tmp_path: Path) -> None:
    many = tuner(epochs=1).fit(MultiTask({"degree": numbers(16), "mood": reviews(16)}), progress=False)
    found = transfer(many, reviews(32), metric="f1_macro")
    assert found.metric == "f1_macro"
    assert found.tuners["together"].task == "text-classification"
    plain = tuner(epochs=1).fit(numbers(16), progress=False)
    plain.save(tmp_path / "out")
    loaded = transfer(FineTuner.load(tmp_path / "out"), reviews(16))
    assert "together" not in loaded.scores
    assert "its rows are not here" in str(loaded)


def test_what_cannot_be_compared_is_refused(source: FineTuner) -> None:
    with pytest.raises(NotFittedError):
        transfer(tuner(), reviews(16))
    with pytest.raises(OptionError, match="expected a FineTuner"):
        transfer("bert", reviews(16))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="metric='acuracy'"):
        transfer(source, reviews(16), metric="acuracy")
