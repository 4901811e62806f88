"""Which task and which columns: inferred from keywords and names, never from order."""

from __future__ import annotations

from typing import Any

import pytest

from sftlib.data import TaskDataset
from sftlib.data.kinds.base import NumberRole, TextRole
from sftlib.data.roles.resolve import Assignment, resolve
from sftlib.data.roles.schemas import SCHEMAS
from sftlib.errors import DataError, OptionError, RoleError


def plan(columns: str, task: str | None = None, **given: str | None) -> Assignment:
    return resolve(columns.split(), given, task=task)


@pytest.mark.parametrize(
    ("columns", "given", "task", "labelled"),
    [
        ("text label", {}, "text-classification", True),
        ("text text_pair label", {}, "text-classification", True),
        ("review stars", {"text": "review", "label": "stars"}, "text-classification", True),
        ("review label", {"text": "review"}, "text-classification", True),
        ("text labels", {}, "multi-label-classification", True),
        ("text target", {}, "text-regression", True),
        ("text label target", {"target": "target"}, "text-regression", True),
        ("text label target", {"label": "label"}, "text-classification", True),
        ("text label target", {"target": None}, "text-classification", True),
        ("tokens tags", {}, "token-classification", True),
        ("text head tail label", {}, "relation-extraction", True),
        ("tokens head tail label", {}, "relation-extraction", True),
        ("question context answers", {}, "question-answering", True),
        ("source target", {}, "seq2seq", True),
        ("a b", {"source": "a", "target": "b"}, "seq2seq", True),
        ("messages", {}, "causal-lm", True),
        ("prompt completion", {}, "causal-lm", True),
        ("text", {}, None, False),
        ("text label", {"label": None}, None, False),
        ("question context", {}, None, False),
        ("text extra", {}, None, False),
        ("text text_pair", {}, None, False),
        ("text text_pair score label", {}, "text-classification", True),
        ("text text_pair score", {}, None, False),
        ("a b s", {"text": "a", "text_pair": "b", "score": "s"}, "text-embedding", True),
        ("text text_pair no", {"text_negative": "no"}, "text-embedding", True),
        ("text label messages", {}, "text-classification", True),
        ("text target source", {"source": "source"}, "seq2seq", True),
        ("text tokens head tail label", {"tokens": "tokens"}, "relation-extraction", True),
        ("prompt messages", {}, "causal-lm", True),
        ("prompt", {}, None, False),
        ("source", {}, None, False),
        ("tokens", {}, None, False),
        ("text head tail", {}, None, False),
    ],
)
def test_the_task_follows_from_the_roles(columns: str, given: dict[str, str], task: str | None, labelled: bool) -> None:
    found = plan(columns, **given)
    assert (found.task, found.is_labelled) == (task, labelled)


def test_text_alone_is_a_language_task_only_when_named() -> None:
    found = plan("text label", task="causal-lm")
    assert (found.task, found.is_labelled, dict(found.columns)) == ("causal-lm", True, {"text": "text"})


@pytest.mark.parametrize(
    ("columns", "task", "labelled", "roles"),
    [
        ("text label", "masked-lm", True, "text"),
        ("text text_pair label", "text-embedding", True, "text text_pair"),
        ("text text_pair text_negative", "text-embedding", True, "text text_pair text_negative"),
        ("text text_pair score", "text-embedding", True, "text text_pair score"),
        ("text prompt completion", "causal-lm", True, "prompt completion"),
        ("source", "seq2seq", False, "source"),
        ("question context", "question-answering", False, "question context"),
    ],
)
def test_tasks_that_are_named(columns: str, task: str, labelled: bool, roles: str) -> None:
    found = plan(columns, task=task)
    assert (found.task, found.is_labelled, " ".join(found.columns)) == (task, labelled, roles)


def test_two_layouts_of_one_task_are_told_apart_by_a_role() -> None:
    with pytest.raises(DataError) as caught:
        plan("text tokens head tail label")
    assert str(caught.value) == "the columns fit several tasks; say which is meant: text='text'; tokens='tokens'"
    with pytest.raises(DataError, match="task='text-regression' or text='text'; task='seq2seq' or source='source'"):
        plan("text target source")


def test_a_named_task_without_targets_is_unlabelled() -> None:
    data = TaskDataset({"text": ["a"]}, task="text-classification")
    assert (data.task, data.is_labelled, data.label_names) == ("text-classification", False, None)
    assert TaskDataset({"text": ["a"]}, label_names=["x", "y"]).label_names == ("x", "y")


def test_several_tasks_that_fit_equally() -> None:
    with pytest.raises(DataError) as caught:
        TaskDataset({"text": ["a"], "label": [1], "labels": [[1]]})
    message = str(caught.value)
    assert "task='text-classification' or label='label'" in message
    assert "task='multi-label-classification' or labels='labels'" in message
    assert TaskDataset({"text": ["a"], "label": [1], "labels": [[1]]}, task="text-classification").targets == ("label",)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"txt": "review"}, RoleError, "no role or option 'txt': did you mean 'text'"),
        ({"label_name": ["a"]}, RoleError, "did you mean 'label_names'"),
        ({"text": "reveiw"}, DataError, r"text='reveiw': there is no such column: did you mean 'review'\?"),
        ({"text": 3}, DataError, "text=3: there is no such column"),
        ({"text": ["review"]}, RoleError, "there is no such column"),
        ({"label": "mood"}, DataError, "no column is given for 'text', which text-classification needs"),
        ({}, DataError, "columns: 'review', 'mood'"),
        ({"text": "review", "label": "mood", "target": "mood"}, DataError, "no task has the roles"),
        ({"text": "review", "target": "mood", "task": "text-classification"}, RoleError, "no role or option 'target'"),
        ({"text": "review", "task": "text-clasification"}, OptionError, "did you mean 'text-classification'"),
        ({"text": "review", "task": 3}, OptionError, "task=3"),
    ],
)
def test_messages(given: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        TaskDataset([{"review": "a", "mood": "good"}], **given)
    assert type(caught.value) is error


def test_every_wrong_keyword_in_one_message() -> None:
    with pytest.raises(RoleError) as caught:
        TaskDataset([{"review": "a"}], txt="review", label="moood", text="revew")
    assert len(str(caught.value).splitlines()) == 3
    assert isinstance(caught.value, OptionError)
    assert isinstance(caught.value, DataError)


def test_a_column_that_is_nearly_the_role() -> None:
    with pytest.raises(DataError, match=r"Near: 'text' \(did you mean 'Text'\?\)"):
        TaskDataset([{"Text": "a", "label": 1}])


def test_options_of_a_reader_are_offered(tmp_path: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,1\n")
    with pytest.raises(OptionError, match="did you mean 'delimiter'"):
        TaskDataset.from_csv(path, delimeter=";")
    with pytest.raises(OptionError, match="missing a required argument: 'path'"):
        TaskDataset.from_csv()


def test_the_registry() -> None:
    assert SCHEMAS.tasks == (
        "text-classification",
        "multi-label-classification",
        "text-regression",
        "token-classification",
        "relation-extraction",
        "question-answering",
        "seq2seq",
        "causal-lm",
        "masked-lm",
        "text-embedding",
        "image-classification",
        "multi-label-image-classification",
        "image-regression",
        "semantic-segmentation",
        "object-detection",
        "sequence-classification",
        "multi-label-sequence-classification",
        "sequence-regression",
        "residue-classification",
        "contact-prediction",
        "audio-classification",
        "audio-embedding",
        "speech-recognition",
        "image-embedding",
    )
    assert [schema.name for schema in SCHEMAS.get("causal-lm")] == ["causal-lm"] * 3
    assert SCHEMAS.get("text-regression")[0].required == ("text", "target")
    assert TextRole() == TextRole() != NumberRole()
    with pytest.raises(OptionError, match="did you mean 'causal-lm'"):
        SCHEMAS.get("casual-lm")
