"""What is refused before several tasks are learned, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from sftlib import FineTuner, MultiTask, TaskDataset
from sftlib.errors import ArtifactError, DataError, NotFittedError, OptionError
from tests.contracts.cases import case_of
from tests.selection.helpers import numbers, reviews, tuner


def both() -> MultiTask:
    return MultiTask({"mood": reviews(24), "degree": numbers(16)})


@pytest.fixture(scope="module")
def fitted() -> FineTuner:
    return tuner(epochs=1).fit(both(), progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "text-classification"}, "each data set says what it is for"),
        ({"adapter": "lora"}, "an adapter is saved with one head"),
        ({"few_shot": True}, "it fits one head"),
        ({"learning_rate": "find"}, "the race looks at one task"),
        ({"label_smoothing": 0.1}, "degree: label_smoothing=0.1: text-regression has no such option"),
        ({"keep_best": "degree.mse"}, "there is none"),
    ],
)
def test_options_of_one_task_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        tuner(**options).fit(both(), progress=False)


def test_all_that_is_wrong_with_the_data_is_said_at_once() -> None:
    train = MultiTask({"mood": reviews(4).select([0, 2]), "degree": TaskDataset({"text": ["a"]})})
    with pytest.raises(DataError) as caught:
        tuner().fit(train, MultiTask({"moods": reviews(4)}), progress=False)
    for words in ("mood: column 'label': all 2 rows", "degree: fit (train)", "did you mean 'mood'"):
        assert words in str(caught.value), words


def test_tasks_that_learn_alone_or_read_something_else_are_refused() -> None:
    pairs = TaskDataset({"text": ["a", "b"], "text_pair": ["c", "d"]}, task="text-embedding")
    with pytest.raises(OptionError, match="'close' is text-embedding, which learns alone"):
        tuner().fit(MultiTask({"mood": reviews(), "close": pairs}), progress=False)
    with pytest.raises(OptionError, match="'kind' reads Image, and 'mood' Text"):
        tuner().fit(MultiTask({"mood": reviews(), "kind": case_of("image-classification").data()}), progress=False)


@pytest.mark.parametrize(("train", "valid"), [(both(), reviews()), (reviews(), both())])
def test_both_data_sets_are_of_several_tasks_or_none(train: Any, valid: Any) -> None:
    with pytest.raises(DataError, match="MultiTask"):
        tuner().fit(train, valid, progress=False)


def test_who_asks_several_tasks_says_which(fitted: FineTuner) -> None:
    with pytest.raises(OptionError, match="several tasks, mood, degree; say which: task='mood'"):
        fitted.predict("a film")
    with pytest.raises(OptionError, match="did you mean 'mood'"):
        fitted.predict("a film", task="moods")
    with pytest.raises(DataError, match="no such task: did you mean 'mood'"):
        fitted.evaluate(MultiTask({"moods": reviews()}))
    assert fitted.evaluate(reviews(), task="mood") == fitted.evaluate(both())["mood"] or len(both()["mood"]) == 24
    plain = tuner(epochs=1).fit(reviews(16), progress=False)
    with pytest.raises(OptionError, match="this model has one task, text-classification"):
        plain.predict("a film", task="mood")
    with pytest.raises(DataError, match="this model has one, text-classification"):
        plain.evaluate(both())
    with pytest.raises(NotFittedError):
        tuner().evaluate(both())


def test_a_report_is_of_every_part() -> None:
    report = tuner().report(both(), both())
    assert ("mood: rows", 24) in report.table()
    assert any("stand in valid under 'mood'" in problem for problem in report.problems)
    assert report.steps == 2 * 5


def test_a_second_fit_begins_anew_and_the_parts_follow(fitted: FineTuner) -> None:
    first = fitted.clone().fit(both(), progress=False)
    before = first.predict("a film", task="mood")
    again = first.fit(both(), progress=False)
    assert again.predict("a film", task="mood") == before
    first.set_params(seed=3).fit(both(), progress=False)
    assert first.predict("a film", task="mood").probability != before.probability


def test_what_is_told_names_the_shares(capsys: pytest.CaptureFixture[str]) -> None:
    tuner(epochs=1).fit(both(), both())
    said = capsys.readouterr()
    assert "rows of a step by task: mood 55%, degree 45%" in said.out + said.err
    assert "16 inputs of 'degree' stand in valid under 'mood'" in said.out + said.err


def test_a_part_can_be_calibrated_and_is_saved_so(fitted: FineTuner, tmp_path: Path) -> None:
    own = fitted.clone().fit(both(), progress=False)
    own.task("mood").calibrate(reviews(96).select(range(30, 96)))  # type: ignore[operator]
    found = own.predict("a film", task="mood")
    own.save(tmp_path / "out")
    assert FineTuner.load(tmp_path / "out").predict("a film", task="mood").probability == pytest.approx(
        found.probability, abs=1e-6
    )


def test_a_folder_that_was_touched_is_refused(fitted: FineTuner, tmp_path: Path) -> None:
    fitted.save(tmp_path / "out")
    fitted.save(tmp_path / "out")  # what was saved before is replaced
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="nothing else is replaced"):
        fitted.save(tmp_path / "else")
    manifest = tmp_path / "out" / "mood" / "manifest.json"
    manifest = next(path for path in (tmp_path / "out" / "mood").iterdir() if "manifest" in path.name)
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(ArtifactError, match="'mood' is not the one that was written"):
        FineTuner.load(tmp_path / "out")
    (tmp_path / "out" / "sftlib-tasks.json").write_text("{}")
    with pytest.raises(ArtifactError, match="does not say which folders belong together"):
        FineTuner.load(tmp_path / "out")


def test_a_body_goes_on_under_another_head(fitted: FineTuner) -> None:
    body = fitted.body()
    assert isinstance(body, transformers.BertModel)
    next_one = FineTuner(body, inputs=fitted.get_params(deep=False)["inputs"], max_steps=1, batch_size=4)
    next_one.fit(reviews(8), progress=False)
    assert next_one.predict("a film").label in ("good", "bad")
