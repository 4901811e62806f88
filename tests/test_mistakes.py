"""Twenty mistakes that people make, each with the message they meet: ``docs/mistakes.md`` is written by this test.

When a message has changed on purpose, ``SFTLIB_WRITE_DOCS=1 pytest tests/test_mistakes.py`` writes the page anew.
"""

from __future__ import annotations

import ast
import os
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sftlib.errors import SftlibError
from tests import pages

PAGE = Path(__file__).parent.parent / "docs" / "mistakes.md"


class Mistake(NamedTuple):
    title: str
    code: str


MISTAKES = (
    Mistake("A misspelt option", 'FineTuner("bert-base-uncased", learning_rat=2e-5)'),
    Mistake(
        "Several impossible values",
        'FineTuner("bert-base-uncased", epochs=0, schedule="linaer", label_smoothing=2)',
    ),
    Mistake("A model folder that does not exist", 'FineTuner("./bert-base-uncasd")'),
    Mistake("A column that does not exist", 'TaskDataset.from_csv("reviews.csv", text="reviw", label="sentiment")'),
    Mistake("A role that does not exist", 'TaskDataset.from_csv("reviews.csv", texts="review", label="sentiment")'),
    Mistake("A column that nobody named", 'TaskDataset.from_csv("reviews.csv", label="sentiment")'),
    Mistake("A file that does not exist", 'TaskDataset.from_csv("review.csv", text="review", label="sentiment")'),
    Mistake("No rows at all", "TaskDataset([])"),
    Mistake(
        "Labels missing in some rows",
        'TaskDataset({"text": ["Fine.", "Poor.", "Dull."], "label": ["good", None, None]})',
    ),
    Mistake(
        "Values that are not texts",
        'TaskDataset({"text": ["Fine.", float("nan"), 7], "label": ["good", "bad", "bad"]})',
    ),
    Mistake("Floats as classes", 'TaskDataset({"text": ["Fine.", "Poor."], "label": [0.5, 3.25]})'),
    Mistake("Labels of two kinds", 'TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", 0]})'),
    Mistake("One label where a list is expected", 'TaskDataset({"text": ["Fine."], "labels": ["good"]})'),
    Mistake("Columns of unequal length", 'TaskDataset({"text": ["Fine.", "Poor."], "label": ["good"]})'),
    Mistake(
        "Parts that add up to more than everything",
        'TaskDataset.from_csv("reviews.csv", text="review", label="sentiment").split(0.8, 0.3)',
    ),
    Mistake(
        "One class only",
        """
        data = TaskDataset({"text": ["Fine.", "Great."], "label": ["good", "good"]})
        FineTuner("bert-base-uncased").fit(data)
        """,
    ),
    Mistake(
        "A label in the validation rows that training never saw",
        """
        train = TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})
        valid = TaskDataset({"text": ["So so.", "Poor."], "label": ["middling", "bad"]})
        FineTuner("bert-base-uncased").fit(train, valid)
        """,
    ),
    Mistake(
        "Fitting on rows without labels",
        """
        data = TaskDataset({"text": ["Fine.", "Poor."]})
        FineTuner("bert-base-uncased").fit(data)
        """,
    ),
    Mistake("Predicting before fitting", 'FineTuner("bert-base-uncased").predict("Fine.")'),
    Mistake(
        "Class weights for a label that is not there",
        """
        data = TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})
        FineTuner("bert-base-uncased", class_weights={"good": 1.0, "bda": 2.0}).fit(data)
        """,
    ),
    Mistake(
        "A metric that does not exist",
        """
        data = TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})
        FineTuner("bert-base-uncased", metrics=["acuracy"]).fit(data)
        """,
    ),
    Mistake(
        "Keeping the best without validation rows",
        """
        data = TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})
        FineTuner("bert-base-uncased", keep_best="f1_macro").fit(data)
        """,
    ),
    Mistake("Loading a folder that is not a saved model", 'FineTuner.load("bert-base-uncased")'),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mistakes")
    pages.prepare(place)
    return place


def message(code: str) -> str:
    """Run a mistake; the error's class and message, as the last lines of a traceback have them."""
    names: dict[str, Any] = {}
    exec("from sftlib import FineTuner, TaskDataset", names)
    try:
        exec(compile(code, "mistake", "exec"), names)
    except SftlibError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"no error came of: {code}")


def written(mistake: Mistake) -> str:
    return textwrap.dedent(mistake.code).strip()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_a_mistake_is_told(mistake: Mistake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    ast.parse(written(mistake))
    text = message(written(mistake))
    assert len(text.splitlines()[0]) > 20
    assert "Traceback" not in text
    assert str(folder) not in text


def test_the_page_shows_what_people_see(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    parts = [
        "# Mistakes and what they say\n\n"
        "Things that go wrong, and the message for each. Messages name what was found, where, what was expected,\n"
        "and the nearest name; everything wrong with a data set comes in one error, before the first step. This page\n"
        "is written by a test, so it shows what you will see.\n"
    ]
    for mistake in MISTAKES:
        code, text = written(mistake), message(written(mistake))
        parts.append(f"## {mistake.title}\n\n```text\n{code}\n```\n\n```text\n{text}\n```\n")
    page = "\n".join(parts)
    if os.environ.get("SFTLIB_WRITE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, f"{PAGE.name} is out of date: see this file's docstring"
