"""Rows, columns and what is made from them: indexing, select, filter, map, addition, fingerprint, display."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from sftlib.data import TaskDataset
from sftlib.errors import DataError, LabelError, OptionError, RoleError


def reviews(count: int = 6) -> TaskDataset:
    rows = [{"review": f"text {i}", "mood": "bad good".split()[i % 2], "id": i} for i in range(count)]
    return TaskDataset(rows, text="review", label="mood")


def test_rows_stand_under_role_names() -> None:
    data = reviews()
    assert len(data) == 6
    assert data[0] == {"text": "text 0", "label": "bad", "id": 0}
    assert data[-1] == data[5] == data[np.int64(5)]
    assert list(data) == [data[i] for i in range(6)]
    assert data.columns == ("text", "label", "id")
    assert data.column("label") == ["bad", "good"] * 3
    assert data.column("id") == list(range(6))
    assert dict(data.roles) == {"text": "review", "label": "mood"}
    assert (data.task, data.is_labelled, data.inputs, data.targets) == (
        "text-classification",
        True,
        ("text",),
        ("label",),
    )
    assert data.label_names == ("bad", "good")
    assert data.label_counts() == {"bad": 3, "good": 3}


def test_a_column_with_the_name_of_a_role_is_shadowed() -> None:
    data = TaskDataset([{"text": "old", "body": "new", "label": 1}], text="body")
    assert list(data) == [{"text": "new", "label": 1}]


def test_roles_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        reviews().roles["text"] = "other"  # type: ignore[index]


@pytest.mark.parametrize("key", [6, -7, 10**30])
def test_a_row_that_is_not_there(key: int) -> None:
    with pytest.raises(IndexError, match="there are 6 rows"):
        reviews()[key]


@pytest.mark.parametrize("key", ["text", 1.0, None, [1]])
def test_a_key_that_is_no_row(key: Any) -> None:
    with pytest.raises(OptionError, match="expected a whole number or a slice"):
        reviews()[key]


def test_slices_and_selections_share_the_columns() -> None:
    data = reviews()
    for chosen in [
        data[1:4],
        data.select([1, 2, 3]),
        data.select(range(1, 4)),
        data.select(np.array([1, 2, -3])),
        data.select(i for i in (1, 2, 3)),
        data.select([False, True, True, True, False, False]),
        data.select(np.array([0, 1, 1, 1, 0, 0], dtype=bool)),
        data.filter(lambda row: 1 <= row["id"] <= 3),
    ]:
        assert chosen.column("id") == [1, 2, 3]
        assert chosen.label_names == data.label_names
        assert chosen._store is data._store
    assert data[::-1].column("id") == [5, 4, 3, 2, 1, 0]
    assert data[::-1][0]["id"] == 5
    assert data.select([2, 2]).column("id") == [2, 2]


def test_an_empty_selection_is_a_data_set() -> None:
    for empty in (
        reviews().select([]),
        reviews()[:0],
        reviews().filter(lambda row: False),
        reviews().select(np.array([])),
    ):
        assert len(empty) == 0
        assert list(empty) == []
        assert empty.label_names == ("bad", "good")
        assert empty.map(dict).column("text") == []
        assert len(empty + empty) == 0
        assert empty.fingerprint() != reviews().fingerprint()
        assert empty.report().problems
        assert empty._repr_html_()


@pytest.mark.parametrize(
    ("indices", "error", "match"),
    [
        ([6], IndexError, "position 6 is outside"),
        ([-7], IndexError, "position -7 is outside"),
        ([0.5], OptionError, "whole numbers"),
        ([True, 1], OptionError, "whole numbers"),
        ([[0], [1]], OptionError, "flat sequence"),
        ([[0], [1, 2]], OptionError, "flat sequence"),
        (["a"], OptionError, "whole numbers"),
        ("ab", OptionError, "whole numbers"),
        (3, OptionError, "whole numbers"),
        ([10**30], OptionError, "whole numbers"),
        ([True], DataError, "the mask has 1 values, the data 6 rows"),
    ],
)
def test_wrong_selections(indices: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        reviews().select(indices)


def test_map_replaces_rows() -> None:
    data = reviews().map(lambda row: {**row, "text": row["text"].upper(), "long": True})
    assert data[1] == {"text": "TEXT 1", "label": "good", "id": 1, "long": True}
    assert dict(data.roles) == {"text": "text", "label": "label"}


def test_map_keeps_label_names_while_they_hold() -> None:
    declared = TaskDataset({"text": ["a", "b"], "label": ["y", "x"]}, label_names=["y", "x", "w"])
    assert declared.map(dict).label_names == ("y", "x", "w")
    assert declared.map(lambda row: row | {"label": "x"}).label_names == ("y", "x", "w")
    assert declared.map(lambda row: row | {"label": row["label"] + "!"}).label_names == ("x!", "y!")
    numbers = TaskDataset({"text": ["a", "b"], "label": [0, 1]})
    assert [type(name) for name in numbers.map(lambda row: row | {"label": bool(row["label"])}).label_names] == [
        bool
    ] * 2


def test_map_can_drop_the_labels_and_reports_bad_rows() -> None:
    assert not reviews().map(lambda row: {"text": row["text"]}).is_labelled
    with pytest.raises(DataError, match="2 rows with a missing value: row 0, row 1"):
        reviews().map(lambda row: row | {"text": None if row["id"] < 2 else "x"})
    with pytest.raises(DataError, match="instead of a mapping"):
        reviews().map(lambda row: row["text"])


def test_map_gives_no_role_to_a_column_that_had_none() -> None:
    data = TaskDataset([{"text": "a", "text_pair": "b", "label": 1}], text_pair=None)
    assert data.inputs == ("text",)
    assert data.map(dict).inputs == ("text",)
    assert data.map(dict)[0] == {"text": "a", "label": 1, "text_pair": "b"}


def test_addition() -> None:
    data = reviews()
    both = data[:2] + data[2:].map(lambda row: {"text": row["text"], "label": row["label"], "note": "n"})
    assert both.column("text") == data.column("text")
    assert both.column("note") == [None, None, "n", "n", "n", "n"]
    assert both.column("id") == [0, 1, None, None, None, None]
    assert both.label_names == data.label_names
    assert both.fingerprint() == data.fingerprint()


def test_addition_joins_label_names() -> None:
    def named(names: list[Any]) -> TaskDataset:
        return TaskDataset({"text": ["a"], "label": names[:1]}, label_names=names)

    assert (named(["z", "y"]) + named(["z", "y"])).label_names == ("z", "y")
    assert (named(["z", "y"]) + named(["y", "x"])).label_names == ("x", "y", "z")
    with pytest.raises(LabelError, match="bool and int"):
        named([1, 0]) + named([True, False])


def test_addition_of_other_things() -> None:
    with pytest.raises(DataError, match="one task with the same roles"):
        reviews() + TaskDataset({"text": ["a"], "target": [1]})
    with pytest.raises(DataError, match="one task with the same roles"):
        reviews() + TaskDataset({"text": ["a"], "text_pair": ["b"], "label": ["good"]})
    with pytest.raises(TypeError):
        reviews() + "rows"  # type: ignore[operator]


def test_fingerprint_sees_what_matters() -> None:
    base = {"text": ["a", "bc"], "label": ["x", "y"], "other": [1, 2]}
    first = TaskDataset(base).fingerprint()
    assert len(first) == 64
    assert TaskDataset(base | {"other": [3, 4]}).fingerprint() == first
    assert TaskDataset(base | {"more": [3, 4]}).fingerprint() == first
    changed = [
        TaskDataset(base | {"text": ["ab", "c"]}),
        TaskDataset(base | {"text": ["bc", "a"]}),
        TaskDataset(base | {"label": ["y", "x"]}),
        TaskDataset(base | {"label": [0, 1]}),
        TaskDataset(base | {"label": [False, True]}),
        TaskDataset({"text": base["text"]}),
        TaskDataset(base, label_names=["y", "x"]),
        TaskDataset(base)[:1],
        TaskDataset({"text": base["text"], "labels": [["x"], ["y"]]}),
    ]
    prints = {data.fingerprint() for data in changed}
    assert len(prints) == len(changed)
    assert first not in prints


def test_fingerprint_frames_lists() -> None:
    def print_of(labels: list[list[str]]) -> str:
        return TaskDataset({"text": ["a", "b"], "labels": labels}, label_names=["x", "y"]).fingerprint()

    assert print_of([["x", "y"], []]) != print_of([["x"], ["y"]])


def test_column_of_an_unknown_role() -> None:
    with pytest.raises(RoleError, match="did you mean 'label'"):
        reviews().column("labl")


def test_display() -> None:
    data = TaskDataset({"body": ["<script>", "b"], "label": ["<b>", "c"]}, text="body")
    assert repr(data) == (
        "TaskDataset(task='text-classification', rows=2, roles=(text='body', label='label'), label_names=('<b>', 'c'))"
    )
    html = data._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "text ← body" in html
    many = TaskDataset({"text": list("abcdefghijkl"), "label": range(12)})
    assert "12 in all" in repr(many)
    assert repr(TaskDataset({"text": ["a"]})) == "TaskDataset(task=None, rows=1, roles=(text='text'), unlabelled)"


def test_a_data_set_of_a_data_set_and_copies() -> None:
    data = reviews()
    assert TaskDataset(data).fingerprint() == data.fingerprint()
    assert list(copy.deepcopy(data)) == list(data)
    assert copy.deepcopy(data)._store.assignment == data._store.assignment


@pytest.mark.parametrize("absent", ["target", "tags", "labels", "image", "text_negative"])
def test_a_role_of_another_task_may_be_said_not_to_be_there(absent: str) -> None:
    rows = {"text": ["a", "b"], "label": ["x", "y"], absent: [1, 2]}
    for task in (None, "text-classification"):
        data = TaskDataset(rows, task=task, **{absent: None})
        assert data.task == "text-classification"
        assert data[0][absent] == 1
    with pytest.raises(RoleError, match="has no role or option 'txt'"):
        TaskDataset(rows, txt=None)
