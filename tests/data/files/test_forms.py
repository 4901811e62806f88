"""Every form that rows come in gives the same data set."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib.data import TaskDataset
from sftlib.errors import DataError, LabelError

ROWS = [
    {"review": "Loved it.", "stars": 5, "id": 0},
    {"review": "Dull, and\nlong.", "stars": 1, "id": 1},
    {"review": "שלום  日本 🎬", "stars": 5, "id": 2},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
ROLES = {"text": "review", "label": "stars"}


def mappings(folder: Path) -> Any:
    return ROWS


def tuples(folder: Path) -> Any:
    return tuple(ROWS)


def generator(folder: Path) -> Iterator[Any]:
    return (row for row in ROWS)


def columns(folder: Path) -> Any:
    return COLUMNS


def arrays(folder: Path) -> Any:
    return {name: np.array(values) for name, values in COLUMNS.items()}


def pandas_frame(folder: Path) -> Any:
    return pytest.importorskip("pandas").DataFrame(ROWS, index=[7, 7, 9])


def pandas_columns(folder: Path) -> Any:
    series = pytest.importorskip("pandas").Series
    return {name: series(values) for name, values in COLUMNS.items()}


def polars_frame(folder: Path) -> Any:
    return pytest.importorskip("polars").DataFrame(ROWS)


def arrow_table(folder: Path) -> Any:
    return pytest.importorskip("pyarrow").table(COLUMNS)


def hub_dataset(folder: Path) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(ROWS)


def hub_stream(folder: Path) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(ROWS).to_iterable_dataset()


def hub_selection(folder: Path) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(ROWS[::-1]).select([2, 1, 0]).with_format("numpy")


FORMS: list[Callable[[Path], Any]] = [
    mappings,
    tuples,
    generator,
    columns,
    arrays,
    pandas_frame,
    pandas_columns,
    polars_frame,
    arrow_table,
    hub_dataset,
    hub_stream,
    hub_selection,
]


def expect_equal(data: TaskDataset, *, ids: bool = True) -> None:
    expected = TaskDataset(ROWS, **ROLES)
    assert data.fingerprint() == expected.fingerprint()
    assert data.label_names == (1, 5)
    assert [type(name) for name in data.label_names] == [int, int]
    assert data.roles == ROLES
    if ids:
        assert list(data) == list(expected)
        assert data.columns == ("text", "label", "id")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_data(form: Callable[[Path], Any], tmp_path: Path) -> None:
    expect_equal(TaskDataset(form(tmp_path), **ROLES))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv(tmp_path: Path, ending: str, encoding: str) -> None:
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(COLUMNS), lineterminator=ending)
        writer.writeheader()
        writer.writerows(ROWS)
    data = TaskDataset.from_csv(path, encoding="utf-16" if encoding == "utf-16" else "utf-8", **ROLES)
    expect_equal(data, ids=False)
    assert data.column("id") == ["0", "1", "2"]  # only labels and targets are converted


def test_csv_with_another_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("review;stars\na,b;1\nc;2\n")
    data = TaskDataset.from_csv(path, delimiter=";", text="review", label="stars")
    assert list(data) == [{"text": "a,b", "label": 1}, {"text": "c", "label": 2}]
    with pytest.raises(DataError, match="line 2 has 2 cells, the header has 1, only one: .*delimiter=';'"):
        TaskDataset.from_csv(path, text="review", label="stars")
    path.write_text("review;stars\na;1\n")
    with pytest.raises(DataError, match="no such column.*delimiter=';'"):
        TaskDataset.from_csv(path, text="review", label="stars")


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    lines = [json.dumps(row, ensure_ascii=row["id"] == 2) for row in ROWS]
    path.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    expect_equal(TaskDataset.from_jsonl(str(path), **ROLES))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "reviews.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(arrow_table(tmp_path), path)
    expect_equal(TaskDataset.from_parquet(path, **ROLES))


def test_folder(tmp_path: Path) -> None:
    for name, label, text in [("b", "pos", "Fine."), ("a", "pos", "Good."), ("x", "neg", "Bad.")]:
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{name}.txt").write_text(text)
    (tmp_path / ".hidden").mkdir()
    data = TaskDataset.from_folder(tmp_path)
    assert data.column("text") == ["Bad.", "Good.", "Fine."]
    assert data.column("label") == ["neg", "pos", "pos"]
    assert data.column("path") == ["neg/x.txt", "pos/a.txt", "pos/b.txt"]


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    expect_equal(TaskDataset.from_hub("someone/reviews", split="train", revision="v1", **ROLES))
    assert asked == [(("someone/reviews", None), {"split": "train", "revision": "v1"})]


def test_what_the_hub_raises_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **options: Any) -> Any:
        raise FileNotFoundError("no such data set")

    monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", load_dataset)
    with pytest.raises(DataError, match="FileNotFoundError: no such data set"):
        TaskDataset.from_hub("someone/reviews", split="train")


def hub_with_classes(labels: list[Any], names: list[str]) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(len(labels))], "label": labels}, features)


def test_class_label_keeps_its_declared_order() -> None:
    data = TaskDataset(hub_with_classes([1, 0, 1], ["world", "arts", "never"]))
    assert data.label_names == ("world", "arts", "never")
    assert data.column("label") == ["arts", "world", "arts"]
    stream = TaskDataset(hub_with_classes([1, 0, 1], ["world", "arts", "never"]).to_iterable_dataset())
    assert stream.fingerprint() == data.fingerprint()


def test_minus_one_of_a_class_label_is_missing() -> None:
    with pytest.raises(LabelError, match="1 row with a missing label: row 1"):
        TaskDataset(hub_with_classes([1, -1], ["a", "b"]))


def test_lists_of_class_labels() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["z", "y"]))}
    )
    data = TaskDataset(datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[0, 1], []]}, features))
    assert data.task == "multi-label-classification"
    assert data.label_names == ("z", "y")
    assert data.column("labels") == [["z", "y"], []]


def test_a_dict_of_splits_asks_for_one() -> None:
    splits = pytest.importorskip("datasets").DatasetDict({"train": hub_dataset(Path()), "test": hub_dataset(Path())})
    with pytest.raises(DataError, match="several splits .*'train', 'test'"):
        TaskDataset(splits, **ROLES)


def test_pandas_missing_values_and_types() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", None, "c"], "label": pandas.array([1, None, 2], dtype="Int64")})
    with pytest.raises(DataError) as caught:
        TaskDataset(frame)
    assert "role 'text': 1 row with a missing value: row 1" in str(caught.value)
    assert "role 'label': 1 row with a missing label: row 1" in str(caught.value)
    good = TaskDataset({"text": ["a", "b"], "label": pandas.Series(["x", "y"], dtype="category")})
    assert good.label_names == ("x", "y")


def test_duplicate_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["a", "b", 1]], columns=["text", "text", "label"])
    with pytest.raises(DataError, match="found more than once: 'text'"):
        TaskDataset(frame)


def test_labels_of_arrow_lists() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"], "labels": [np.array(["x", "y"], dtype=object), np.array([], object)]})
    assert TaskDataset(frame).column("labels") == [["x", "y"], []]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ("reviews.csv", "use TaskDataset.from_csv"),
        (Path("reviews.csv"), "use TaskDataset.from_csv"),
        (None, "found NoneType, expected a sequence of mappings"),
        (3, "found int, expected"),
        ([], "holds no rows"),
        ({}, "holds no rows"),
        ({"text": [], "label": []}, "holds no rows"),
        (iter([]), "holds no rows"),
        ([1, {"text": "a"}, "x"], "2 rows with .*|1 row with"),
        ({"text": ["a", "b"], "label": [1]}, "'text' has 2, 'label' has 1"),
        ({"text": "one", "label": 1}, "a single row is given as a list with one mapping"),
        ({"text": {"b", "a"}, "label": [1, 2]}, "in order"),
        ([{0: "a", 1: "b"}], "column names must be strings, found 0, 1"),
        (np.zeros((2, 2)), "found ndarray"),
    ],
)
def test_what_holds_no_rows(rows: object, match: str) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset(rows)


def test_ragged_rows_lack_values() -> None:
    rows = [{"text": "a", "label": 1}, {"label": 1, "note": "x"}, {"text": "c", "label": 2}]
    with pytest.raises(DataError, match="role 'text': 1 row with a missing value: row 1"):
        TaskDataset(rows)
    rows[1]["text"] = "b"
    assert [row["note"] for row in TaskDataset(rows)] == [None, "x", None]


def test_the_data_does_not_change_with_its_source() -> None:
    rows = [{"text": "a", "labels": ["x"]}]
    source = {"text": ["a"], "labels": [["x"]]}
    for data, change in [
        (TaskDataset(rows), lambda: rows[0].update(text="b")),
        (TaskDataset(source), lambda: source["text"].append("b")),
    ]:
        before = data.fingerprint()
        change()
        data[0]["labels"].append("y")
        source["labels"][0].append("z")
        rows[0]["labels"].append("z")
        assert data.fingerprint() == before


def test_importing_is_light() -> None:
    code = (
        "import sys, sftlib.data; "
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'polars', 'pyarrow', 'datasets', 'matplotlib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
