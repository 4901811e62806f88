"""Readers of files in the layouts of others: CoNLL, SQuAD, JSON arrays, Alpaca, ShareGPT."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sftlib.data import TaskDataset, TaskStream
from sftlib.data.files import spool
from sftlib.errors import DataError, OptionError, SftlibError
from sftlib.testing import pictures

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def write(folder: Path, content: str | bytes | list[Any] | dict[str, Any], name: str = "file") -> Path:
    path = folder / name
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def test_conll(tmp_path: Path) -> None:
    data = TaskDataset.from_conll(write(tmp_path, CONLL))
    assert list(data) == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
    ]
    assert data.label_names == ("B-ORG", "B-PER", "I-PER", "O")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_conll_of_any_make(ending: str, encoding: str, tmp_path: Path) -> None:
    content = CONLL.rstrip("\n").replace("\n", ending).encode(encoding)
    data = TaskDataset.from_conll(write(tmp_path, content), encoding="utf-16" if encoding == "utf-16" else "utf-8")
    assert data.fingerprint() == TaskDataset.from_conll(write(tmp_path, CONLL, "plain")).fingerprint()


def test_columns_of_conll(tmp_path: Path) -> None:
    path = write(tmp_path, CONLL)
    data = TaskDataset.from_conll(path, columns={"words": 0, "pos": 1, "ner": 3}, tokens="words", tags="pos")
    assert data[0] == {"tokens": ["EU", "rejects"], "tags": ["NNP", "VBZ"], "ner": ["B-ORG", "O"]}
    unlabelled = TaskDataset.from_conll(path, columns={"tokens": 0})
    assert (unlabelled.is_labelled, len(unlabelled)) == (False, 2)
    with pytest.raises(OptionError, match=r"columns=\{'tags': 4\}: line 3 of .* has 4 columns, numbered from 0"):
        TaskDataset.from_conll(path, columns={"tokens": 0, "tags": 4})


def test_tabs_keep_spaces_and_hashes(tmp_path: Path) -> None:
    path = write(tmp_path, "New York\tB-LOC\n#tag\tO\n \t \n\u00a0x\tO\n")
    assert [row["tokens"] for row in TaskDataset.from_conll(path)] == [["New York", "#tag"], ["\u00a0x"]]
    path = write(tmp_path, "a|O\nb c|O\n")
    assert TaskDataset.from_conll(path, delimiter="|")[0]["tokens"] == ["a", "b c"]
    path = write(tmp_path, "a  O \nb\t O\n")
    assert TaskDataset.from_conll(path)[0] == {"tokens": ["a", "b"], "tags": ["O", "O"]}


def test_comments_of_conll(tmp_path: Path) -> None:
    path = write(tmp_path, "# id = 1 of 2\na\tO\n#\tO\n\n# id = 2\nb\tO\n")
    with pytest.raises(DataError, match=r"line 2 has 2 columns, the first has 6 \(a comment\?"):
        TaskDataset.from_conll(path)
    data = TaskDataset.from_conll(path, comment="# ")
    assert data.column("tokens") == [["a", "#"], ["b"]]


CONLL_ERRORS: list[tuple[str | bytes, str]] = [
    ("", "the data holds no rows"),
    ("\n\n", "the data holds no rows"),
    ("-DOCSTART- O\n", "the data holds no rows"),
    ("a O\nb\nc O\nd X O\n", "2 lines cannot be used:\n  line 2 has 1 column, the first has 2\n  line 4 has 3 columns"),
    ("a O\n# a comment here\n", r"line 2 has 4 columns, the first has 2 \(a comment\? .*comment='# '\)"),
    ("a\tO\n\tO\n", "a blank word: row 0"),
    ("a\tO\nb\t\n", "a blank tag: row 0"),
    (b"a O\ncaf\xe9 O\n", "is not utf-8: byte 0xe9 in line 2; .*cp1252"),
    ("a O\n".encode("utf-16"), "give encoding='utf-16'"),
]


@pytest.mark.parametrize(("content", "match"), CONLL_ERRORS, ids=repr)
def test_conll_files_that_cannot_be_used(content: str | bytes, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset.from_conll(write(tmp_path, content))


@pytest.mark.parametrize(
    "options",
    [
        {"columns": ["tokens", "tags"]},
        {"columns": {}},
        {"columns": {"tokens": "0"}},
        {"columns": {"tokens": True}},
        {"columns": {0: 0}},
        {"delimiter": ""},
        {"delimiter": 1},
        {"delimiter": "\n"},
        {"comment": ""},
        {"comment": 3},
        {"encoding": "utf-9"},
        {"column": {"tokens": 0}},
    ],
    ids=repr,
)
def test_options_of_conll_that_cannot_be(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        TaskDataset.from_conll(write(tmp_path, CONLL), **options)


def squad(*entries: dict[str, Any], context: Any = "Ada met Bob in Paris.") -> dict[str, Any]:
    return {"version": "v2.0", "data": [{"title": "Ada", "paragraphs": [{"context": context, "qas": list(entries)}]}]}


ANSWER = {"text": "Paris", "answer_start": 15}
ENTRY = {"id": "1", "question": "Where?", "answers": [ANSWER, ANSWER], "is_impossible": False}


def test_squad(tmp_path: Path) -> None:
    impossible = {"id": "2", "question": "When?", "is_impossible": True, "answers": [], "plausible_answers": [ANSWER]}
    odd = {"id": "3", "question": "Why?", "is_impossible": True, "answers": [ANSWER]}
    data = TaskDataset.from_squad(write(tmp_path, squad(ENTRY, impossible, odd)))
    assert data.columns == ("question", "context", "answers", "id", "title")
    assert data[0] == {
        "question": "Where?",
        "context": "Ada met Bob in Paris.",
        "answers": {"text": ["Paris", "Paris"], "answer_start": [15, 15]},
        "id": "1",
        "title": "Ada",
    }
    assert [row["answers"]["text"] for row in data][1:] == [[], []]
    bare = TaskDataset.from_squad(write(tmp_path, squad({"id": "1", "question": "Where?"})))
    assert (bare.is_labelled, bare.inputs) == (False, ("question", "context"))


SQUAD_ERRORS: list[tuple[Any, str]] = [
    ("", "line 1 is no JSON"),
    ("{", "line 1 is no JSON"),
    (b'{"data": "\xe9"}', "is not UTF-8: byte 0xe9 in line 1"),
    ([], "expected SQuAD's layout.*from_json"),
    ({"rows": []}, "expected SQuAD's layout"),
    ({"data": {}}, "data is a dict, expected a list"),
    ({"data": []}, "the data holds no rows"),
    ({"data": [1, {"title": "x"}]}, r"(?s)data\[0\] is an int, expected an object.*data\[1\].paragraphs is missing"),
    (squad(ENTRY, {"id": "2"}), r"data\[0\].paragraphs\[0\].qas\[1\].question is missing"),
    (squad(ENTRY, context=3), r"data\[0\].paragraphs\[0\].context is an int, expected a string"),
    (squad(*[{}] * 9), "and 4 more"),
    (squad(ENTRY, ENTRY | {"answers": None}), "missing answers: row 1"),
    (squad(ENTRY, ENTRY | {"answers": "Paris"}), "a str that holds no answers: row 1"),
    (squad(ENTRY | {"answers": [ANSWER | {"answer_start": 14}]}), r"row 0 \('Paris', not at 14 but at 15\)"),
    ("[" * 100_000, "nested too deeply|no JSON"),
]


@pytest.mark.parametrize(("content", "match"), SQUAD_ERRORS, ids=lambda value: repr(value)[:40])
def test_squad_files_that_cannot_be_used(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset.from_squad(write(tmp_path, content))


def test_a_json_array(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028é", "label": 1}, {"label": 0, "text": "b", "more": [1]}]
    path = write(tmp_path, b"\xef\xbb\xbf" + json.dumps(rows, indent=1, ensure_ascii=False).encode())
    data = TaskDataset.from_json(path)
    assert list(data) == [{"text": "a\u2028é", "label": 1, "more": None}, {"text": "b", "label": 0, "more": [1]}]


JSON_ERRORS: list[tuple[Any, str]] = [
    ("", "line 1 is no JSON"),
    ('[{"text": "a",\n "label": }]', "line 2 is no JSON"),
    ('{"text": "a"}\n{"text": "b"}\n', "line 2 is no JSON: Extra data.*from_jsonl"),
    ('[{"text": "a", "text": "b"}]', "the key 'text' stands there more than once"),
    (b'[{"text": "a"},\n{"text": "\xe9"}]', "is not UTF-8: byte 0xe9 in line 2"),
    ({"rows": [1], "x": 1}, r"expected an array of objects \(there are lists under 'rows'"),
    ("3", "holds 3, expected an array"),
    ([{"text": "a"}, 1, None], r"2 of 3 rows are no objects: row 1 \(1\); row 2 \(None\)"),
    ([], "the data holds no rows"),
    ('[{"text": "a", "label": ' + "1" * 5000 + "}]", "no JSON"),
    ("[" * 100_000, "nested too deeply|no JSON"),
]


@pytest.mark.parametrize(("content", "match"), JSON_ERRORS, ids=lambda value: repr(value)[:40])
def test_json_files_that_cannot_be_used(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset.from_json(write(tmp_path, content))


def both(folder: Path, rows: list[dict[str, Any]]) -> list[Path]:
    return [write(folder, rows, "a.json"), write(folder, "\n".join(map(json.dumps, rows)), "a.jsonl")]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_alpaca(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3", "id": 7, "text": "all of it", "label": "x"},
        {"instruction": "Name a river.", "input": "", "output": "The Oder."},
        {"instruction": "Go on.", "output": "So be it.", "system": "Be kind.", "history": [["Hi.", "Hello."]]},
        {"instruction": "Go on.", "input": None, "output": "Well.", "system": "", "history": None},
    ]
    for path in both(tmp_path, rows):
        data = TaskDataset.from_alpaca(path)
        assert (data.task, data.is_labelled, data.roles) == ("causal-lm", True, {"messages": "messages"})
        assert data[0] == {
            "messages": [user("Add.\n\n1, 2"), assistant("3")],
            "id": 7,
            "text": "all of it",
            "label": "x",
        }
        assert data[1]["messages"] == [user("Name a river."), assistant("The Oder.")]
        assert data[2]["messages"] == [
            {"role": "system", "content": "Be kind."},
            user("Hi."),
            assistant("Hello."),
            user("Go on."),
            assistant("So be it."),
        ]
        assert data[3]["messages"] == [user("Go on."), assistant("Well.")]
        assert data.map(dict).fingerprint() == data.fingerprint()


def test_alpaca_without_output_can_be_predicted_on(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "input": "", "output": ""}, {"instruction": "b", "input": "", "output": "c"}]
    data = TaskDataset.from_alpaca(write(tmp_path, rows))
    assert (data.is_labelled, data.without_target.tolist()) == (False, [0])
    assert data[0]["messages"] == [user("a")]
    assert data.select([1]).is_labelled


ALPACA_ERRORS: list[tuple[Any, str]] = [
    ([{"prompt": "a"}], r"no row has 'instruction', which this layout needs \(columns: 'prompt'\)"),
    (
        [{"instruction": "a", "output": "b"}, {"instruction": 3}],
        "1 row cannot be used:\n  row 1: 'instruction' is an int",
    ),
    ([{"instruction": " ", "input": ""}], "row 0: neither 'instruction' nor 'input' says anything"),
    ([{"instruction": "a", "history": ["b"]}], "'history' is no list of pairs"),
    ([{"instruction": "a", "history": [["b", 3]]}], "an int as content: row 0"),
    ([{"instruction": "a", "output": {}}] * 9, "(?s)9 rows cannot be used.*'output' is a dict.*and 4 more"),
    ([], "no row has 'instruction'"),
    ("", "no row has 'instruction'"),
    ("[", "line 1 is no JSON"),
    ('{"instruction": "a"}\n[]\n', "line 2 holds a list"),
]


@pytest.mark.parametrize(("content", "match"), ALPACA_ERRORS, ids=lambda value: repr(value)[:40])
def test_alpaca_files_that_cannot_be_used(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset.from_alpaca(write(tmp_path, content))


def test_sharegpt(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    rows = [{"id": "x", "conversations": turns}, {"conversations": turns[:1], "system": "Be kind."}]
    for path in both(tmp_path, rows):
        data = TaskDataset.from_sharegpt(path)
        assert data[0] == {"messages": [user("Hi."), assistant("Hello.")], "id": "x"}
        assert data[1]["messages"] == [{"role": "system", "content": "Be kind."}, user("Hi.")]
        assert data.without_target.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([{"messages": []}], "no row has 'conversations'"),
        ([{"conversations": None}], "role 'messages': 1 row with a missing value: row 0"),
        ([{"conversations": "Hi."}], "a str instead of a list of turns"),
        ([{"conversations": [{"from": "bot", "value": "x"}]}], r"an unknown role: row 0 \('bot'\)"),
        ([{"conversations": [{"from": "gpt", "value": "x"}]}], "roles out of order"),
        ([{"conversations": [], "system": 3}], "row 0: 'system' is an int"),
    ],
    ids=repr,
)
def test_sharegpt_files_that_cannot_be_used(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset.from_sharegpt(write(tmp_path, content))


def test_large_files_of_every_layout_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alpaca = [{"instruction": "a", "output": "b", "n": n} for n in range(3)]
    shared = [{"conversations": [{"from": "human", "value": "Hi."}]}]
    files = [
        (TaskDataset.from_conll, write(tmp_path, CONLL, "conll")),
        (TaskDataset.from_squad, write(tmp_path, squad(ENTRY), "squad")),
        (TaskDataset.from_alpaca, write(tmp_path, alpaca, "alpaca")),
        (TaskDataset.from_sharegpt, write(tmp_path, shared, "shared")),
    ]
    before = [list(read(path)) for read, path in files]
    monkeypatch.setattr(spool, "FILE_LIMIT", 0)
    assert [list(read(path)) for read, path in files] == before


READERS = ["from_json", "from_conll", "from_squad", "from_alpaca", "from_sharegpt"]


@pytest.mark.parametrize("reader", READERS)
def test_paths_that_are_not_there(reader: str, tmp_path: Path) -> None:
    write(tmp_path, "", "rows.json")
    with pytest.raises(DataError, match=r"there is no such file: did you mean 'rows.json'\?"):
        getattr(TaskDataset, reader)(tmp_path / "row.json")
    with pytest.raises(OptionError, match="expected a path"):
        getattr(TaskDataset, reader)(3)
    with pytest.raises(OptionError, match=rf"TaskDataset.{reader}\(path.*missing a required argument"):
        getattr(TaskDataset, reader)()


PIECES = st.sampled_from(
    ['"instruction"', '"conversations"', '"data"', ":", "{", "}", "[", "]", ",", '"a"', "\n", "\t"]
)


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=40), st.lists(PIECES, max_size=14).map(lambda parts: "".join(parts).encode()))
)
def test_any_file_is_a_data_set_or_our_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.getbasetemp(), content, "fuzzed-layout")
    for reader in READERS:
        with contextlib.suppress(SftlibError):
            assert len(getattr(TaskDataset, reader)(path)) > 0


def zipped(content: bytes, method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("rows.csv", content)
    return stream.getvalue()


def damaged(content: bytes, numbers: random.Random) -> bytes:
    """Bytes changed, put in, or cut off."""
    found = bytearray(content)
    for _ in range(numbers.randint(1, 4)):
        place = numbers.randrange(len(found))
        match numbers.choice(["change", "put in", "cut off"]):
            case "change":
                found[place] = numbers.randrange(256)
            case "put in":
                found[place:place] = numbers.randbytes(3)
            case _:
                del found[max(place, 7) :]
    return bytes(found)


def test_a_damaged_packed_file_is_a_data_set_or_our_error(tmp_path: Path) -> None:
    rows = b"text,label\n" + b"".join(b"row %d,%d\n" % (i, i % 2) for i in range(40))
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    whole = [gzip.compress(rows), bz2.compress(rows), lzma.compress(rows), *(zipped(rows, one) for one in methods)]
    begun = [b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"]
    for one in whole:
        assert len(TaskDataset.from_csv(write(tmp_path, one, "whole"))) == 40
    numbers = random.Random(0)
    for content in [*begun, *(damaged(numbers.choice(whole), numbers) for _ in range(1500))]:
        path = write(tmp_path, content, "damaged")
        for reader in ("from_csv", "from_jsonl", "from_conll"):
            with contextlib.suppress(SftlibError):
                assert len(getattr(TaskDataset, reader)(path)) > 0


def test_a_damaged_table_is_a_data_set_or_our_error(tmp_path: Path) -> None:
    pyarrow, openpyxl = pytest.importorskip("pyarrow"), pytest.importorskip("openpyxl")
    from pyarrow import parquet

    rows = [{"text": f"row {i}", "label": i % 2} for i in range(40)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet", compression="none")
    book = openpyxl.Workbook()
    for row in [("text", "label"), *(tuple(row.values()) for row in rows)]:
        book.active.append(row)
    book.save(tmp_path / "rows.xlsx")
    numbers = random.Random(1)
    for reader, name, count in (("from_parquet", "rows.parquet", 1500), ("from_excel", "rows.xlsx", 150)):
        content = (tmp_path / name).read_bytes()
        assert len(getattr(TaskDataset, reader)(tmp_path / name)) == 40
        for _ in range(count):
            path = write(tmp_path, damaged(content, numbers), f"damaged {name}")
            with contextlib.suppress(SftlibError):
                assert len(getattr(TaskDataset, reader)(path)) > 0
    undecodable = (tmp_path / "rows.parquet").read_bytes().replace(b"row 11", b"row \xff1")
    path = write(tmp_path, undecodable, "undecodable.parquet")
    for read in (TaskDataset.from_parquet, lambda file: TaskStream.from_parquet(file).take(40)):
        with pytest.raises(DataError, match="cannot be read as Parquet: 'utf-8' codec"):
            read(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("data.yaml", lambda folder: TaskDataset.from_yolo(folder)),
        ("ids.txt", lambda folder: TaskDataset.from_voc(folder, folder, ids=folder / "ids.txt")),
        (
            "names.txt",
            lambda folder: TaskDataset.from_masks([folder / "a.png"], [folder / "a.png"], names=folder / "names.txt"),
        ),
        ("list.tsv", lambda folder: TaskDataset.from_manifest(folder / "list.tsv")),
        ("rows.csv", lambda folder: TaskDataset.from_csv(folder / "rows.csv")),
        ("rows.conll", lambda folder: TaskDataset.from_conll(folder / "rows.conll")),
    ],
)
def test_bytes_that_are_no_text_are_said_with_their_line(name: str, read: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"train: .\nnames: [Caf\xe9]\n")
    Image.fromarray(pictures(1)[0]["image"]).save(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=rf"{name} is not utf-8: byte 0xe9 in line 2; (save it as UTF-8|give its enc)"):
        read(tmp_path)


REAL = Path(os.environ.get("SFTLIB_DATA", "no such folder"))


@pytest.mark.skipif(not REAL.is_dir(), reason="SFTLIB_DATA names no folder with the development data")
def test_real_files() -> None:
    names = TaskDataset.from_conll(REAL / "wnut17_train.conll")
    assert (len(names), len(names.label_names or ())) == (3394, 13)
    questions = TaskDataset.from_squad(REAL / "squad2_11_articles.json")
    assert (len(questions), len(set(questions.column("title")))) == (4065, 11)
    chat = TaskDataset.from_alpaca(REAL / "alpaca_en_demo.json")
    assert (len(chat), chat.is_labelled) == (999, True)
