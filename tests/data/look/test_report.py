"""What a report finds: every planted duplicate and nothing else, conflicts, blanks, classes, lengths."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sftlib.data import DataReport, TaskDataset
from sftlib.data.look.duplicates import MAX_PAIRS, normalised
from sftlib.errors import DataError, OptionError

WORDS = "a film about love and the long way home with café ﬁne straße naïve Ωmega 映画 музыка".split()


def sentences(count: int, seed: int) -> list[str]:
    """Distinct texts, also after normalising: each carries its number."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=12))} {seed}-{number}." for number in range(count)]


def disguised(text: str, kind: int) -> str:
    """A text that a reader takes for the same."""
    return [
        text.upper(),
        text.replace(" ", "  ", 3) + "\n",
        text.replace(" ", " \u200b", 2),
        unicodedata.normalize("NFD", text) + " ",
        "\ufeff" + text,
    ][kind % 5]


def test_planted_leakage_is_found_and_nothing_else() -> None:
    train, valid = sentences(8000, 1), sentences(2000, 2)
    draw = random.Random(0)
    places = draw.sample(range(2000), 100)
    sources = draw.sample(range(8000), 100)
    for number, (place, source) in enumerate(zip(places, sources, strict=True)):
        valid[place] = train[source] if number < 50 else disguised(train[source], number)
    first = TaskDataset({"text": train, "label": [i % 2 for i in range(8000)]})
    second = TaskDataset({"text": valid, "label": [i % 2 for i in range(2000)]})
    report = first.report(second)
    assert report.leakage is not None
    planted = list(zip(sources, places, strict=True))
    assert (report.leakage.exact.count, report.leakage.normalised.count) == (50, 50)
    assert set(report.leakage.exact.pairs) == set(planted[:50])
    assert set(report.leakage.normalised.pairs) == set(planted[50:])
    assert report.duplicates.count == report.normalised_duplicates.count == report.conflicts.count == 0
    assert "50 rows of valid stand here too" in report.problems[0]


def test_planted_duplicates_are_found_and_nothing_else() -> None:
    texts = sentences(9900, 3)
    texts += texts[:50] + [disguised(text, number) for number, text in enumerate(texts[50:100])]
    report = TaskDataset({"text": texts, "label": [i % 2 for i in range(10_000)]}).report()
    assert set(report.duplicates.pairs) == {(i, 9900 + i) for i in range(50)}
    assert set(report.normalised_duplicates.pairs) == {(50 + i, 9950 + i) for i in range(50)}
    assert report.conflicts.count == 0


def test_a_split_has_no_exact_leakage() -> None:
    texts = sentences(100, 4) * 3
    train, valid = TaskDataset({"text": texts, "label": [i % 2 for i in range(300)]}).split(0.7, 0.3)
    leakage = train.report(valid).leakage
    assert leakage is not None
    assert leakage.exact.count == leakage.normalised.count == 0


def test_pairs_count_as_pairs() -> None:
    data = TaskDataset({"text": ["a", "a", "ab", "a"], "text_pair": ["b", "c", "", "B"], "label": [0, 1, 0, 1]})
    report = data.report()
    assert report.duplicates.count == 0
    assert report.normalised_duplicates.pairs == ((0, 3),)
    assert report.conflicts.pairs == ((0, 3),)
    assert report.blank == (2,)


def test_conflicts_of_each_kind_of_target() -> None:
    assert TaskDataset({"text": ["a", "A"], "labels": [["x", "y"], ["y", "x"]]}).report().conflicts.count == 0
    assert TaskDataset({"text": ["a", "A"], "labels": [["x", "y"], ["y"]]}).report().conflicts.count == 1
    assert TaskDataset({"text": ["a", "A"], "target": [1, 1.5]}).report().conflicts.count == 1
    assert TaskDataset({"text": ["a", "A"]}).report().conflicts.count == 0


def test_blank_rows_are_counted_once() -> None:
    texts = ["", " ", "\u200b\n", "", "x"]
    report = TaskDataset({"text": texts, "label": [0, 1, 0, 1, 0]}).report()
    assert report.blank == (0, 1, 2, 3)
    assert report.duplicates.count == report.normalised_duplicates.count == report.conflicts.count == 0
    assert "4 rows have a blank input: row 0, row 1, row 2, row 3" in report.problems


SAID = {"role": "assistant", "content": "Yes."}
SPANS = {"head": (0, 1), "tail": (1, 2)}
#: Rows of each task that reads texts, the second of which is blank where somebody says something to the model.
BLANK = {
    "text-classification": [{"text": text, "label": i % 2} for i, text in enumerate(("a", " ", "b"))],
    "a pair": [{"text": "a", "text_pair": text, "label": i % 2} for i, text in enumerate(("a", "", "b"))],
    "multi-label-classification": [{"text": text, "labels": ["x"]} for text in ("a", "\n", "b")],
    "text-regression": [{"text": text, "target": float(i)} for i, text in enumerate(("a", "\u200b", "b"))],
    "question-answering": [
        {"question": text, "context": "a", "answers": {"text": [], "answer_start": []}} for text in ("a", "\t", "b")
    ],
    "a context": [
        {"question": "a", "context": text, "answers": {"text": [], "answer_start": []}} for text in ("a", " ", "b")
    ],
    "seq2seq": [{"source": text, "target": "a"} for text in ("a", "", "b")],
    "a prompt": [{"prompt": text, "completion": "a"} for text in ("a", "", "b")],
    "causal-lm": [{"text": text} for text in ("a", "", "b")],
    "masked-lm": [{"text": text} for text in ("a", "", "b")],
    "messages": [{"messages": [{"role": "user", "content": text}, SAID]} for text in ("a", " ", "b")],
    "a later turn": [
        {"messages": [{"role": "user", "content": "a"}, SAID, {"role": "user", "content": text}]}
        for text in ("a", "\u200b", "b")
    ],
    "with tools": [
        {"messages": [{"role": "user", "content": text}, SAID], "tools": [{"name": "add"}]} for text in ("a", "", "b")
    ],
    "text-embedding": [{"text": text, "text_pair": "a"} for text in ("a", "", "b")],
    "the pair of an embedding": [{"text": "a", "text_pair": text} for text in ("a", " ", "b")],
    "its negative": [{"text": "a", "text_pair": "b", "text_negative": text} for text in ("a", "", "b")],
    "with a score": [{"text": "a", "text_pair": text, "score": 0.5} for text in ("a", "", "b")],
    "no target": [{"text": text} for text in ("a", " ", "b")],
}
_NAMED = {"causal-lm", "masked-lm", "text-embedding"}
_EMBEDDING = {"the pair of an embedding", "its negative", "with a score"}


@pytest.mark.parametrize("name", BLANK)
def test_blank_texts_of_every_task_are_told_and_can_be_dropped(name: str) -> None:
    named = "text-embedding" if name in _EMBEDDING else name if name in _NAMED else None
    data = TaskDataset(BLANK[name], task=named)
    report = data.report()
    assert report.blank == (1,)
    assert "1 row has a blank input: row 1" in report.problems
    assert len(data.clean(conflicts="keep", duplicates="keep", normalised_duplicates="keep")) == 2


def test_turns_of_others_may_say_nothing() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "ring", "arguments": {}}]}
    asked = {"role": "user", "content": "Ring."}
    turns = [{"role": "system", "content": ""}, asked, call, {"role": "tool", "content": ""}, SAID]
    assert TaskDataset({"messages": [turns]}).report().blank == ()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "folder"])
def test_blank_texts_are_told_whatever_they_were_read_from(suffix: str, tmp_path: Path) -> None:
    texts, path = ["Good.", "", "  ", "Bad."], tmp_path / f"reviews.{suffix}"
    roles: dict[str, Any] = {"text": "review", "label": "mood"}
    rows = [{"review": text, "mood": "up" if i % 2 else "down"} for i, text in enumerate(texts)]
    if suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        data = TaskDataset.from_jsonl(path, **roles)
    elif suffix == "parquet":
        parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        parquet.write_table(arrow.Table.from_pylist(rows), path)
        data = TaskDataset.from_parquet(path, **roles)
    elif suffix == "folder":
        for i, text in enumerate(texts):
            (path / ("down", "up")[i > 1]).mkdir(parents=True, exist_ok=True)
            (path / ("down", "up")[i > 1] / f"{i}.txt").write_text(text, encoding="utf-8")
        data = TaskDataset.from_folder(path)
    else:
        mark = "\t" if suffix == "tsv" else ","
        lines = [f"{row['review']}{mark}{row['mood']}" for row in rows]
        path.write_text("\n".join([f"review{mark}mood", *lines]), encoding="utf-8")
        data = TaskDataset.from_csv(path, delimiter=mark, **roles)
    assert data.report().blank == (1, 2)
    assert "2 rows have a blank input: row 1, row 2" in data.report().problems


def test_lengths_and_targets() -> None:
    report = TaskDataset({"text": ["a", "bb", "cccc"], "target": [1, 2, 6]}).report()
    assert report.lengths["text"] == pytest.approx({"min": 1, "median": 2, "mean": 7 / 3, "p95": 3.8, "max": 4})
    assert report.targets == {"min": 1.0, "median": 2.0, "mean": 3.0, "max": 6.0}
    assert report.label_counts == {}
    assert report.problems == []


def labelled(labels: list[object], **options: object) -> TaskDataset:
    return TaskDataset({"text": [f"{id(labels)} {i}" for i in range(len(labels))], "label": labels}, **options)


def test_classes() -> None:
    train = labelled(["a"] * 60 + ["b"] * 5, label_names=["a", "b", "c"])
    valid = labelled(["a", "d"])
    report = train.report(valid, other_name="test")
    assert report.label_counts == {"a": 60, "b": 5, "c": 0}
    assert report.imbalance == 12
    assert report.leakage is not None
    assert report.leakage.classes_only_here == ("b",)
    assert report.leakage.classes_only_there == ("d",)
    assert report.problems == [
        "test has labels that are never seen here: 'd'",
        "test has no rows of 'b'",
        "1 class without rows: 'c'",
        "the largest class has 12 times the rows of the smallest",
    ]


def test_one_class_and_similar_labels() -> None:
    assert labelled([1, 1]).report().problems == ["every row has the label 1: there is nothing to learn"]
    assert labelled(["Pos", "pos ", "neg"]).report().problems == [
        "the labels 'Pos', 'pos ' differ in case, width or spaces only"
    ]


def test_true_and_one_are_different_classes() -> None:
    leakage = labelled([True, False]).report(labelled([1, 0])).leakage
    assert leakage is not None
    assert leakage.classes_only_there == (0, 1)


def test_pairs_are_bounded_and_counts_are_not() -> None:
    report = TaskDataset({"text": ["same"] * 5000, "label": [0, 1] * 2500}).report()
    assert report.duplicates.count == 4999
    assert len(report.duplicates.pairs) == MAX_PAIRS
    assert report.conflicts.count == 2500


def test_what_cannot_be_compared() -> None:
    data = labelled([0, 1])
    with pytest.raises(DataError, match="same inputs"):
        data.report(TaskDataset({"text": ["a"], "text_pair": ["b"]}))
    with pytest.raises(OptionError, match="expected a TaskDataset"):
        data.report([1])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="did you mean 'other_name'"):
        data.report(data, othr_name="test")  # type: ignore[call-arg]


def test_shown_as_text_html_and_dict() -> None:
    data = TaskDataset({"text": ["<i>", "<i>"], "label": ["<b>", "c"]})
    report = data.report(data)
    assert isinstance(report, DataReport)
    assert "exact duplicates" in str(report)
    assert "* 2 rows of valid stand here too" in str(report)
    html = report._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert json.loads(json.dumps(report.to_dict()))["problems"] == report.problems


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Straße", "STRASSE"),
        ("ﬁlm", "FILM"),
        ("\uff26\uff35\uff2c\uff2c width", "full  width"),
        ("soft\u00adhyphen", "softhyphen"),
        ("a\u00a0b\u3000c", "a b c"),
        ("e\u0301", "É"),
        ("\u200f映画\u200f", "映画"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
    ],
)
def test_texts_that_read_the_same(text: str, same: str) -> None:
    assert normalised(text) == normalised(same)
    assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize(("text", "other"), [("cafe", "café"), ("a b", "ab"), ("1", "2"), ("good.", "good")])
def test_texts_that_do_not(text: str, other: str) -> None:
    assert normalised(text) != normalised(other)
