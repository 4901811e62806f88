"""Files that read otherwise than they look: quotes that swallow rows, blanks, packed files, kinds of files, ``~``."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sftlib.data import TaskDataset
from sftlib.data.files import spool
from sftlib.errors import DataError, LabelError, OptionError

#: Five rows, two of which begin with a quotation mark of their own.
REVIEWS = [
    ('"Grand" is the word for it', "good"),
    ('"A waste of an evening', "bad"),
    ("Slow and dull", "bad"),
    ("Warm, funny", "good"),
    ('He said "never again"', "bad"),
]


def write(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def tsv(*rows: tuple[str, ...], header: tuple[str, ...] = ("text", "label")) -> str:
    return "\n".join("\t".join(row) for row in (header, *rows)) + "\n"


# Quotes.


def test_cells_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, tsv(*REVIEWS))
    data = TaskDataset.from_csv(path, delimiter="\t", quoting=None)
    assert [(row["text"], row["label"]) for row in data] == REVIEWS
    with pytest.raises(DataError, match="quoting=None"):
        TaskDataset.from_csv(path, delimiter="\t")


SWALLOWED: list[tuple[str, dict[str, Any]]] = [
    (tsv(('"A waste', "bad"), ("Dull", "bad"), ('Odd"', "good"), ("Fine", "good")), {"delimiter": "\t"}),
    (tsv(("good", '"A'), ("bad", "B"), ("good", 'C"'), header=("label", "text")), {"delimiter": "\t"}),
    (tsv(("1", '"A', "x"), ("2", "B", "y"), ("3", 'C"', "z"), header=("label", "text", "id")), {"delimiter": "\t"}),
    ('text,label\n"A waste,bad\nDull,bad\nOdd",good\nFine,good\n', {}),
    ('text,label\r\n"A waste,bad\r\nOdd",bad\r\nFine,bad\r\n', {}),
    ('label;text\ngood;"A\nbad;B\ngood;C"\nbad;D\n', {"delimiter": ";"}),
    ('text,target\n"A,1.5\nB,2.5\nC",3.5\nD,4.5\n', {"target": "target"}),
    ('id,text,label\n1,"A good,x\n2,B bad",y\n3,C,z\n', {}),
    ('id|text|label\n1|"A|x\n2|B|y\n3|C"|x\n4|D|y\n', {"delimiter": "|"}),
]


@pytest.mark.parametrize(("content", "options"), SWALLOWED, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("limit", [spool.FILE_LIMIT, 0])
def test_a_cell_that_swallowed_rows_is_an_error(
    content: str, options: dict[str, Any], limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=r"a quote had swallowed lines:\n  line [23]: the cell of 'text' runs over"):
        TaskDataset.from_csv(path, **options)
    whole = len(content.splitlines()) - 1
    assert len(TaskDataset.from_csv(path, quoting=None, **options)) == whole
    assert len(TaskDataset.from_csv(path, quoting='"', **options)) < whole


GOOD: list[tuple[str, list[str]]] = [
    ('text,label\n"Hello, dear\nBye",a\n"x, y",b\n', ["Hello, dear\nBye", "x, y"]),
    ('text,label\n"one\ntwo, three\nfour",a\nz,b\n', ["one\ntwo, three\nfour", "z"]),
    ('text,label\n"She said ""no"", twice\nand left",a\nz,b\n', ['She said "no", twice\nand left', "z"]),
    ('text,target\n"It cost 5,000\nno less",3\nz,4\n', ["It cost 5,000\nno less", "z"]),
]


@pytest.mark.parametrize(("content", "texts"), GOOD, ids=repr)
def test_texts_of_several_lines_are_no_mistake(content: str, texts: list[str], tmp_path: Path) -> None:
    assert TaskDataset.from_csv(write(tmp_path, content)).column("text") == texts


def test_other_quotes_and_escapes(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label\n'a, b',x\nc,y\n")
    assert TaskDataset.from_csv(path, quoting="'").column("text") == ["a, b", "c"]
    path = write(tmp_path, 'text,label\n"He said \\"no\\", twice",x\n"5\\" pipe",y\n')
    with pytest.raises(DataError, match=r"line 2 .*escape='.{2}'"):
        TaskDataset.from_csv(path)
    assert TaskDataset.from_csv(path, escape="\\").column("text") == ['He said "no", twice', '5" pipe']
    path = write(tmp_path, 'text,label\nOne\\, two,x\n"three",y\n')
    assert TaskDataset.from_csv(path, quoting=None, escape="\\").column("text") == ["One, two", '"three"']


@pytest.mark.parametrize(
    "options",
    [
        {"quoting": csv.QUOTE_NONE},
        {"quoting": ""},
        {"quoting": "none"},
        {"quoting": ","},
        {"escape": "\\\\"},
        {"escape": 1},
    ],
    ids=repr,
)
def test_quotes_that_cannot_be(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        TaskDataset.from_csv(write(tmp_path, "text,label\na,b\n"), **options)


# Blanks.


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_blanks_behind_delimiters(delimiter: str, tmp_path: Path) -> None:
    rows = ["text, label, note", 'Good, pos, "a, b"', "Bad, neg, c"]
    content = "\n".join(row.replace(", ", f"{delimiter} ") for row in rows[:1] + rows[2:])
    data = TaskDataset.from_csv(write(tmp_path, content), delimiter=delimiter)
    assert list(data) == [{"text": "Bad", "label": "neg", "note": "c"}]


def test_blanks_and_quotes(tmp_path: Path) -> None:
    data = TaskDataset.from_csv(write(tmp_path, 'text, label\n"Good, warm", "pos"\nBad, neg\n'))
    assert list(data) == [{"text": "Good, warm", "label": "pos"}, {"text": "Bad", "label": "neg"}]


@pytest.mark.parametrize(
    ("cells", "labels"), [(" pos;neg ", ["pos", "neg"]), (" 1; 0", [1, 0]), ("True ; False", [True, False])]
)
def test_blanks_around_labels_are_no_part_of_them(cells: str, labels: list[Any], tmp_path: Path) -> None:
    rows = [f"text {i},{cell}" for i, cell in enumerate(cells.split(";"))]
    data = TaskDataset.from_csv(write(tmp_path, "\n".join(["text,label", *rows])))
    assert data.column("label") == labels
    assert data.column("text") == ["text 0", "text 1"]


def test_blanks_in_texts_stay(tmp_path: Path) -> None:
    assert TaskDataset.from_csv(write(tmp_path, "text,label\n  a ,x\nb,y\n")).column("text") == ["  a ", "b"]


# CoNLL-U.

UD = """# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
4.1\tgrande\tgrande\tADJ\t_\t_\t_\t_\t_\t_
5\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\t_

0.1\tElla\tella\tPRON\t_\t_\t_\t_\t_\t_
1\tDuerme\tdormir\tVERB\t_\t_\t0\troot\t_\t_
"""


def test_ranges_and_empty_nodes_are_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, UD)
    data = TaskDataset.from_conll(path, columns={"tokens": 1, "tags": 3}, comment="#")
    assert data.column("tokens") == [["Vamos", "nos", "a", "el", "mar"], ["Duerme"]]
    assert data.column("tags") == [["VERB", "PRON", "ADP", "DET", "NOUN"], ["VERB"]]
    assert "passed over 2 ranges (1-2) and 2 empty nodes (2.1)" in caplog.text
    again = TaskDataset.from_conll(path, columns={"id": 0, "tokens": 1, "tags": 3}, comment="#")
    assert again[0]["id"] == ["1", "2", "3", "4", "5"]


def test_numbers_that_are_words_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "1 O\n2-1 B-SCORE\n\n3.5 B-NUM\n")
    assert TaskDataset.from_conll(path).column("tokens") == [["1", "2-1"], ["3.5"]]
    path = write(tmp_path, "7\tA\tX\n2-1\tB\tY\n")  # the first column counts nothing
    assert TaskDataset.from_conll(path, columns={"tokens": 1, "tags": 2}).column("tokens") == [["A", "B"]]
    assert not caplog.records


def test_a_file_of_conll_u_read_with_the_usual_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"CoNLL-U.*columns=\{'tokens': 1, 'tags': 3\}"):
        TaskDataset.from_conll(write(tmp_path, UD), comment="#")


# Instructions.

DOLLY = [
    {"instruction": "When was it built?", "context": "It was built in 1889.", "response": "In 1889.", "category": "qa"},
    {"instruction": "Name a river.", "context": "", "response": "The Oder.", "category": "open"},
]


def said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_the_names_of_others_for_the_parts_of_alpaca(tmp_path: Path) -> None:
    data = TaskDataset.from_alpaca(write(tmp_path, json.dumps(DOLLY)))
    assert data.is_labelled
    assert data.column("messages") == [
        said("When was it built?\n\nIt was built in 1889.", "In 1889."),
        said("Name a river.", "The Oder."),
    ]
    assert data.column("category") == ["qa", "open"]
    odd = [{"ask": "Add.", "data": "1, 2", "say": "3", "output": "x"}]
    path = write(tmp_path, json.dumps(odd))
    data = TaskDataset.from_alpaca(path, instruction="ask", input="data", output="say")
    assert data[0] == {"messages": said("Add.\n\n1, 2", "3"), "output": "x"}
    with pytest.raises(DataError, match=r"no row has 'instruction'.*instruction=\.\.\."):
        TaskDataset.from_alpaca(path)
    with pytest.raises(OptionError, match="output='sy': .* has no such column: did you mean 'say'"):
        TaskDataset.from_alpaca(path, instruction="ask", output="sy")


def test_what_is_lost_of_instructions_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"instruction": "Add.", "passage": "1, 2", "solution": "3"}]
    data = TaskDataset.from_alpaca(write(tmp_path, json.dumps(rows)))
    assert not data.is_labelled
    assert "no row has 'input' or 'output'" in caplog.text
    assert "'passage', 'solution'" in caplog.text
    assert "output=..." in caplog.text


def test_rows_of_instructions_that_cannot_be_used_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, json.dumps([{"instruction": 3}, {"instruction": "a", "output": "b"}, {"instruction": " "}]))
    with pytest.raises(DataError, match="2 rows cannot be used"):
        TaskDataset.from_alpaca(path)
    assert len(TaskDataset.from_alpaca(path, on_invalid="drop")) == 1
    assert "2 of 3 rows left out" in caplog.text
    turns = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    shared = [{"conversations": turns}, {"conversations": turns[::-1]}, {"conversations": turns, "system": 3}]
    path = write(tmp_path, json.dumps(shared))
    assert len(TaskDataset.from_sharegpt(path, on_invalid="drop")) == 1
    path = write(tmp_path, json.dumps([{"dialogue": turns, "tools": "[]"}]))
    data = TaskDataset.from_sharegpt(path, conversations="dialogue")
    assert (len(data), data.inputs) == (1, ("messages", "tools"))


# Packed files, and files of another kind.

TABLE = "text,label\nGood,pos\nBad,neg\n"


def packed(kind: str, content: str, name: str = "rows.csv") -> bytes:
    raw = content.encode("utf-8")
    if kind == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("inside/", "")
            archive.writestr(f"inside/{name}", raw)
            archive.writestr("__MACOSX/._rows.csv", b"x")
        return stream.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](raw)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("limit", [spool.FILE_LIMIT, 0])
def test_packed_files_are_read_in_place(kind: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", limit)
    lines = '{"text": "Good", "label": "pos"}\n{"text": "Bad", "label": "neg"}\n'
    read = [
        TaskDataset.from_csv(write(tmp_path, packed(kind, TABLE), f"a.csv.{kind}")),
        TaskDataset.from_jsonl(write(tmp_path, packed(kind, lines), f"a.jsonl.{kind}")),
        TaskDataset.from_json(write(tmp_path, packed(kind, f"[{lines.strip().replace(chr(10), ',')}]"), "a.json")),
    ]
    assert all(data.column("text") == ["Good", "Bad"] for data in read)
    words = TaskDataset.from_conll(write(tmp_path, packed(kind, "Ada B-PER\nslept O\n")))
    assert words.column("tokens") == [["Ada", "slept"]]
    latin = write(tmp_path, packed(kind, TABLE)[:-3] if kind in ("gz", "bz2", "xz") else packed(kind, TABLE)[:-30])
    with pytest.raises(DataError, match="cannot be unpacked"):
        TaskDataset.from_csv(latin)


def test_a_packed_file_in_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress("text,label\ncafé,1\nthé,2\n".encode("cp1252")))
    with pytest.raises(DataError, match="byte 0xe9 in line 2; .*cp1252"):
        TaskDataset.from_csv(path)
    assert TaskDataset.from_csv(path, encoding="cp1252").column("text") == ["café", "thé"]


def test_zips_with_several_files_or_none(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train.csv", TABLE)
        archive.writestr("test.csv", TABLE)
    with pytest.raises(DataError, match="a zip that holds 2 files: 'train.csv', 'test.csv'; expected one"):
        TaskDataset.from_csv(write(tmp_path, stream.getvalue()))
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    with pytest.raises(DataError, match="no files|cannot be"):
        TaskDataset.from_csv(write(tmp_path, b"PK\x03\x04" + stream.getvalue()))


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "made.db")
    connection.execute("create table reviews (text, label)")
    connection.commit()
    connection.close()
    return (folder / "made.db").read_bytes()


def workbook() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"):
            archive.writestr(name, "<x/>")
    return stream.getvalue()


OTHERS: list[tuple[Any, str]] = [
    (b"PAR1" + b"\x15\x04" * 20 + b"PAR1", "is a Parquet file, not text: read it with TaskDataset.from_parquet"),
    (database, "is an SQLite database.*pandas.read_sql"),
    (lambda folder: workbook(), "is an Excel workbook: read it with TaskDataset.from_excel"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 4, "an old Excel or Word file"),
    (b"%PDF-1.7\n" + b"\xff" * 9, "is a PDF"),
    (b"\x80\x04\x95\x10\x00", "a pickle.*is not read"),
    (b"(\xb5/\xfd\x00\x00", "packed with zstd"),
]


@pytest.mark.parametrize("reader", ["from_csv", "from_jsonl", "from_json", "from_conll", "from_squad", "from_alpaca"])
@pytest.mark.parametrize(("content", "match"), OTHERS, ids=[match[:20] for _, match in OTHERS])
def test_a_file_of_another_kind_is_called_what_it_is(reader: str, content: Any, match: str, tmp_path: Path) -> None:
    path = write(tmp_path, content if isinstance(content, bytes) else content(tmp_path))
    with pytest.raises(DataError, match=match) as caught:
        getattr(TaskDataset, reader)(path)
    assert "encoding" not in str(caught.value)


def test_tables_and_json_that_were_taken_for_each_other(tmp_path: Path) -> None:
    lines = write(tmp_path, '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n')
    with pytest.raises(DataError, match="an object of JSON in each line: read it with TaskDataset.from_jsonl"):
        TaskDataset.from_csv(lines, text="text", label="label")
    for array in ('[{"text": "a"}]', '[\n{"text": "a"}\n]'):
        with pytest.raises(DataError, match="an array of JSON: read it with TaskDataset.from_json"):
            TaskDataset.from_csv(write(tmp_path, array))
    with pytest.raises(DataError, match="line 1 is no JSON: .*TaskDataset.from_csv"):
        TaskDataset.from_jsonl(write(tmp_path, TABLE))
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        TaskDataset.from_parquet(write(tmp_path, TABLE))


# The home folder.


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    write(tmp_path, TABLE, "a.csv")
    write(tmp_path, '{"text": "Good", "label": "pos"}\n', "a.jsonl")
    write(tmp_path, '[{"text": "Good", "label": "pos"}]', "a.json")
    write(tmp_path, "Ada O\n", "a.conll")
    (tmp_path / "texts" / "pos").mkdir(parents=True)
    write(tmp_path / "texts" / "pos", "Good", "a.txt")
    read = [
        TaskDataset.from_csv("~/a.csv"),
        TaskDataset.from_jsonl("~/a.jsonl"),
        TaskDataset.from_json(Path("~/a.json")),
        TaskDataset.from_conll("~/a.conll"),
        TaskDataset.from_folder("~/texts"),
    ]
    assert [len(data) for data in read] == [2, 1, 1, 1, 1]
    with pytest.raises(DataError, match="did you mean 'a.csv'"):
        TaskDataset.from_csv("~/b.csv")


# Folders.


def test_folders_that_are_not_looked_into_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("pos/a.txt", "neg/B.TXT", ".git/c.txt", "pos/.cache/d.txt", "pos/e.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("Fine.")
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        data = TaskDataset.from_folder(tmp_path)
    assert data.column("path") == ["neg/B.TXT", "pos/a.txt"]
    assert "1 file passed over: 'pos/e.md'; 2 folders not looked into: '.git', 'pos/.cache'" in caplog.text


def test_folders_beside_the_splits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/pos/a.txt", "val/pos/b.txt", "test/pos/c.txt", "README.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("Fine.")
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        train, valid = TaskDataset.from_folder(tmp_path, splits=("train", "val"))
    assert (len(train), len(valid)) == (1, 1)
    assert "1 file passed over: 'README.md'; 1 folder not looked into: 'test'" in caplog.text


def test_a_missing_label_behind_a_blank(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="a missing label: row 0"):
        TaskDataset.from_csv(write(tmp_path, "text,label\na, \nb,x\n"))
