"""What is refused before the first step because nothing can be learnt from it."""

from __future__ import annotations

from typing import Any

import pytest

import sftlib.tasks
from sftlib import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.run.choose import require_labelled
from sftlib.tasks import find_task
from sftlib.tasks.text.classification import TextClassification

ASKED = [{"role": "user", "content": "Hi."}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    ("rows", "task", "match"),
    [
        ({"messages": [ANSWERED, ASKED, ASKED]}, None, "the assistant says nothing in row 1, row 2 of 3, so there is"),
        ({"prompt": ["a"], "answer": ["b"]}, "causal-lm", "causal-lm needs the role 'completion'.*completion='answer'"),
        ({"text": ["a"]}, "causal-lm", r"causal-lm learns from its inputs, if it is named: .*task='causal-lm'\)"),
        ({"text": ["a"]}, "masked-lm", r"task='masked-lm'\)"),
        ({"tokens": [["a"]]}, "token-classification", "token-classification needs the role 'tags'"),
        ({"tokens": [["a"]], "head": [(0, 1)], "tail": [(0, 1)]}, "relation-extraction", "the same span"),
        ({"question": ["a"], "context": ["b"]}, "question-answering", "needs the role 'answers'"),
        ({"text": ["a"], "text_pair": ["b"]}, None, "name their column"),
    ],
    ids=repr,
)
def test_data_with_nothing_to_learn(rows: dict[str, Any], task: str | None, match: str) -> None:
    with pytest.raises(DataError, match=match):
        require_labelled(TaskDataset(rows), "fit (train)", task)


@pytest.mark.parametrize("rows", [{"messages": [ANSWERED]}, {"prompt": [""], "completion": ["b"]}])
def test_data_that_supervises_itself(rows: dict[str, Any]) -> None:
    require_labelled(TaskDataset(rows), "fit (train)")


def test_a_task_that_can_be_read_but_not_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftlib.tasks, "TASKS", (TextClassification,))
    with pytest.raises(OptionError, match="this version of sftlib learns text-classification only"):
        find_task("text-regression")
    with pytest.raises(OptionError, match="did you mean 'text-classification'"):
        find_task("text-clasification")
