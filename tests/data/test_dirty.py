"""Dirty data: a typed error that names the row, or documented handling; never a raw traceback."""

from __future__ import annotations

import contextlib
import csv
import decimal
import enum
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftlib.data import TaskDataset
from sftlib.errors import DataError, LabelError, OptionError, SftlibError

NAN = float("nan")


class Colour(enum.StrEnum):
    RED = "red"


def labelled(labels: list[Any], **options: Any) -> TaskDataset:
    return TaskDataset({"text": [f"row {i}" for i in range(len(labels))], "label": labels}, **options)


def texts(values: list[Any]) -> TaskDataset:
    return TaskDataset({"text": values, "label": [i % 2 for i in range(len(values))]})


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (["a", None], "1 row with a missing value: row 1; drop these rows or fill them in"),
        (["a", NAN], "1 row with a missing value: row 1"),
        (["a", np.float32("nan")], "1 row with a missing value: row 1"),
        (["a", 3], r"1 row with an int instead of a string: row 1 \(3\); convert with str\(\)"),
        (["a", b"b"], "1 row with bytes instead of a string: row 1"),
        (["a", ["b"]], "1 row with a list instead of a string: row 1"),
        (["a", "\ud800"], "1 row with a lone surrogate"),
        ([None] * 1000, r"1,000 rows with a missing value: row 0, row 1, row 2, row 3, row 4 and 995 more"),
    ],
)
def test_texts_that_are_none(values: list[Any], match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        texts(values)
    assert type(caught.value) is DataError


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t",
        "\x00",
        "a\x00b",
        "\ufeffa",
        "\u202eabc",
        "a\u200bb",
        "שלום",
        "a\r\nb",
        "x" * 2**20,
        "👨‍👩‍👧",
        "\ufdd0",
    ],
    ids=ascii,
)
def test_texts_that_are_kept_as_they_are(text: str) -> None:
    data = texts([text, "other"])
    assert data[0]["text"] == text
    assert type(texts([np.str_(text), "other"])[0]["text"]) is str
    assert data.report().rows == 2
    assert data._repr_html_()


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([1, None], "1 row with a missing label: row 1"),
        ([1, NAN], "1 row with a missing label: row 1"),
        (["a", ""], r"1 row with a blank label: row 1 \(''\)"),
        (["a", " "], "1 row with a blank label"),
        ([1.0, 2.0], "2 rows with a float as label: row 0 .1.0., row 1 .2.0.; .*convert them to int.*target=.*"),
        ([0.5, 1], "1 row with a float as label: row 0"),
        (np.array([1, 2], np.float32), "2 rows with a float as label"),
        ([1, 2, "a"], r"1 row with a label of type str where most are int: row 2 \('a'\).*str\(\)"),
        ([1, 2, True], r"1 row with a label of type bool where most are int: row 2 \(True\).*int\(\)"),
        ([["a"], ["b"]], "2 rows with several labels in one row: .*labels=.*multi-label"),
        ([{"a": 1}, 1], "1 row with a dict as label: row 0"),
        ([b"a", "b"], "1 row with a bytes as label"),
        ([decimal.Decimal(1), 1], "1 row with a Decimal as label"),
        (["a", "\udfff"], "1 row with a label that holds a lone surrogate"),
    ],
)
def test_labels_that_are_none(labels: list[Any], match: str) -> None:
    with pytest.raises(LabelError, match=match):
        labelled(labels)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([2, -1], (-1, 2)),
        ([True, False], (False, True)),
        (np.array([3, 1], np.int8), (1, 3)),
        (np.array([True]), (True,)),
        (np.array(["y", "x"]), ("x", "y")),
        ([Colour.RED], ("red",)),
        ([10**30], (10**30,)),
        (["é", "z"], ("z", "é")),
    ],
)
def test_labels_become_pythons_own(labels: Any, names: tuple[Any, ...]) -> None:
    data = labelled(labels)
    assert data.label_names == names
    assert {type(name) for name in data.label_names} == {type(names[0])}
    assert {type(label) for label in data.column("label")} == {type(names[0])}


def test_all_problems_of_all_columns_in_one_error() -> None:
    with pytest.raises(DataError) as caught:
        TaskDataset(
            {"a": ["x", None, 3], "b": [None, "y", "z"], "c": [1, 2.5, None]}, text="a", text_pair="b", label="c"
        )
    assert str(caught.value).splitlines() == [
        "role 'text' (column 'a'): 1 row with a missing value: row 1; drop these rows or fill them in",
        "role 'text' (column 'a'): 1 row with an int instead of a string: row 2 (3); convert with str()",
        "role 'text_pair' (column 'b'): 1 row with a missing value: row 0; drop these rows or fill them in",
        "role 'label' (column 'c'): 1 row with a float as label: row 1 (2.5); whole numbers that stand for classes: "
        "convert them to int; quantities to predict: give the column as target=... instead of label (task "
        "'text-regression')",
        "role 'label' (column 'c'): 1 row with a missing label: row 2; drop these rows, or leave the role out to make "
        "an unlabelled data set",
    ]


def test_labels_outside_the_declared_names() -> None:
    with pytest.raises(LabelError) as caught:
        labelled(["pos", "neg", "postive", "x"], label_names=["pos", "neg"])
    assert str(caught.value) == (
        "role 'label': 2 rows with a label that is not in label_names: row 2 ('postive', did you mean 'pos'?), "
        "row 3 ('x'); expected one of 'pos', 'neg'"
    )
    with pytest.raises(LabelError, match="of type int, the label names are of type str"):
        labelled([1, 0], label_names=["1", "0"])
    with pytest.raises(LabelError, match="of type bool"):
        labelled([True, False], label_names=[0, 1])
    with pytest.raises(LabelError, match="did you mean 'x'"):
        TaskDataset({"text": ["a"], "labels": [["y", "x1"]]}, label_names=["x", "y"])


@pytest.mark.parametrize("names", ["ab", [], ["a", "a"], ["a", 1], [1, True], [1.0], [None], {"a", "b"}, 3, ["a", " "]])
def test_label_names_that_cannot_be(names: Any) -> None:
    with pytest.raises(OptionError, match="label_names"):
        labelled(["a", "b"], label_names=names)


def test_label_names_for_a_task_without_labels() -> None:
    with pytest.raises(OptionError, match="'text-regression' has no labels"):
        TaskDataset({"text": ["a"], "target": [1]}, label_names=["a"])


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([["a"], None], "1 row with missing labels: row 1; write an empty list"),
        (["a", ["b"]], "1 row with a str instead of a list of labels: row 0"),
        ([{"a": 1}], "a dict instead of a list"),
        ([["a", None]], "1 row with a missing label: row 0"),
        ([["a"], [1]], "a label of type int where most are str: row 1"),
        ([[0.5]], "a float as label"),
        ([[["a"]]], "several labels in one row"),
        ([[1, 0, 0], [0, 1, 1]], "a vector of 0 and 1"),
    ],
)
def test_lists_of_labels_that_are_none(labels: list[Any], match: str) -> None:
    with pytest.raises(LabelError, match=match):
        TaskDataset({"text": [f"row {i}" for i in range(len(labels))], "labels": labels})


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        ([1, None], "1 row with a missing value: row 1"),
        ([1, NAN], "1 row with a missing value: row 1"),
        ([1, float("inf")], r"1 row with a number that is not finite: row 1 \(inf\)"),
        ([1, 10**400], "not finite"),
        ([1, True], "1 row with a bool instead of a number: row 1"),
        ([1, np.True_], "a bool"),
        ([1, "2"], r"1 row with a str instead of a number: row 1 \('2'\); convert with float\(\)"),
    ],
)
def test_targets_that_are_none(targets: list[Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset({"text": ["a", "b"], "target": targets})


def test_targets_become_floats() -> None:
    data = TaskDataset({"text": ["a", "b", "c"], "target": [1, np.float32(0.5), np.int8(-3)]})
    assert data.column("target") == [1.0, 0.5, -3.0]
    assert {type(value) for value in data.column("target")} == {float}


CSV_ERRORS = [
    (b"", "is empty"),
    (b"\xef\xbb\xbf", "is empty"),
    (b"text,label\n", "holds no rows"),
    (b"text,text\na,b\n", "the header has 'text' more than once"),
    (b",text,label\n0,a,b\n", r"no name for column 1 \(pandas writes its index so"),
    (
        b"text,label\na,1\nb\nc,1,2\n",
        "2 lines cannot be used:\n  line 3 has 1 cell, the header has 2\n  line 4 has 3 cells",
    ),
    (b'text,label\n"a\nb",1\nc\n', "line 4 has 1 cell"),
    (b'text,label\n"a,1\nb,2\n', "line 2 opens a quote that is never closed"),
    (b'text,label\n"a"b,1\nc,2\n', "line 2 ',' expected after"),
    (b"text,label\na,1\ncaf\xe9,2\n", "is not utf-8: byte 0xe9 in line 3; .*encoding='cp1252'"),
    ("text,label\na,1\n".encode("utf-16"), "give encoding='utf-16'"),
    (b"text,label\na,\nb,1\n", "1 row with a missing label: row 0"),
    (b"text,label\na,1.0\nb,2\n", "2 rows with a float as label"),
    (b"text,target\na,1\nb,\nc,x\n", r"a missing value: row 1(.|\n)*a str instead of a number: row 2 \('x'\)"),
    (b"text,labels\na,x;y\n", "a str instead of a list of labels: row 0"),
]


@pytest.mark.parametrize(("content", "match"), CSV_ERRORS, ids=[repr(content[:30]) for content, _ in CSV_ERRORS])
def test_csv_files_that_cannot_be_used(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        TaskDataset.from_csv(path)


CSV_LABELS = [
    ("1 2 -3", [1, 2, -3]),
    ("1 02", ["1", "02"]),
    ("+1 2", ["+1", "2"]),
    ("True False", [True, False]),
    ("true FALSE", [True, False]),
    ("True yes", ["True", "yes"]),
    ("1 a", ["1", "a"]),
    ("nan none", ["nan", "none"]),
    ("1_0 2", ["1_0", "2"]),
    ("\u0661 2", ["\u0661", "2"]),
]


@pytest.mark.parametrize(("cells", "labels"), CSV_LABELS)
def test_label_cells_take_the_narrowest_type(cells: str, labels: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rows = [f"row {i},{cell}" for i, cell in enumerate(cells.split())]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    found = TaskDataset.from_csv(path).column("label")
    assert found == labels
    assert [type(label) for label in found] == [type(label) for label in labels]


def test_csv_cells_that_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(
        b'text,labels\r\n"quoted\r\nlines, ""and"" commas","[""a""]"\r\n\r\na\x00b,[]\r\n,"[""b"", ""a""]"\r\n'
    )
    data = TaskDataset.from_csv(path)
    assert data.column("text") == ['quoted\r\nlines, "and" commas', "a\x00b", ""]
    assert data.column("labels") == [["a"], [], ["b", "a"]]


def test_a_csv_cell_of_a_megabyte_leaves_the_limit_of_the_module_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "x" * 2**20 + ",1\n")
    before = csv.field_size_limit()
    assert len(TaskDataset.from_csv(path)[0]["text"]) == 2**20
    path.write_text('text,label\n"x,1\n')
    with pytest.raises(DataError):
        TaskDataset.from_csv(path)
    assert csv.field_size_limit() == before


JSONL_ERRORS = [
    (b"", "holds no rows"),
    (
        b'{"text": "a"\n{"text": "b", "label": 1}\n[1]\n',
        "2 lines cannot be used:\n  line 1 is no JSON: .*\n  line 3 holds",
    ),
    (b'[\n{"text": "a"}\n]', "line 1 is no JSON: .* one array, which TaskDataset.from_json reads"),
    (b'{"text": "a", "text": "b"}', "line 1 is no JSON: the key 'text' stands there more than once"),
    (b'{"text": "caf\xe9"}', "line 1 is not UTF-8"),
    (b'{"text": "a", "label": NaN}', "1 row with a missing label"),
    (b'{"text": "a", "target": Infinity}', "not finite"),
    (b'{"text": "\\ud800", "label": 1}', "lone surrogate"),
    (b'{"text": null, "label": 1}', "missing value"),
    (b"[" * 100_000, "nested too deeply|no JSON"),
    (b'{"text": "a", "label": ' + b"1" * 5000 + b"}", "no JSON"),
    (b"x\n" * 100, "100 lines cannot be used(.|\n)*and 95 more"),
]


@pytest.mark.parametrize(("content", "match"), JSONL_ERRORS, ids=[repr(content[:30]) for content, _ in JSONL_ERRORS])
def test_jsonl_files_that_cannot_be_used(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        TaskDataset.from_jsonl(path)


@pytest.mark.parametrize("reader", ["from_csv", "from_jsonl", "from_parquet", "from_folder"])
def test_paths_that_are_not_there(reader: str, tmp_path: Path) -> None:
    read = getattr(TaskDataset, reader)
    (tmp_path / "reviews.csv").write_text("text,label\na,1\n")
    (tmp_path / "folder").mkdir()
    wrong = tmp_path / ("foldr" if reader == "from_folder" else "review.csv")
    with pytest.raises(DataError, match=r"there is no such .*: did you mean '(reviews.csv|folder)'\?"):
        read(wrong)
    with pytest.raises(DataError, match="use TaskDataset"):
        read(tmp_path / ("reviews.csv" if reader == "from_folder" else "folder"))
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "nowhere" / "data")
    with pytest.raises(OptionError, match="expected a path"):
        read(3)


def test_other_files_that_cannot_be_used(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        TaskDataset.from_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="one folder per class"):
        TaskDataset.from_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "a.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"empty holds no .txt files(.|\n)*a.txt is not utf-8"):
        TaskDataset.from_folder(tmp_path)


@pytest.mark.parametrize("options", [{"delimiter": ""}, {"delimiter": ",,"}, {"delimiter": 1}, {"delimiter": "\n"}])
def test_delimiters_that_cannot_be(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    with pytest.raises(OptionError, match="expected one character"):
        TaskDataset.from_csv(tmp_path / "a.csv", **options)


@pytest.mark.parametrize("encoding", ["utf-9", "base64", 3, "utf-8\x00"])
def test_encodings_that_cannot_be(encoding: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    with pytest.raises(OptionError, match="no such encoding"):
        TaskDataset.from_csv(tmp_path / "a.csv", encoding=encoding)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.sampled_from(["a", "b", 0, 1, NAN, np.int64(1), np.float32(2), np.bool_(True), np.str_("x"), "\ud800"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=2), SCALARS, max_size=2))
NAMES = st.sampled_from(["text", "text_pair", "label", "labels", "target", "other", "Text", 3])
TABLES = st.one_of(
    st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=5),
    st.dictionaries(NAMES, st.one_of(VALUES, st.lists(VALUES, max_size=4)), max_size=4),
    st.lists(st.fixed_dictionaries({"text": st.text(max_size=5), "label": SCALARS}), min_size=1, max_size=5),
    st.lists(st.fixed_dictionaries({"text": st.text(max_size=5), "labels": VALUES}), min_size=1, max_size=5),
    st.lists(VALUES, max_size=3),
    VALUES,
)
KEYWORDS = st.dictionaries(
    st.sampled_from(["text", "text_pair", "label", "target", "task", "label_names", "texts"]),
    st.one_of(st.sampled_from(["text", "other", "text-classification", ("a", "b")]), VALUES),
    max_size=2,
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=TABLES, keywords=KEYWORDS)
def test_any_input_is_a_data_set_or_our_error(rows: Any, keywords: dict[str, Any]) -> None:
    try:
        data = TaskDataset(rows, **keywords)
    except SftlibError as error:
        str(error).encode("utf-8")  # can be printed anywhere
        return
    assert len(data) > 0
    assert len(data.fingerprint()) == 64
    assert data.map(dict).fingerprint() == data.fingerprint()
    assert (data + data).select(range(len(data))).fingerprint() == data.fingerprint()
    assert str(data.report(data)).encode("utf-8", "surrogatepass")
    assert repr(data)
    assert data._repr_html_()


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), st.text('ab,"\n\r;\x00é[]{}:0', max_size=60).map(str.encode)))
def test_any_file_is_a_data_set_or_our_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    for start, reader in [
        (b"text,label\n", TaskDataset.from_csv),
        (b'{"text": "a", "label": 1}\n', TaskDataset.from_jsonl),
    ]:
        path.write_bytes(start + content)
        with contextlib.suppress(SftlibError):
            assert len(reader(path)) > 0


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.sampled_from("xyz")), min_size=1, max_size=10))
def test_csv_round_trip(rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    assert TaskDataset.from_csv(path).column("text") == [text for text, _ in rows]


def test_many_bad_rows_are_found_in_bounded_memory() -> None:
    values: list[Any] = [random.Random(0).random() for _ in range(20_000)]
    with pytest.raises(DataError) as caught:
        TaskDataset({"text": values, "label": values})
    assert len(str(caught.value)) < 2000
