"""Mistakes that people make, each with the message they meet: ``docs/mistakes.md`` is written by this test.

When a message has changed on purpose, ``SFTLIB_WRITE_DOCS=1 pytest tests/test_mistakes.py`` writes the page anew.
"""

from __future__ import annotations

import ast
import os
import shutil
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


DATA = 'data = TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})'
FITTED = f'{DATA}\ntuner = FineTuner("bert-base-uncased", max_steps=1).fit(data, progress=False)'

MISTAKES = (
    # Options.
    Mistake("A misspelt option", 'FineTuner("bert-base-uncased", learning_rat=2e-5)'),
    Mistake(
        "Several impossible values",
        'FineTuner("bert-base-uncased", epochs=2.5, learning_rate="2e-5", schedule="linaer", label_smoothing=2)',
    ),
    Mistake("A name where an object is expected", 'FineTuner("bert-base-uncased", early_stopping="f1_macro")'),
    Mistake("An option that belongs to the task", 'FineTuner("bert-base-uncased", stride=64)'),
    Mistake("A misspelt option of a task", 'FineTuner("bert-base-uncased", task=TokenClassification(strid=64))'),
    Mistake(
        "An option given twice",
        'FineTuner("bert-base-uncased", task=TextClassification(label_smoothing=0.1), label_smoothing=0.2)',
    ),
    Mistake("An option of another task", 'FineTuner("bert-base-uncased", task="seq2seq", class_weights="balanced")'),
    Mistake("A misspelt task", 'FineTuner("bert-base-uncased", task="text-clasification")'),
    Mistake(
        "Names of other libraries",
        'FineTuner("bert-base-uncased", num_train_epochs=3, max_seq_length=128, evaluation_strategy="epoch")',
    ),
    Mistake("A metric by another library's name", 'Metrics(["eval_loss"])'),
    # Models and tokenizers.
    Mistake("A model folder that does not exist", 'FineTuner("./bert-base-uncasd")'),
    Mistake("A folder that is no model", 'FineTuner("notes")'),
    Mistake("A folder of checkpoints instead of one of them", 'FineTuner("checkpoints")'),
    Mistake("A checkpoint of a run instead of a model", 'FineTuner("runs/first/step-00000004")'),
    Mistake("The output_dir of a run instead of a model", 'FineTuner.load("runs/first")'),
    Mistake("An adapter instead of a model", 'FineTuner("my-adapter")'),
    Mistake("A model without its tokenizer", f'{DATA}\nFineTuner("bert-without-tokenizer").fit(data)'),
    Mistake("A module without a tokenizer", f"{DATA}\nFineTuner(torch.nn.Embedding(100, 2)).fit(data)"),
    Mistake(
        "A module that returns something else",
        f'{DATA}\nFineTuner(torch.nn.Embedding(500, 2), tokenizer="bert-base-uncased").fit(data)',
    ),
    Mistake(
        "More tokens than the model can read", f'{DATA}\nFineTuner("bert-base-uncased", max_length=1000).fit(data)'
    ),
    Mistake(
        "Tokens added to a tokenizer that the model has no room for",
        f"""{DATA}
tokenizer = transformers.AutoTokenizer.from_pretrained("bert-base-uncased")
tokenizer.add_tokens(["<smile>"])
smiling = data.map(lambda row: {{**row, "text": row["text"] + " <smile>"}})
FineTuner("bert-base-uncased", tokenizer=tokenizer).fit(smiling)""",
    ),
    # Rows and roles.
    Mistake("A column that does not exist", 'TaskDataset.from_csv("reviews.csv", text="reviw", label="sentiment")'),
    Mistake("A role that does not exist", 'TaskDataset.from_csv("reviews.csv", texts="review", label="sentiment")'),
    Mistake("A column that nobody named", 'TaskDataset.from_csv("reviews.csv", label="sentiment")'),
    Mistake("A file that does not exist", 'TaskDataset.from_csv("review.csv", text="review", label="sentiment")'),
    Mistake("No rows at all", "TaskDataset([])"),
    Mistake("Rows that are not mappings", 'TaskDataset([("Fine.", "good"), ("Poor.", "bad")])'),
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
    Mistake("Labels with a sign between them", 'TaskDataset({"text": ["Fine."], "labels": ["good|long"]})'),
    Mistake("Words where a text is expected", 'TaskDataset({"text": [["A", "fine", "film."]], "label": ["good"]})'),
    Mistake(
        "A conversation where a text is expected",
        'TaskDataset({"text": [[{"role": "user", "content": "Hi."}]], "label": ["good"]})',
    ),
    Mistake("Numbers as tags", 'TaskDataset({"tokens": [["Ada", "slept"]], "tags": [[1, 0]]})'),
    Mistake(
        "A mark that is neither 0 nor 1",
        """
        rows = [{"text": "Fine.", "long": 0, "funny": 2}]
        TaskDataset(rows, labels=["long", "funny"])
        """,
    ),
    Mistake("Words where numbers are expected", 'TaskDataset({"text": ["Fine.", "Poor."], "target": ["4.5", "low"]})'),
    Mistake("A tag too few", 'TaskDataset({"tokens": [["Ada", "Lovelace"]], "tags": [["B-PER"]]})'),
    Mistake("A text instead of its words", 'TaskDataset({"tokens": ["Ada Lovelace"], "tags": [["B-PER", "I-PER"]]})'),
    Mistake(
        "A span beyond the end of the text",
        'TaskDataset({"text": ["Ada met Bob."], "head": [(0, 3)], "tail": [(8, 20)], "label": ["knows"]})',
    ),
    Mistake(
        "An answer that stands elsewhere",
        """
        answers = [{"text": ["Paris"], "answer_start": [14]}]
        TaskDataset({"question": ["Where?"], "context": ["Ada met Bob in Paris."], "answers": answers})
        """,
    ),
    Mistake(
        "Two answers in a row",
        """
        talk = [{"role": "user", "content": "Hi."}, *[{"role": "assistant", "content": "Hello."}] * 2]
        TaskDataset({"messages": [talk]})
        """,
    ),
    Mistake(
        "A conversation that the assistant begins",
        'TaskDataset({"messages": [[{"role": "assistant", "content": "Hello."}]]})',
    ),
    Mistake(
        "A picture in a conversation",
        """
        content = [{"type": "text", "text": "What is this?"}, {"type": "image", "image": "cat.png"}]
        TaskDataset({"messages": [[{"role": "user", "content": content}]]})
        """,
    ),
    Mistake(
        "Arguments of a call that are no JSON",
        """
        call = {"type": "function", "function": {"name": "add", "arguments": "a=1"}}
        talk = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        TaskDataset({"messages": [talk]})
        """,
    ),
    Mistake(
        "Calls of tools that a chat template does not write",
        """
        call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
        talk = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        tokenizer = transformers.AutoTokenizer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
        tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        tuner = FineTuner("HuggingFaceTB/SmolLM2-135M-Instruct", tokenizer=tokenizer)
        tuner.fit(TaskDataset({"messages": [talk]}))
        """,
    ),
    Mistake(
        "Quotes that are part of the text",
        """
        Path("quotes.tsv").write_text('text\\tlabel\\n"Grand\\tgood\\nDull\\tbad\\nthey said"\\tgood\\n')
        TaskDataset.from_csv("quotes.tsv", delimiter="\\t")
        """,
    ),
    Mistake(
        "An Excel workbook read as text",
        """
        openpyxl.Workbook().save("reviews.xlsx")
        TaskDataset.from_csv("reviews.xlsx")
        """,
    ),
    Mistake(
        "JSON Lines read as a table",
        """
        Path("rows.jsonl").write_text('{"text": "Fine.", "label": "good"}')
        TaskDataset.from_csv("rows.jsonl")
        """,
    ),
    Mistake(
        "A file of CoNLL-U without its columns",
        """
        cells = ["1", "Ada", "Ada", "PROPN", "_", "_", "0", "root", "_", "_"]
        Path("ada.conllu").write_text("\\t".join(cells))
        TaskDataset.from_conll("ada.conllu")
        """,
    ),
    Mistake(
        "Entities that overlap",
        """
        row = {"text": "Ada Lovelace slept.", "label": [[0, 12, "PER"], [4, 12, "ORG"]]}
        TaskDataset.from_entities([row])
        """,
    ),
    Mistake("Columns of unequal length", 'TaskDataset({"text": ["Fine.", "Poor."], "label": ["good"]})'),
    Mistake(
        "Parts that add up to more than everything",
        'TaskDataset.from_csv("reviews.csv", text="review", label="sentiment").split(0.8, 0.3)',
    ),
    # Fitting.
    Mistake(
        "Rows that are no data set",
        'rows = [{"text": "Fine.", "label": "good"}]\nFineTuner("bert-base-uncased").fit(rows)',
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
    Mistake(
        "The label of another task",
        """
        data = TaskDataset({"text": ["Fine.", "Poor."], "label": [4.5, 1.0]}, task="text-regression")
        FineTuner("bert-base-uncased").fit(data)
        """,
    ),
    Mistake(
        "Class weights for a label that is not there",
        f'{DATA}\nFineTuner("bert-base-uncased", class_weights={{"good": 1.0, "bda": 2.0}}).fit(data)',
    ),
    Mistake("A metric that does not exist", f'{DATA}\nFineTuner("bert-base-uncased", metrics=["acuracy"]).fit(data)'),
    Mistake("A metric of another task", f'{DATA}\nFineTuner("bert-base-uncased", metrics=["rmse"]).fit(data)'),
    Mistake(
        "Keeping the best without validation rows",
        f'{DATA}\nFineTuner("bert-base-uncased", keep_best="f1_macro").fit(data)',
    ),
    Mistake(
        "A class instead of a callback", f'{DATA}\nFineTuner("bert-base-uncased").fit(data, callbacks=[EarlyStopping])'
    ),
    # Using.
    Mistake("Predicting before fitting", 'FineTuner("bert-base-uncased").predict("Fine.")'),
    Mistake("Predicting something that is no text", f'{FITTED}\ntuner.predict(["Fine.", None])'),
    Mistake("A pair for a model of single texts", f'{FITTED}\ntuner.predict(("Fine.", "Poor."))'),
    Mistake(
        "Evaluating on rows of another task",
        f"""{FITTED}
tuner.evaluate(TaskDataset({{"text": ["Fine."], "target": [4.5]}}))""",
    ),
    # Saving and loading.
    Mistake("Saving over something else", f'{FITTED}\ntuner.save("notes")'),
    Mistake("Loading a folder that does not exist", f'{FITTED}\ntuner.save("sentiment")\nFineTuner.load("sentimnt")'),
    Mistake("Loading a model that sftlib did not save", 'FineTuner.load("bert-base-uncased")'),
    Mistake(
        "Loading a folder that was changed",
        f"""{FITTED}
tuner.save("sentiment")
Path("sentiment/config.json").write_text("{{}}")
FineTuner.load("sentiment")""",
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mistakes")
    pages.prepare(place)
    (place / "notes").mkdir()
    (place / "notes" / "thesis.txt").write_text("Chapter 1\n", encoding="utf-8")
    shutil.copytree(place / "bert-base-uncased", place / "checkpoints" / "step-00000010")
    (place / "runs" / "first" / "step-00000004").mkdir(parents=True)
    (place / "runs" / "first" / "step-00000004" / "manifest.json").write_text("{}", encoding="utf-8")
    (place / "my-adapter").mkdir()
    for name in ("adapter_config.json", "sftlib.json"):
        (place / "my-adapter" / name).write_text("{}", encoding="utf-8")
    without = [*(place / "bert-base-uncased").glob("tokenizer*")]
    shutil.copytree(
        place / "bert-base-uncased",
        place / "bert-without-tokenizer",
        ignore=shutil.ignore_patterns(*(path.name for path in without)),
    )
    return place


def message(code: str) -> str:
    """Run a mistake; the error's class and message, as the last lines of a traceback have them."""
    names: dict[str, Any] = {}
    exec("import openpyxl, torch, transformers; from pathlib import Path; from sftlib import *", names)
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
    assert " at 0x" not in text


def test_the_page_shows_what_people_see(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    parts = [
        "# Mistakes and what they say\n\n"
        "Things that go wrong, and the message for each. A message names what was found, where, what was expected\n"
        "and how to mend it, with the nearest name. Everything wrong with a data set or with options comes in one\n"
        "error, before the first step, and all errors inherit `sftlib.errors.SftlibError`. This page is written by a\n"
        "test that runs every example, so it shows what you will see.\n"
    ]
    for mistake in MISTAKES:
        code, text = written(mistake), message(written(mistake))
        parts.append(f"## {mistake.title}\n\n```{{code-block}} python\n{code}\n```\n\n```text\n{text}\n```\n")
    page = "\n".join(parts)
    if os.environ.get("SFTLIB_WRITE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, f"{PAGE.name} is out of date: see this file's docstring"
