"""Policies for each kind of problem: what is left out, what is refused, and that it is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib import TaskDataset
from sftlib.data.files import spool
from sftlib.data.look.duplicates import normalised
from sftlib.errors import DataError, OptionError

TEXTS = ["Good.", "Good.", " good. ", "", "Bad.", "odd", "ODD", "leaked", "fine"]
LABELS = [1, 1, 1, 0, 0, 0, 1, 1, 0]
KEEP = dict.fromkeys(("conflicts", "leakage", "blank", "duplicates", "normalised_duplicates"), "keep")


def data() -> TaskDataset:
    return TaskDataset({"text": TEXTS, "label": LABELS})


def other() -> TaskDataset:
    return TaskDataset({"text": ["Leaked", "elsewhere"], "label": [0, 1]})


@pytest.mark.parametrize(
    ("kind", "gone"),
    [("conflicts", [5, 6]), ("leakage", [7]), ("blank", [3]), ("duplicates", [1]), ("normalised_duplicates", [2, 6])],
)
def test_each_kind_by_itself(kind: str, gone: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sftlib"):
        cleaned = data().clean(other(), **{**KEEP, kind: "drop"})
    assert cleaned.column("text") == [text for row, text in enumerate(TEXTS) if row not in gone]
    (said,) = [record.getMessage() for record in caplog.records if "(left out)" in record.getMessage()]
    assert all(str(row) in said for row in gone)
    assert len(caplog.records) == 5  # kept ones are counted too
    with pytest.raises(DataError, match=f'row.*{gone[0]}.*clean\\({kind}="drop"\\)'):
        data().clean(other(), **{**KEEP, kind: "error"})


def test_what_stays_has_no_problem_left() -> None:
    cleaned = data().clean(other(), conflicts="drop", leakage="drop", normalised_duplicates="drop")
    assert cleaned.column("text") == ["Good.", "Bad.", "fine"]
    report = cleaned.report(other())
    assert report.duplicates.count == report.normalised_duplicates.count == report.conflicts.count == 0
    assert not report.blank
    assert report.leakage is not None
    assert report.leakage.exact.count == report.leakage.normalised.count == 0


def test_all_errors_come_at_once() -> None:
    with pytest.raises(DataError) as caught:
        data().clean(other())
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("2 rows say what another row says, with another target: row 5, row 6")
    assert lines[1].startswith("1 row stands in the other data set too: row 7")


def test_words_that_are_none() -> None:
    with pytest.raises(OptionError, match="duplicates='dorp'.*drop"):
        data().clean(duplicates="dorp")
    with pytest.raises(OptionError, match="TaskDataset"):
        data().clean([1])  # type: ignore[arg-type]


def test_a_clean_data_set_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    rows = TaskDataset({"text": ["a", "b"], "label": [0, 1]})
    assert rows.clean().fingerprint() == rows.fingerprint()
    assert not caplog.records


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "A", "a ", "b", "", " ", "c"]), st.integers(0, 1)), min_size=1))
def test_against_a_plain_search(rows: list[tuple[str, int]]) -> None:
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    loose = [normalised(text) for text in texts]
    twins = [{labels[j] for j in range(len(rows)) if loose[j] == loose[i] and loose[i]} for i in range(len(rows))]
    expected = [
        i
        for i in range(len(rows))
        if loose[i] and len(twins[i]) == 1 and loose[i] not in loose[:i]  # neither blank, contradicted, nor repeated
    ]
    found = TaskDataset({"text": texts, "label": labels}).clean(conflicts="drop", normalised_duplicates="drop")
    assert found.column("text") == [texts[i] for i in expected]
    assert np.array_equal(found.positions, np.array(expected, np.int64))


BAD = {"text": ["a", None, "c", 4, "e", "\ud800"], "label": ["x", "y", "z", "x", None, "y"], "id": [0, 1, 2, 3, 4, 5]}


def test_rows_that_no_role_can_use_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError):
        TaskDataset(BAD)
    with caplog.at_level(logging.WARNING, "sftlib"):
        kept = TaskDataset(BAD, on_invalid="drop")
    assert list(kept) == [{"text": "a", "label": "x", "id": 0}, {"text": "c", "label": "z", "id": 2}]
    assert kept.label_names == ("x", "z")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.splitlines() == [
        "4 of 6 rows left out:",
        "  role 'text': 1 row with a missing value: row 1",
        "  role 'text': 1 row with an int instead of a string: row 3 (4)",
        "  role 'text': 1 row with a lone surrogate, which is no character: row 5 ('\\ud800')",
        "  role 'label': 1 row with a missing label: row 4",
    ]


def test_labels_that_are_not_declared_are_found_beside_others(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"(?s)label.*row 4.*not in label_names: row 2"):
        TaskDataset(BAD, label_names=["x", "y"])
    kept = TaskDataset(BAD, label_names=["x", "y"], on_invalid="drop")
    assert kept.column("id") == [0]
    assert kept.label_names == ("x", "y")
    assert "row 2 ('z'" in caplog.text


def test_what_two_roles_disagree_on_is_left_out() -> None:
    kept = TaskDataset({"tokens": [["a"], ["b", "c"], []], "tags": [["O"], ["O"], []]}, on_invalid="drop")
    assert kept.column("tokens") == [["a"]]


def test_nothing_is_left_out_where_nothing_would_stay() -> None:
    with pytest.raises(DataError, match="2 rows with a missing value"):
        TaskDataset({"text": [None, None], "label": [0, 1]}, on_invalid="drop")
    with pytest.raises(OptionError, match="on_invalid='keep'"):
        TaskDataset(BAD, on_invalid="keep")
    with pytest.raises(OptionError, match="on_invalid"):
        TaskDataset(BAD, on_invalit="drop")


def test_every_reader_leaves_them_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From memory and from a file that stays on disk."""
    rows = zip(*BAD.values(), strict=True)
    lines = [{"text": text, "label": label, "score": number / 3} for text, label, number in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "rows.json").write_text(json.dumps(lines))
    (tmp_path / "rows.csv").write_text("text,label,score\na,x,0\n,,1\nc,z,2\n")
    for limit in (2**26, 0):
        monkeypatch.setattr(spool, "FILE_LIMIT", limit)
        read = {
            "jsonl": TaskDataset.from_jsonl(tmp_path / "rows.jsonl", on_invalid="drop"),
            "json": TaskDataset.from_json(tmp_path / "rows.json", on_invalid="drop"),
            "csv": TaskDataset.from_csv(tmp_path / "rows.csv", on_invalid="drop"),
        }
        for form, data in read.items():
            assert data.column("text") == ["a", "c"], form
            assert data.column("label") == ["x", "z"], form
        numbers = TaskDataset.from_jsonl(tmp_path / "rows.jsonl", target="score", label=None, on_invalid="drop")
        assert numbers.column("target") == [0.0, 2 / 3, 4 / 3]


VALUES = st.sampled_from(["a", "b", None, 3, float("nan"), b"c", 1.5, True, " "])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1))
def test_exactly_the_rows_that_an_error_names_are_left_out(rows: list[tuple[object, object]]) -> None:
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows], "row": [*range(len(rows))]}
    try:
        kept = TaskDataset(columns, on_invalid="drop")
    except DataError:
        with pytest.raises(DataError):
            TaskDataset(columns)
        return
    assert all(isinstance(row["text"], str) and type(row["label"]) is type(kept[0]["label"]) for row in kept)
    chosen = kept.column("row")
    again = TaskDataset({name: [values[row] for row in chosen] for name, values in columns.items()})
    assert list(again) == list(kept)
    assert again.label_names == kept.label_names
    for row in set(range(len(rows))) - set(chosen):  # none of them could have stayed
        with pytest.raises(DataError):
            TaskDataset({name: [values[row] for row in [*chosen, row]] for name, values in columns.items()})
