"""Lists in cells, words in rows, classes in columns, numbers with names, entities in texts, sheets of Excel."""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib.data import TaskDataset
from sftlib.data.files import spool
from sftlib.data.written import list_cell
from sftlib.errors import DataError, LabelError, OptionError

LIMITS = pytest.mark.parametrize("limit", [spool.FILE_LIMIT, 0])


def write(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# Lists that were written as text.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['card', 'pin']", ["card", "pin"]),
        ("['card' 'pin']", ["card", "pin"]),
        ("['card'\n 'pin']", ["card", "pin"]),
        ('["card", "pin"]', ["card", "pin"]),
        ("('card', 'pin')", ["card", "pin"]),
        ("{'pin', 'card'}", ["card", "pin"]),
        ("array(['card', 'pin'], dtype=object)", ["card", "pin"]),
        ("[np.str_('card'), np.str_('pin')]", ["card", "pin"]),
        ("[np.int64(1), np.float64(2.5)]", [1, 2.5]),
        ("[1 2 3]", [1, 2, 3]),
        ('["it\'s", \'a "b"\']', ["it's", 'a "b"']),
        (r"['a\nb', 'é', '\u00e9']", ["a\nb", "é", "é"]),
        ("[]", []),
        ("[True, None]", [True, None]),
        ("{'a': [1, {'b': None}]}", {"a": [1, {"b": None}]}),
        ("[[1 2]\n [3 4]]", [[1, 2], [3, 4]]),
    ],
)
def test_lists_as_they_are_written(text: str, value: Any) -> None:
    assert list_cell(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "card",
        "card|pin",
        "[card",
        "['a' ... 'b']",
        "['a'] + ['b']",
        "[__import__('os')]",
        "open('x')",
        "['a'",
        "[a.b]",
        "[f('x')]",
    ],
)
def test_what_is_no_list_stays_text(text: str) -> None:
    assert list_cell(text) == text


@pytest.mark.parametrize("form", ["csv", "frame"])
@LIMITS
def test_lists_of_every_role_that_a_frame_wrote(
    form: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)

    def back(columns: dict[str, list[Any]], **roles: Any) -> TaskDataset:
        path = tmp_path / "frame.csv"
        pandas.DataFrame(columns).to_csv(path, index=False)
        return TaskDataset.from_csv(path, **roles) if form == "csv" else TaskDataset(pandas.read_csv(path), **roles)

    labels = {"text": ["a", "b", "c"], "labels": [["card", "pin"], [], np.array(["pin", "fee"])]}
    assert back(labels).column("labels") == [["card", "pin"], [], ["pin", "fee"]]
    words = {"tokens": [["Ada", "O'Hara"], np.array(["slept"])], "tags": [["B-PER", "I-PER"], ("O",)]}
    assert list(back(words)) == [
        {"tokens": ["Ada", "O'Hara"], "tags": ["B-PER", "I-PER"]},
        {"tokens": ["slept"], "tags": ["O"]},
    ]
    answers = {
        "question": ["Where?"] * 2,
        "context": ["In Paris."] * 2,
        "answers": [
            {"text": np.array(["Paris"], object), "answer_start": np.array([3])},
            {"text": [], "answer_start": []},
        ],
    }
    assert back(answers).column("answers") == [
        {"text": ["Paris"], "answer_start": [3]},
        {"text": [], "answer_start": []},
    ]
    talk = [{"role": "user", "content": "It's me."}, {"role": "assistant", "content": 'Say "hi".'}]
    assert back({"messages": [talk]})[0]["messages"] == talk
    spans = {"text": ["Ada met Bob."], "head": [(0, 3)], "tail": [[8, 11]], "label": ["knows"]}
    assert back(spans)[0]["tail"] == (8, 11)


@pytest.mark.parametrize("separator", ["|", ",", "; ", " "])
@LIMITS
def test_a_separator_inside_of_cells(
    separator: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    rows = [["card", "pin"], ["fee"], []]
    content = "\n".join(["text,labels", *(f"t{i},{cell(separator.join(row))}" for i, row in enumerate(rows))])
    data = TaskDataset.from_csv(write(tmp_path, content), separator=separator)
    assert data.column("labels") == rows
    assert data.label_names == ("card", "fee", "pin")
    words = {"tokens": [separator.join(["Ada", "slept"])], "tags": [separator.join(["B-PER", "O"])]}
    assert TaskDataset(words, separator=separator)[0] == {"tokens": ["Ada", "slept"], "tags": ["B-PER", "O"]}


def test_cells_that_need_a_separator_name_it(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"a str instead of a list of labels: row 0 \('a\|b'\); give separator='\|'"):
        TaskDataset.from_csv(write(tmp_path, "text,labels\nx,a|b\n"))
    with pytest.raises(DataError, match=r"cut it into words, such as with .split\(\) or separator=' '"):
        TaskDataset({"tokens": ["Ada slept"], "tags": ["B-PER O"]})
    for bad in ("", 3):
        with pytest.raises(OptionError, match="separator="):
            TaskDataset({"text": ["a"], "labels": ["x"]}, separator=bad)  # type: ignore[arg-type]


def test_a_list_is_no_label(tmp_path: Path) -> None:
    for cell_text in ("['card', 'pin']", '["card"]', "[1 2]"):
        with pytest.raises(LabelError, match=r"a list, written as text, as label.*labels=\.\.\."):
            TaskDataset({"text": ["a", "b"], "label": [cell_text, "x"]})
        with pytest.raises(LabelError, match="a list, written as text"):
            TaskDataset.from_csv(write(tmp_path, f"text,label\na,{cell(cell_text)}\nb,x\n"))
    assert TaskDataset({"text": ["a", "b"], "label": ["[CLS]", "(b)"]}).label_names == ("(b)", "[CLS]")
    with pytest.raises(LabelError, match=r"numpy cut it short.*\.tolist\(\)"):
        TaskDataset({"text": ["a"], "labels": ["['a' 'b' ... 'z']"]})


def test_one_class_a_row_under_labels() -> None:
    with pytest.raises(LabelError, match=r"for one class a row give the column as label=\.\.\."):
        TaskDataset({"text": ["a", "b"], "labels": ["x", "y"]})
    with pytest.raises(LabelError, match=r"an int instead of a list of labels.*label=\.\.\."):
        TaskDataset({"text": ["a", "b"], "labels": [1, 2]})


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (["Ada", "slept"], r"a list instead of a string.*' '.join.*tokens="),
        ([{"role": "user", "content": "x"}], r"a list instead of a string.*messages="),
        ({"a": "b"}, "a dict instead of a string.*column of its own"),
        (np.array(["a"]), "join words"),
        ([1, 2], "give one text a row"),
    ],
    ids=repr,
)
def test_lists_where_texts_are_wanted(value: Any, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        TaskDataset([{"text": "a", "label": 1}, {"text": value, "label": 2}])
    assert "convert with str()" not in str(caught.value)


# Numbers with names.


def test_numbers_with_names_for_every_kind_of_label(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER"]
    data = TaskDataset({"tokens": [["Ada", "L", "slept"]], "tags": [[1, 2, 0]]}, label_names=names)
    assert (data[0]["tags"], data.label_names) == (["B-PER", "I-PER", "O"], tuple(names))
    data = TaskDataset({"text": ["a", "b"], "label": [1, 0]}, label_names=["bad", "good"])
    assert data.column("label") == ["good", "bad"]
    data = TaskDataset({"text": ["a", "b"], "labels": [[2, 0], [1]]}, label_names=["x", "y", "z"])
    assert data.column("labels") == [["z", "x"], ["y"]]
    for make in (list, np.array, lambda rows: np.array(rows, np.float32), lambda rows: np.array(rows, bool)):
        marks = make([[1, 0, 1], [0, 0, 1]])
        data = TaskDataset({"text": ["a", "b"], "labels": marks}, label_names=["x", "y", "z"])
        assert data.column("labels") == [["x", "z"], ["z"]]
    data = TaskDataset({"text": ["a", "b"], "label": [1, 0]}, label_names={0: "bad", 1: "good"})
    assert data.column("label") == ["good", "bad"]
    path = write(tmp_path, "text,label\na,1\nb,0\n")
    assert TaskDataset.from_csv(path, label_names=["bad", "good"]).column("label") == ["good", "bad"]
    path = write(tmp_path, 'tokens,tags\n"[""a"", ""b""]",1 0\n')
    assert TaskDataset.from_csv(path, label_names=["O", "B-X"], separator=" ").column("tags") == [["B-X", "O"]]


@LIMITS
def test_numbers_with_names_in_large_files(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    path = write(tmp_path, "\n".join(json.dumps({"tokens": ["a", "b"], "tags": [i % 2, 0]}) for i in range(9)))
    data = TaskDataset.from_jsonl(path, label_names=["O", "B-X"])
    assert data.column("tags") == [["B-X" if i % 2 else "O", "O"] for i in range(9)]


@pytest.mark.parametrize(
    ("labels", "names", "match"),
    [
        ([1, 5], ["bad", "good"], "of type int"),
        ([-1, 1], ["bad", "good"], "a missing label: row 0"),
        ([1, 0], ["1", "0"], "of type int, the label names are of type str"),
        ([1.0, 0.0], ["bad", "good"], "a float as label"),
    ],
)
def test_numbers_that_have_no_name(labels: list[Any], names: list[str], match: str) -> None:
    with pytest.raises(LabelError, match=match):
        TaskDataset({"text": ["a", "b"], "label": labels}, label_names=names)


def test_numbers_and_marks_that_cannot_be_told_apart() -> None:
    with pytest.raises(LabelError, match="numbers of classes, or marks"):
        TaskDataset({"text": ["a", "b"], "labels": [[0, 1], [1, 0]]}, label_names=["x", "y"])
    with pytest.raises(DataError, match=r"name every number from 0: label_names="):
        TaskDataset({"tokens": [["a"]], "tags": [[1]]})


# Classes in columns.

TOXIC = "id,text,toxic,threat,insult\n1,a,1,0,1\n2,b,0,0,0\n3,c,0,1,0\n"


@LIMITS
def test_classes_in_columns_of_their_own(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    data = TaskDataset.from_csv(write(tmp_path, TOXIC), labels=["toxic", "threat", "insult"])
    assert data.task == "multi-label-classification"
    assert data.column("labels") == [["toxic", "insult"], [], ["threat"]]
    assert data.label_names == ("toxic", "threat", "insult")
    assert data[0] == {"text": "a", "labels": ["toxic", "insult"], "id": "1"}
    assert data.map(dict).fingerprint() == data.fingerprint()


@pytest.mark.parametrize("yes", [1, True, 1.0, "1", np.int8(1), np.True_, "True"])
def test_marks_of_every_make(yes: Any) -> None:
    no = type(yes)(0) if not isinstance(yes, str) else "0"
    rows = [{"text": "a", "x": yes, "y": no}, {"text": "b", "x": no, "y": yes}]
    assert TaskDataset(rows, labels=["x", "y"]).column("labels") == [["x"], ["y"]]
    one = TaskDataset(rows, label=["y", "x"])
    assert (one.column("label"), one.label_names, one.task) == (["x", "y"], ("y", "x"), "text-classification")


@pytest.mark.parametrize(
    ("roles", "marks", "match"),
    [
        ({"labels": ["x", "y"]}, (1, 2), r"neither 0 nor 1: row 1 \(2, column 'y'\)"),
        ({"labels": ["x", "y"]}, (1, None), r"a missing mark: row 1 \(column 'y'\)"),
        ({"labels": ["x", "y"]}, (1, "maybe"), "neither 0 nor 1"),
        ({"label": ["x", "y"]}, (1, 1), "several classes: row 1"),
        ({"label": ["x", "y"]}, (0, 0), "no class: row 1"),
    ],
)
def test_marks_that_are_none(roles: Any, marks: tuple[Any, Any], match: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": "a", "x": 1, "y": 0}, {"text": "b", "x": marks[0], "y": marks[1]}]
    with pytest.raises(LabelError, match=match):
        TaskDataset(rows, **roles)
    assert len(TaskDataset(rows, on_invalid="drop", **roles)) == 1
    assert "1 of 2 rows left out" in caplog.text


def test_columns_of_classes_that_cannot_be() -> None:
    rows = {"text": ["a"], "x": [1]}
    with pytest.raises(DataError, match="labels: there is no column 'xx': did you mean 'x'"):
        TaskDataset(rows, labels=["xx"])
    for wrong in ([], ["x", "x"], [3]):
        with pytest.raises(OptionError, match="several that differ"):
            TaskDataset(rows, labels=wrong)  # type: ignore[arg-type]


# Words in rows.

KAGGLE = """Sentence #,Word,POS,Tag
Sentence: 1,Ada,NNP,B-PER
,slept,VBD,O
Sentence: 2,Rome,NNP,B-LOC
,",",",",O
,null,NN,O
"""


@LIMITS
def test_a_word_a_row(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    path = write(tmp_path, KAGGLE)
    data = TaskDataset.from_csv(path, tokens="Word", tags="Tag", sentence="Sentence #")
    assert data.column("tokens") == [["Ada", "slept"], ["Rome", ",", "null"]]
    assert data.column("tags") == [["B-PER", "O"], ["B-LOC", "O", "O"]]
    assert data[1]["Sentence #"] == "Sentence: 2"
    assert data[0]["POS"] == ["NNP", "VBD"]


def test_a_word_a_row_of_any_make() -> None:
    rows = {"id": [7, 7, 9], "word": ["Ada", "slept", "Rome"], "tag": [1, 0, 1]}
    pandas = pytest.importorskip("pandas")
    for source in (
        rows,
        [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)],
        pandas.DataFrame(rows),
    ):
        data = TaskDataset(source, tokens="word", tags="tag", sentence="id", label_names=["O", "B-X"])
        assert data.column("tags") == [["B-X", "O"], ["B-X"]]


@pytest.mark.parametrize("reader", ["from_jsonl", "from_json", "from_parquet"])
def test_every_reader_of_rows_knows_words_in_rows_and_separators(reader: str, tmp_path: Path) -> None:
    rows = [{"id": 1, "w": "Ada", "t": "B-X"}, {"id": 1, "w": "slept", "t": "O"}, {"id": 2, "w": "Rome", "t": "B-X"}]
    labels = [{"text": "a", "labels": "x|y"}, {"text": "b", "labels": ""}]

    def written(rows: list[dict[str, Any]]) -> Path:
        if reader == "from_parquet":
            path = tmp_path / "rows.parquet"
            pytest.importorskip("pandas").DataFrame(rows).to_parquet(path)
            return path
        return write(tmp_path, json.dumps(rows) if reader == "from_json" else "\n".join(map(json.dumps, rows)))

    read = getattr(TaskDataset, reader)
    assert read(written(rows), tokens="w", tags="t", sentence="id").column("tokens") == [["Ada", "slept"], ["Rome"]]
    assert read(written(labels), separator="|").column("labels") == [["x", "y"], []]


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([1, 2, 1], r"taken up again after another: row 2 \(1, begun in row 0\)"),
        ([None, 1, 1], "row 0 names no sentence"),
        ([[1], [1], [1]], "cannot name a sentence"),
    ],
)
def test_sentences_that_cannot_be(ids: list[Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset({"id": ids, "tokens": ["a", "b", "c"], "tags": ["O"] * 3}, sentence="id")
    with pytest.raises(DataError, match="sentence='ids': there is no such column: did you mean 'id'"):
        TaskDataset({"id": ids, "tokens": ["a", "b", "c"]}, sentence="ids")


# Entities in texts.

TEXT = "Ada O'Hara met Dr. Bob in New York."
SPANS = [(0, 10, "PER"), (19, 22, "PER"), (26, 34, "LOC")]
TOKENS = ["Ada", "O'Hara", "met", "Dr", ".", "Bob", "in", "New", "York", "."]
TAGS = ["B-PER", "I-PER", "O", "O", "O", "B-PER", "O", "B-LOC", "I-LOC", "O"]


def layouts() -> dict[str, Any]:
    mappings = [{"start": a, "end": b, "label": label} for a, b, label in SPANS]
    results = [
        {"type": "labels", "value": {"start": a, "end": b, "text": TEXT[a:b], "labels": [label]}}
        for a, b, label in SPANS
    ]
    return {
        "doccano, lists": {"id": 1, "text": TEXT, "label": [list(span) for span in SPANS]},
        "doccano, entities": {
            "text": TEXT,
            "entities": [
                {"id": i, "start_offset": a, "end_offset": b, "label": label} for i, (a, b, label) in enumerate(SPANS)
            ],
            "relations": [],
        },
        "spacy": (TEXT, {"entities": SPANS}),
        "spacy, lists": [TEXT, {"entities": [list(span) for span in SPANS]}],
        "prodigy": {
            "text": TEXT,
            "spans": [m | {"token_start": 0} for m in mappings],
            "answer": "accept",
            "tokens": [{"text": "Ada"}],
        },
        "label studio": {"id": 3, "data": {"text": TEXT}, "annotations": [{"was_cancelled": False, "result": results}]},
        "label studio, min": {"text": TEXT, "label": [result["value"] for result in results], "annotator": 1},
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("form", ["rows", "lines", "array"])
def test_entities_of_every_layout(layout: str, form: str, tmp_path: Path) -> None:
    rows = [layouts()[layout]] * 2
    source: Any = rows
    if form != "rows":
        text = "\n".join(map(json.dumps, rows)) if form == "lines" else json.dumps(rows, indent=2)
        source = write(tmp_path, text)
    data = TaskDataset.from_entities(source)
    assert (data.task, len(data)) == ("token-classification", 2)
    assert [token for token in data[0]["tokens"] if token != "."] == [token for token in TOKENS if token != "."]
    assert [tag for tag in data[0]["tags"] if tag != "O"] == [tag for tag in TAGS if tag != "O"]
    pairs = zip(data[0]["tokens"], data[0]["tags"], strict=True)
    assert [token for token, tag in pairs if tag.endswith("LOC")] == ["New", "York"]
    assert data[0]["text"] == TEXT


def test_every_character_of_an_entity_is_in_a_word_of_it() -> None:
    text = "The anti-Rome-pact (Rome's) 東京都に行く"
    spans = [(9, 13, "LOC"), (20, 24, "LOC"), (28, 31, "LOC")]
    row = TaskDataset.from_entities([{"text": text, "spans": [list(span) for span in spans]}], scheme="BIOES")[0]
    words = [(token, tag) for token, tag in zip(row["tokens"], row["tags"], strict=True) if tag != "O"]
    assert words[:2] == [("Rome", "S-LOC"), ("Rome", "S-LOC")]
    assert "".join(token for token, _ in words[2:]) == "東京都"
    assert "".join(row["tokens"]) == text.replace(" ", "")


def test_spans_with_blanks_and_rows_that_were_rejected(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"text": "Ada slept.", "spans": [{"start": 0, "end": 4, "label": "PER"}], "answer": "accept"},
        {"text": "Bob slept.", "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "reject"},
        {"text": "Nobody.", "spans": []},
    ]
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        data = TaskDataset.from_entities(rows)
    assert data.column("tags") == [["B-PER", "O", "O"], ["O", "O"]]
    assert "1 row marked as rejected or ignored passed over" in caplog.text
    assert "1 span taken without the white space at its ends" in caplog.text


def test_tasks_that_nobody_has_marked_are_no_texts_without_entities(caplog: pytest.LogCaptureFixture) -> None:
    done = {"data": {"text": "Ada slept."}, "annotations": [{"result": []}]}
    cancelled = {"data": {"text": "Bob slept."}, "annotations": [{"result": [], "was_cancelled": True}]}
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        data = TaskDataset.from_entities([done, cancelled, done | {"annotations": []}], label_names=["O", "B-PER"])
    assert data.column("tags") == [["O", "O", "O"]]
    assert "2 rows passed over that nobody has marked yet" in caplog.text


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"text": TEXT, "label": [[0, 99, "PER"]]}, "reaches beyond the text, which has 35 characters"),
        ({"text": TEXT, "label": [[3, 3, "PER"]]}, "is empty or ends before it begins"),
        ({"text": TEXT, "label": [[0, 10, "PER"], [4, 10, "ORG"]]}, "overlap"),
        ({"text": TEXT, "label": [[0, 3]]}, "is no span"),
        ({"text": TEXT, "label": [["0", 3, "PER"]]}, "is no span"),
        ({"text": TEXT, "label": "PER"}, "expected a list of spans"),
        ({"text": TEXT}, "there is none of 'entities', 'spans', 'label', 'labels'"),
        ({"sentence": TEXT, "label": []}, r"there is no 'text' .*text=\.\.\."),
        (
            {"text": TEXT, "label": [{"start": 0, "end": 3, "text": "Bob", "labels": ["PER"]}]},
            "said to be 'Bob'.*'Ada'",
        ),
        ({"text": TEXT, "label": [{"start": 0, "end": 3, "labels": ["PER", "ORG"]}]}, "has 2 labels"),
        ({"text": 3, "label": []}, "the text is an int"),
        ("Ada", "a str, expected a mapping"),
        (
            {"data": {"text": TEXT}, "annotations": [{"result": []}, {"result": [{"value": {"start": 0, "end": 3}}]}]},
            "differ",
        ),
    ],
    ids=repr,
)
def test_entities_that_cannot_be_used(row: Any, match: str, caplog: pytest.LogCaptureFixture) -> None:
    good = {"text": "Fine.", "label": []}
    with pytest.raises(DataError, match=rf"1 row cannot be used:\n  row 1: .*{match}"):
        TaskDataset.from_entities([good, row])
    assert len(TaskDataset.from_entities([good, row], on_invalid="drop")) == 1
    assert "1 of 2 rows left out" in caplog.text


def test_names_of_keys_and_options_of_entities() -> None:
    rows = [{"content": "Ada slept.", "marks": [[0, 3, "PER"]], "label": "x"}]
    data = TaskDataset.from_entities(rows, text="content", entities="marks", label_names=["O", "B-PER"])
    assert data[0] == {"tokens": ["Ada", "slept", "."], "tags": ["B-PER", "O", "O"], "text": "Ada slept.", "label": "x"}
    for options in ({"scheme": "IOB"}, {"on_invalid": "skip"}):
        with pytest.raises(OptionError):
            TaskDataset.from_entities(rows, **options)
    frame = pytest.importorskip("pandas").DataFrame(rows)
    assert TaskDataset.from_entities(frame, text="content", entities="marks")[0]["tags"] == ["B-PER", "O", "O"]
    for wrong in ({"text": "x"}, 3, None):
        with pytest.raises(DataError):
            TaskDataset.from_entities(wrong)  # type: ignore[arg-type]


# Excel.


def workbook(folder: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    path = folder / "book.xlsx"
    book.save(path)
    return path


@LIMITS
def test_a_sheet_of_excel(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    rows = [
        ["review ", "stars", "day"],
        ["Good", 5, datetime.date(2026, 3, 4)],
        [1984, 1, None],
        [None] * 3,
        ["007", 5.0, "x"],
    ]
    path = workbook(tmp_path, {"reviews": rows, "empty": []})
    data = TaskDataset.from_excel(path, text="review", label="stars")
    assert data.column("text") == ["Good", "1984", "007"]
    assert data.column("label") == [5, 1, 5]
    assert [str(day)[:10] for day in data.column("day")] == ["2026-03-04", "", "x"]
    scores = TaskDataset.from_excel(path, text="review", target="stars")
    assert scores.column("target") == [5.0, 1.0, 5.0]


def test_sheets_that_are_not_there(tmp_path: Path) -> None:
    path = workbook(tmp_path, {"one": [["text", "label"], ["a", "x"]], "two": [["text", "label"], ["b", "y"]]})
    with pytest.raises(OptionError, match=r"several sheets: say which is meant with sheet='one' \('one', 'two'\)"):
        TaskDataset.from_excel(path)
    assert TaskDataset.from_excel(path, sheet="two").column("text") == ["b"]
    assert TaskDataset.from_excel(path, sheet=0).column("text") == ["a"]
    with pytest.raises(OptionError, match="sheet='tow': .*did you mean 'two'"):
        TaskDataset.from_excel(path, sheet="tow")
    with pytest.raises(DataError, match="no .xlsx workbook"):
        TaskDataset.from_excel(write(tmp_path, "text,label\na,b\n"))
    with pytest.raises(DataError, match="cannot be read as a workbook"):
        TaskDataset.from_excel(write(tmp_path, b"PK\x03\x04 nothing"))
    wide = workbook(tmp_path, {"one": [["text"], ["a", "b"]]})
    with pytest.raises(DataError, match="row 2 of the sheet reaches beyond the header"):
        TaskDataset.from_excel(wide)
