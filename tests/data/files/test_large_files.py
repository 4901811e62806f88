"""Files beyond a size stay on disk: the same data sets, the same messages, and memory that does not grow with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.data import TaskDataset
from sftlib.data.columns import Coded, Column, Joined, Nothing, View
from sftlib.data.files import spool
from sftlib.errors import DataError, LabelError

ROWS: list[dict[str, Any]] = [
    {"text": f"Row {i % 70} says\n“hello”, 日本 🎬" if i % 9 else "", "label": "abc"[i % 3], "score": i / 7, "id": i}
    for i in range(200)
]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftlib.data.files.separated.BLOCK", 7)
    monkeypatch.setattr(spool, "BLOCK", 7)


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(folder: Path, form: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif form == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=30)
    return path


def read(path: Path, limit: int, **roles: Any) -> TaskDataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "FILE_LIMIT", limit)
        data: TaskDataset = getattr(TaskDataset, f"from_{path.suffix[1:]}")(path, **roles)
    return data


def both(path: Path, **roles: Any) -> tuple[TaskDataset, TaskDataset]:
    return read(path, 2**40, **roles), read(path, 0, **roles)


def on_disk(data: TaskDataset) -> set[str]:
    return {name for name, column in {**data._store.values, **data._store.others}.items() if isinstance(column, Column)}


def test_a_large_file_is_the_same_data_set(tmp_path: Path, form: str) -> None:
    small, large = both(write(tmp_path, form, ROWS), text="text", label="label")
    assert on_disk(small) == set()
    assert on_disk(large) == {"text", "label", "score", "id"}
    assert repr(large) == repr(small)
    assert large._repr_html_() == small._repr_html_()
    assert list(large) == list(small)
    assert [large[i] for i in (0, -1, 57)] == [small[i] for i in (0, -1, 57)]
    assert large.fingerprint() == small.fingerprint()
    assert large.label_counts() == small.label_counts()
    for name in small.columns:
        assert large.column(name) == small.column(name) == list(large.view(name)) == large.view(name)[:]


def test_what_is_made_of_it_is_the_same(tmp_path: Path, form: str) -> None:
    small, large = both(write(tmp_path, form, ROWS), text="text", label="label")
    for one, other in zip(small.split(0.7, 0.3, seed=3), large.split(0.7, 0.3, seed=3), strict=True):
        assert list(one) == list(other)
        assert on_disk(other)
    assert large.report(large[50:80]) == small.report(small[50:80])
    assert list(large[::-3]) == list(small[::-3])
    kept = large.filter(lambda row: row["label"] == "a")
    assert list(kept) == list(small.filter(lambda row: row["label"] == "a"))
    assert list(large[5:9] + kept) == list(small[5:9] + kept)
    assert on_disk(large[5:9] + kept)
    assert list(large.map(lambda row: {**row, "text": "x"}))[3]["text"] == "x"


@pytest.mark.parametrize(
    "roles",
    [{"text": "text", "target": "score"}, {"text": "text", "label": "id"}, {"text": "text", "text_pair": "label"}],
    ids=lambda roles: "-".join(roles),
)
def test_every_kind_of_role(tmp_path: Path, form: str, roles: dict[str, str]) -> None:
    more = {} if "label" in roles else {"label": None}
    small, large = both(write(tmp_path, form, ROWS), **roles, **more)
    assert list(large) == list(small)
    assert large.label_names == small.label_names
    assert large.report() == small.report()
    assert {type(value) for row in large for value in row.values()} == {
        type(value) for row in small for value in row.values()
    }


def test_lists_of_labels(tmp_path: Path) -> None:
    rows = [{"text": str(i), "labels": ["a", "b", "a"][: i % 4], "more": {"deep": [i, None]}} for i in range(30)]
    for form in ("jsonl", "parquet"):
        small, large = both(write(tmp_path, form, rows))
        assert list(large) == list(small)
    path = tmp_path / "lists.csv"
    path.write_text("text,labels\n" + "".join(f"{i},{['[]', chr(34) + '[1, 2]' + chr(34)][i % 2]}\n" for i in range(9)))
    small, large = both(path)
    assert list(large) == list(small)
    assert large.label_names == (1, 2)
    row = large[1]
    row["labels"].append(3)  # what was handed out is the user's
    assert large[1]["labels"] == large[3]["labels"] == [1, 2]


def test_keys_that_come_and_go(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1, **({f"key {i // 20}": i} if i % 2 else {})} for i in range(90)]
    small, large = both(write(tmp_path, "jsonl", rows))
    assert large.columns == small.columns
    assert list(large) == list(small)


BAD: list[dict[str, Any]] = [
    {"text": None, "label": "a", "score": 1.0},
    {"text": "b", "label": None, "score": None},
    {"text": "c", "label": " ", "score": float("inf")},
]


@pytest.mark.parametrize("roles", [{"label": "label"}, {"target": "score"}], ids=["label", "target"])
def test_bad_rows_are_found_with_the_same_words(tmp_path: Path, form: str, roles: dict[str, str]) -> None:
    rows = [{"text": "good", "label": "a", "score": 0.5} for _ in range(20)]
    path = write(tmp_path, form, [*rows, *BAD, *rows, BAD[1]])
    if "target" in roles:
        roles = {**roles, "label": None}  # type: ignore[dict-item]
    messages = []
    for limit in (2**40, 0):
        with pytest.raises((DataError, LabelError)) as caught:
            read(path, limit, text="text", **roles)
        messages.append((type(caught.value), str(caught.value)))
    assert messages[0] == messages[1]
    assert "row 21" in messages[0][1]


@pytest.mark.parametrize("cells", ["1 2 x", "007 1", "true False", "1 2", "1.5 2", " 1"])
def test_labels_of_cells_are_read_by_all_of_them(tmp_path: Path, cells: str) -> None:
    labels = cells.split(" ")
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"t{i},{labels[i % len(labels)]}\n" for i in range(30)))
    found: list[object] = []
    for limit in (2**40, 0):
        try:
            found.append([(type(label), label) for label in read(path, limit).column("label")])
        except LabelError as error:
            found.append(str(error))
    assert found[0] == found[1]


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(
        st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=2), st.lists(st.just(1))),
        min_size=1,
        max_size=20,
    )
)
def test_any_json_in_a_label_column(labels: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [{"text": "t", "label": label} for label in labels]
    path = write(tmp_path_factory.mktemp("any"), "jsonl", rows)
    found: list[object] = []
    for limit in (2**40, 0):
        try:
            found.append([(type(label), label) for label in read(path, limit).column("label")])
        except DataError as error:
            found.append((type(error), str(error)))
    assert found[0] == found[1]


def test_bad_lines_end_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": 1}\n' * 20 + "[1]\nno\n")
    with pytest.raises(DataError, match="2 lines cannot be used"):
        read(path, 0)
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a,1\n" * 20 + "a\n" + "b,2\n" * 20)
    with pytest.raises(DataError, match="line 22 has 1 cell"):
        read(path, 0)
    path.write_text("text,label\n")
    with pytest.raises(DataError, match="holds no rows"):
        read(path, 0)


def test_values_that_json_does_not_know_stay_in_parquet(tmp_path: Path) -> None:
    import datetime

    day = datetime.date(2024, 2, 29)
    rows = [{"text": f"t{i}", "label": i % 2, "day": day, "raw": b"\x00\xff"} for i in range(40)]
    small, large = both(write(tmp_path, "parquet", rows))
    assert list(large) == list(small)
    assert large[3]["day"] == day


def test_categories_of_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"] * 30, "label": pandas.Categorical(["x", "y"] * 30)})
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=7)
    small, large = both(tmp_path / "rows.parquet")
    assert list(large) == list(small)


def test_nothing_is_left_on_disk(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, form, ROWS)
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    data = read(path, 0, text="text", label="label")
    path.unlink()  # it is not read again
    assert len(data.column("text")) == 200
    assert list(place.iterdir()) == []


class Watched(Column):
    """A column that notes how many values were asked for at once."""

    def __init__(self, count: int) -> None:
        self.count, self.most = count, 0

    def __len__(self) -> int:
        return self.count

    def take(self, rows: np.ndarray) -> list[Any]:
        self.most = max(self.most, len(rows))
        return [f"text {row % 9_000}" for row in rows.tolist()]


def test_nothing_asks_for_a_whole_column() -> None:
    data = TaskDataset({"text": ["a"] * 10_000, "label": [0, 1] * 5_000})
    texts = Watched(10_000)
    data._store.values["text"] = texts  # type: ignore[index]
    data.split(0.5, 0.5)
    data.report(data[:3])
    data.fingerprint()
    data.digest(["text"])
    assert 0 < texts.most <= 4096


def columns() -> Iterator[tuple[Column, list[Any]]]:
    yield View(["a", "b", "c"], np.array([2, 0])), ["c", "a"]
    yield View(View(["a", "b", "c"], np.array([2, 0])), np.array([1, 1])), ["a", "a"]
    yield Joined(["a"], Coded(np.array([1, 0]), ["x", "y"])), ["a", "y", "x"]
    yield Nothing(2), [None, None]
    yield Coded(np.array([1, 0, 1]), [[1], [2]]), [[2], [1], [2]]


@pytest.mark.parametrize(("column", "values"), list(columns()))
def test_columns_are_sequences(column: Column, values: list[Any]) -> None:
    assert len(column) == len(values)
    assert list(column) == column[:] == values
    assert [column[i] for i in range(-len(values), len(values))] == values * 2
    assert column[::-1] == values[::-1]
    assert column.take(np.array([1, 0])) == [values[1], values[0]]
    with pytest.raises(IndexError):
        column[len(values)]
