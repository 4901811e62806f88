"""What the body does as it came, beside the tuned model: the same as a frozen run, said, and without any influence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from sftlib import FineTuner, MultiTask, TaskDataset, TaskStream, Text
from sftlib.errors import OptionError
from sftlib.testing import tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of
from tests.selection.helpers import numbers, reviews, tuner


def metrics_of(tuned: FineTuner) -> dict[str, float]:
    found: dict[str, float] = tuned.decided["baseline"]["metrics"]
    return found


def test_of_one_label_a_row_it_is_a_logistic_regression_on_the_frozen_body() -> None:
    train, valid = reviews(48).split(0.75, 0.25, seed=0)
    tuned = tuner().fit(train, valid, baseline=True, progress=False)
    frozen = tuner(few_shot=True, freeze="backbone").fit(train, progress=False)
    assert tuned.decided["baseline"]["head"] == "logistic regression"
    assert metrics_of(tuned) == frozen.evaluate(valid).to_dict()


def test_of_numbers_it_is_a_run_with_a_frozen_body_at_its_own_rate() -> None:
    train, valid = numbers(40).split(0.75, 0.25, seed=0)
    tuned = tuner(learning_rate=1e-4).fit(train, valid, baseline=True, progress=False)
    frozen = tuner(learning_rate=None, freeze="backbone").fit(train, progress=False)
    assert tuned.decided["baseline"]["head"] == "a head trained alone"
    assert metrics_of(tuned) == pytest.approx(frozen.evaluate(valid).to_dict(), rel=1e-9)


@pytest.mark.parametrize(
    "options", [{"dropout": 0.1}, {"freeze": 1}, {"adapter": "lora"}, {"few_shot": "contrast", "max_steps": 3}]
)
@pytest.mark.parametrize("rows", [reviews, numbers])
def test_it_changes_nothing(rows: Callable[[int], TaskDataset], options: dict[str, Any]) -> None:
    if rows is numbers and "few_shot" in options:
        options = {"head_learning_rate": 1e-2}
    train, valid = rows(32).split(0.75, 0.25, seed=0)
    alone = tuner(**options).fit(train, valid, progress=False)
    beside = tuner(**options).fit(train, valid, baseline=True, progress=False)
    assert [r["loss"] for r in beside.history.steps] == [r["loss"] for r in alone.history.steps]
    assert beside.evaluate(valid).to_dict() == alone.evaluate(valid).to_dict()
    assert {name for name in beside.decided if name not in alone.decided} == {"baseline"}


def test_a_tuned_model_that_is_worse_is_warned_of(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    train, valid = numbers(40).split(0.75, 0.25, seed=0)
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        tuned = tuner(learning_rate=1e-9, metrics=["mae"]).fit(train, valid, baseline=True, progress=False)
    before, after = metrics_of(tuned)["mae"], tuned.evaluate(valid)["mae"]
    assert after > before  # of an error the smaller one is the better one
    assert f"mae {before:.4f} with the body as it came under a head trained alone" in caplog.text
    assert f"tuned {after:.4f} (10 validation rows)" in caplog.text
    assert "tuning did not help" in caplog.text
    assert capsys.readouterr() == ("", "")


def test_otherwise_it_is_a_line_where_lines_are_wanted(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    train, valid = numbers(40).split(0.75, 0.25, seed=0)
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        tuned = tuner(epochs=8, keep_best="mae").fit(train, valid, baseline=True)
    before, after = metrics_of(tuned)["mae"], tuned.evaluate(valid)["mae"]
    assert after < before
    shown = "".join(capsys.readouterr())
    assert f"baseline: mae {before:.4f} with the body as it came under a head trained alone, tuned {after:.4f}" in shown
    assert "tuning did not help" not in shown + caplog.text


def test_pictures_and_several_tasks_have_one_too() -> None:
    case = case_of("image-classification")
    data = case.data()
    pictures = FineTuner(case.model(), max_steps=2, batch_size=4).fit(data, data, baseline=True, progress=False)
    assert pictures.decided["baseline"]["head"] == "logistic regression"
    assert 0 <= metrics_of(pictures)["accuracy"] <= 1
    both = MultiTask({"mood": reviews(24), "degree": numbers(16)})
    several = tuner(epochs=1).fit(both, both, baseline=True, progress=False)
    assert {"loss", "mood.accuracy", "degree.rmse"} <= metrics_of(several).keys()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"baseline": "yes"}, "baseline='yes'"),
        ({"baseline": True}, "there is none: fit\\(train, valid, baseline=True\\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        tuner().fit(reviews(8), progress=False, **given)


def test_a_stream_has_none_and_neither_has_a_model_without_a_head() -> None:
    stream = TaskStream(list(reviews(16)), text="text", label="label", label_names=["bad", "good"])
    with pytest.raises(OptionError, match="baseline=.*at hand, not a stream"):
        tuner(max_steps=2).fit(stream, reviews(8), baseline=True, progress=False)
    texts = TaskDataset({"text": reviews(8).column("text")}, task="causal-lm")
    model = tiny_model("gpt2", auto_class="AutoModelForCausalLM")
    writer = FineTuner(model, inputs=Text(tokenizer=tiny_tokenizer("gpt2")))
    with pytest.raises(OptionError, match="baseline=True: "):
        writer.fit(texts, texts, baseline=True, progress=False)
