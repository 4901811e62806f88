"""Tasks as values: frozen, checked when they are made, written and read strictly, and known to `FineTuner`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from sftlib import (
    CausalLM,
    FineTuner,
    Generation,
    Pretrained,
    QuestionAnswering,
    Seq2Seq,
    TaskDataset,
    Text,
    TextClassification,
    TextEmbedding,
    TextRegression,
    TokenClassification,
)
from sftlib.arguments import MOVED, Arguments
from sftlib.data.roles.schemas import SCHEMAS
from sftlib.errors import OptionError
from sftlib.tasks import TASKS, Task, facts, find_task
from sftlib.testing import tiny_model, tiny_tokenizer
from tests.contracts.cases import CASES, case_of, tuner_for
from tests.golden.folders import FOLDERS, PLACE

EVERY = [(case.name, task) for case in CASES.values() for task in case.tasks]
every = pytest.mark.parametrize(("name", "task"), EVERY, ids=str)


# A value.


@every
def test_it_is_frozen(name: str, task: Task) -> None:
    for option in (*task.option_names(), "learned"):
        with pytest.raises(FrozenInstanceError):
            setattr(task, option, None)
    learned = task.learned_from(case_of(name).data())
    assert learned.options() == task.options()
    assert learned.untaught() == task
    if learned.learned is not None:
        assert learned != task
        with pytest.raises(FrozenInstanceError):
            setattr(learned.learned, next(iter(vars(learned.learned))), None)


@every
def test_its_repr_makes_it_again(name: str, task: Task) -> None:
    names = {kind.__name__: kind for kind in TASKS} | {"Generation": Generation}
    assert eval(repr(task), names) == task
    assert repr(task.learned_from(case_of(name).data())) == repr(task)


@every
def test_copies_and_pickles_are_equal_and_leave_behind_what_was_found_out(name: str, task: Task) -> None:
    tuner = tuner_for(name, max_steps=1, task=task).fit(case_of(name).data(), progress=False)
    used = tuner._ready("test").task
    for twin in (copy.copy(used), copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert twin == used
        assert repr(twin) == repr(used)
        by_objective = {"usual_metrics", "family", "couples_rows", "shows_more"}
        assert vars(twin).keys() <= {*used.option_names(), "learned", *by_objective}


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.name)
def test_a_misspelt_option_names_the_nearest(kind: type[Task]) -> None:
    for option in kind.option_names():
        with pytest.raises(
            OptionError, match=rf"{kind.__name__}\(\) has no option '{option}s': did you mean '{option}'"
        ):
            kind(**{f"{option}s": 1})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        TokenClassification(class_weights="even", label_smoothing=1.0, stride=-1)
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == [
        "class_weights",
        "label_smoothing",
        "stride",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: TextClassification(label_smoothing=-0.1),
        lambda: TextClassification(label_smoothing="0.1"),  # type: ignore[arg-type]
        lambda: TextRegression(huber_delta=0),
        lambda: QuestionAnswering(stride=1.5),  # type: ignore[arg-type]
        lambda: QuestionAnswering(max_answer_length=None),  # type: ignore[arg-type]
        lambda: QuestionAnswering(stride=True),
        lambda: Seq2Seq(max_target_length=1),
        lambda: Seq2Seq(generation={"beams": 2}),  # type: ignore[arg-type]
        lambda: CausalLM(train_on="answers"),
        lambda: TextEmbedding(scale=float("nan")),
        lambda: TextEmbedding(margin=0),
    ],
)
def test_values_that_cannot_be(make: Callable[[], Task]) -> None:
    with pytest.raises(OptionError, match="expected|did you mean|known"):
        make()


def test_numbers_of_numpy_become_pythons_own() -> None:
    task = TokenClassification(stride=np.int64(4), class_weights={np.str_("O"): np.float32(2.0)})  # type: ignore[arg-type]
    assert type(task.stride) is int
    assert task.class_weights == {"O": 2.0}
    assert json.loads(json.dumps(task.config()))["options"] == {
        "class_weights": [["O", 2.0]],
        "label_smoothing": 0.0,
        "stride": 4,
    }


def test_before_any_data_it_says_so() -> None:
    with pytest.raises(OptionError, match=r"TextClassification\(label_smoothing=0.1\) has seen no data yet"):
        assert TextClassification(label_smoothing=0.1).head


# Written and read.


@every
def test_what_is_written_is_read(name: str, task: Task) -> None:
    for value in (task, task.learned_from(case_of(name).data())):
        again = type(task).from_config(json.loads(json.dumps(value.config())))
        assert again == value
        assert vars(again) == vars(value)


def test_labels_that_are_no_texts_are_read_as_they_were() -> None:
    data = TaskDataset({"text": ["a", "b"], "label": [True, False]})
    task = TextClassification(class_weights={True: 1.0, False: 0.5}).learned_from(data)
    again = TextClassification.from_config(json.loads(json.dumps(task.config())))
    assert again == task
    assert [type(name) for name in again.label_names or ()] == [bool, bool]


GOOD: dict[str, Any] = TextClassification().learned_from(case_of("text-classification").data()).config()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "config lacks|config.learned lacks|expected the objects"),
        ({"options": {}}, "'options' and 'learned'"),
        ({"options": [], "learned": None}, "'options' and 'learned'"),
        ({**GOOD, "more": 1}, "'options' and 'learned'"),
        ({**GOOD, "options": {"stride": 3}}, "config has 'stride'"),
        ({**GOOD, "options": {"learned": None}}, "'options' and 'learned'"),
        ({**GOOD, "options": {"label_smoothing": "x"}}, "label_smoothing='x'"),
        ({**GOOD, "options": {"class_weights": {"a": 1}}}, "class_weights"),
        ({**GOOD, "options": {"class_weights": [["a"]]}}, "expected pairs"),
        ({**GOOD, "options": {"class_weights": [[["a"], 1.0]]}}, "expected pairs"),
        ({**GOOD, "learned": []}, "config.learned: found"),
        ({**GOOD, "learned": {}}, "config.learned lacks 'label_names'"),
        ({**GOOD, "learned": {**GOOD["learned"], "form": "text"}}, "config.learned has 'form'"),
        ({**GOOD, "learned": {**GOOD["learned"], "pair": "no"}}, "pair='no'"),
        ({**GOOD, "learned": {**GOOD["learned"], "label_names": "abc"}}, "label_names"),
        ({**GOOD, "learned": {**GOOD["learned"], "class_weights": [1.0]}}, "class_weights: expected null, or a number"),
        ({"label_names": ["a", "b"], "pair": False, "loader": "own.load"}, "config has 'loader'"),
    ],
)
def test_what_nobody_wrote_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        TextClassification.from_config(config)


def test_what_is_learned_by_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="learned"):
        Seq2Seq.from_config({"options": {}, "learned": {"form": "text"}})


@pytest.mark.parametrize("name", FOLDERS)
def test_flat_configs_of_version_0_1_open(name: str) -> None:
    record = json.loads((PLACE / name / "sftlib.json").read_text(encoding="utf-8"))
    flat, kind = record["task_config"], find_task(record["task"])
    assert not flat.keys() & {"options", "learned"}
    task = kind.from_config(flat)
    for entry, value in flat.items():
        field = kind.renamed.get(entry, entry)
        holder = task.learned if hasattr(task.learned, field) else task
        found = getattr(holder, field)
        assert (vars(found) if isinstance(found, Generation) else found) == (
            {**value, "stream": None} if entry == "generation" else tuple(value) if isinstance(value, list) else value
        )
    assert kind.from_config(task.config()) == task


def test_a_fit_from_a_folder_of_version_0_1_decides_the_same() -> None:
    """Also what the folder only has as it came out of the data: weights, the label for "not related"."""
    for name in ("text-classification", "relation-extraction", "text-embedding"):
        tuner = FineTuner.load(PLACE / name)
        task, fitted = tuner.get_params()["task"], tuner._ready("test").task
        case = TaskDataset(_rows_of(name), task=tuner.task)
        assert task.learned_from(case).learned == fitted.learned


def _rows_of(name: str) -> Any:
    from tests.golden.rows import COLUMNS

    return COLUMNS[FOLDERS[name].run.rows or name]


# Known to FineTuner.


@pytest.mark.parametrize("option", MOVED)
def test_options_of_version_0_1_say_where_they_went(option: str) -> None:
    for call in (
        lambda: FineTuner(tiny_model(), **{option: 1}),
        lambda: FineTuner.load("nowhere", **{option: 1}),
        lambda: FineTuner(tiny_model()).set_params(**{option: 1}),
    ):
        with pytest.raises(
            OptionError, match=rf"has no option '{option}': it belongs to the (task|model) now"
        ) as caught:
            call()
        example = str(caught.value).partition("task=" if "task=" in str(caught.value) else "model=")[2]
        assert option.removeprefix("embedding_").replace("loss", "objective") in example


def test_the_message_reads_as_promised() -> None:
    said = "FineTuner() has no option 'stride': it belongs to the task now: task=QuestionAnswering(stride=64)"
    with pytest.raises(OptionError) as caught:
        FineTuner(tiny_model(), stride=64)  # type: ignore[call-arg]
    assert str(caught.value).startswith(said)


def test_a_name_a_value_or_nothing() -> None:
    for task in (None, "token-classification", TokenClassification()):
        tuner = tuner_for("token-classification", task=task, max_steps=1)
        assert tuner.task == (None if task is None else "token-classification")
        assert tuner.fit(case_of("token-classification").data(), progress=False).task == "token-classification"
    with pytest.raises(OptionError, match=r"its class: task=TokenClassification\(\)"):
        FineTuner(tiny_model(), task=TokenClassification)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="did you mean 'token-classification'"):
        FineTuner(tiny_model(), task="token-clasification")
    with pytest.raises(OptionError, match="training data is for 'token-classification'"):
        tuner_for("token-classification", task=Seq2Seq()).fit(case_of("token-classification").data(), progress=False)


def test_shorthands_are_fields_of_the_task() -> None:
    data = case_of("text-classification").data()
    weights = {"bad": 1.0, "good": 0.5, "so-so": 2.0}
    ways: list[dict[str, Any]] = [
        {"class_weights": weights, "label_smoothing": 0.1},
        {"task": TextClassification(class_weights=weights, label_smoothing=0.1)},
        {"task": TextClassification(class_weights=weights), "label_smoothing": 0.1},
        {"task": "text-classification", "class_weights": weights, "label_smoothing": 0.1},
    ]
    fitted = [tuner_for("text-classification", max_steps=1, **way).fit(data, progress=False) for way in ways]
    assert len({str(tuner._ready("test").task.config()) for tuner in fitted}) == 1
    assert len({str(tuner.history.steps[0]["loss"]) for tuner in fitted}) == 1


def test_options_of_a_value_can_be_searched() -> None:
    task = QuestionAnswering(stride=16)
    tuner = tuner_for("question-answering", task=task, inputs=Text(max_length=40))
    deep = tuner.get_params()
    assert deep["task"] is task
    own = {"task__stride": 16, "task__max_answer_length": 30}
    own |= {"inputs__tokenizer": None, "inputs__max_length": 40, "inputs__add_tokens": ()}
    assert {name: value for name, value in deep.items() if "__" in name} == own
    assert not [name for name in tuner.get_params(deep=False) if "__" in name]
    tuner.set_params(task__stride=3, inputs__max_length=24, epochs=1)
    assert tuner.get_params()["task"] == QuestionAnswering(stride=3)
    assert tuner.get_params()["inputs"] == Text(max_length=24)
    assert task == QuestionAnswering(stride=16)
    tuner.set_params(task="token-classification", task__stride=5)
    assert tuner.get_params()["task"] == TokenClassification(stride=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task__strid": 3}, r"task__strid: .*did you mean 'stride'"),
        ({"task__learned": None}, "no option 'learned'"),
        ({"task__stride": -1}, "stride=-1"),
        ({"task__stride": 1, "tsk__stride": 1}, "tsk__stride: tsk is None"),
        ({"task": None, "task__stride": 1}, "task__stride: task is None"),
        ({"seed__x": 1}, "seed__x: seed is 0"),
    ],
)
def test_deep_changes_that_cannot_be_change_nothing(options: dict[str, Any], said: str) -> None:
    tuner = tuner_for("question-answering", task=QuestionAnswering(stride=16))
    before = tuner.get_params()
    with pytest.raises(OptionError, match=said):
        tuner.set_params(**options)
    assert tuner.get_params() == before


def test_scikit_learn_clones_values_and_searches_them(bert_folder: str) -> None:
    task = TextClassification(class_weights={"a": 1.0, "b": 2.0})
    tuner = FineTuner(bert_folder, task=task, inputs=Text(max_length=16), tokenizer=None)
    twin = clone(tuner)
    assert repr(twin) == repr(tuner)
    assert twin.get_params()["task"] == task
    assert clone(twin.set_params(task__label_smoothing=0.1)).get_params()["task__label_smoothing"] == 0.1
    assert tuner.get_params()["task"] is task
    assert tuner.clone().get_params()["task"] is task
    opened = FineTuner(Pretrained(bert_folder))
    assert clone(opened).get_params()["model"] == Pretrained(bert_folder)
    assert repr(opened).startswith("FineTuner(Pretrained(name=")


def test_a_repr_shows_the_task_as_it_is_written() -> None:
    shown = repr(FineTuner("bert-base-uncased", task=QuestionAnswering(stride=64), epochs=2))
    assert shown == "FineTuner('bert-base-uncased', task=QuestionAnswering(stride=64), epochs=2)"


def test_settings_are_those_of_the_run(tmp_path: Path) -> None:
    data = case_of("text-classification").data()
    tuner = tuner_for("text-classification", max_steps=1, label_smoothing=0.1).fit(data, progress=False)
    assert not tuner.settings.keys() & {*MOVED, "class_weights", "label_smoothing"}
    tuner.save(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "sftlib.json").read_text())
    assert record["task_config"]["options"] == {"class_weights": None, "label_smoothing": 0.1}
    again = FineTuner.load(tmp_path / "model")
    assert again.get_params()["task"] == TextClassification(label_smoothing=0.1)
    assert again.get_params()["label_smoothing"] == 0.0
    assert again.fit(data, progress=False)._ready("test").task == tuner._ready("test").task


def test_another_generation_counts_from_the_next_answer() -> None:
    tuner = tuner_for("causal-lm", max_steps=1).fit(case_of("causal-lm").data(), progress=False)
    short = Generation(max_new_tokens=1)
    expected = tuner.predict("a", generation=short)
    assert tuner.predict("a") != expected
    tuner.set_params(task__generation=short)
    assert tuner.predict("a") == expected
    with pytest.raises(OptionError, match="does not generate"):
        tuner_for("text-classification", max_steps=1).fit(
            case_of("text-classification").data(), progress=False
        ).predict("a", generation=short)


# The registry.


def test_the_registry_says_what_there_is() -> None:
    table = {fact.name: fact for fact in facts()}
    assert list(table) == [task.name for task in TASKS]
    for name, fact in table.items():
        assert fact.auto_class == case_of(name).auto_class
        assert fact.roles == tuple(schema.required for schema in SCHEMAS.get(name))
        task = fact.task().learned_from(case_of(name).data())
        assert task.head.auto_class == fact.auto_class
        assert tuple(task.usual_metrics) == fact.metrics


def test_the_documentation_has_a_line_for_each() -> None:
    root = Path(__file__).parent.parent.parent
    for page in (root / "README.md", root / "docs" / "tasks" / "index.md"):
        lines = page.read_text(encoding="utf-8").splitlines()
        for fact in facts():
            line = next(line for line in lines if line.startswith("|") and f"`{fact.name}`" in line)
            assert all(f"`{role}`" in line for roles in fact.roles for role in roles), f"{page.name}: {line}"


def test_how_many_options_there_are() -> None:
    """Further ones belong to a task, to inputs, or to the model; see `sftlib.arguments.MOVED`."""
    assert len(Arguments.__dataclass_fields__) == 33  # version 0.1 had 42; `shard` is of the run alone: the 33rd
    assert not {option for task in TASKS for option in task.option_names()} & (
        Arguments.__dataclass_fields__.keys() - {"class_weights", "label_smoothing"}
    )


def test_tokenizers_stay_as_given() -> None:
    tokenizer = tiny_tokenizer()
    tuner = FineTuner(tiny_model(), tokenizer=tokenizer, task=replace(TextClassification(), label_smoothing=0.1))
    assert tuner.get_params()["tokenizer"] is tokenizer
