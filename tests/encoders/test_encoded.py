"""Flat token arrays against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.encoders.encoded import Encoded, Filed, Ragged

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=12), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_rows_come_back(rows: list[list[int]]) -> None:
    ragged = Ragged.from_lists(rows)
    assert len(ragged) == len(rows)
    assert [ragged[i].tolist() for i in range(len(rows))] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert len(ragged.values) == sum(map(len, rows))


@settings(max_examples=100, deadline=None)
@given(ROWS, st.data())
def test_padding_fills_up_on_the_right(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    width = max(len(rows[i]) for i in chosen)
    found = Ragged.from_lists(rows).padded(np.array(chosen), fill=-7)
    assert found.shape == (len(chosen), width)
    assert found.tolist() == [rows[i] + [-7] * (width - len(rows[i])) for i in chosen]


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_parts_are_put_together(parts: list[list[list[int]]]) -> None:
    whole = Ragged.concatenate([Ragged.from_lists(part) for part in parts])
    rows = [row for part in parts for row in part]
    assert [whole[i].tolist() for i in range(len(whole))] == rows


def test_no_rows() -> None:
    empty = Ragged.from_lists([])
    assert len(empty) == 0
    assert empty.lengths.tolist() == []


@pytest.mark.parametrize("bits", [np.int32, np.int64])
def test_the_type_is_the_one_asked_for(bits: type[np.signedinteger]) -> None:
    assert Ragged.from_lists([[1, 2]], dtype=bits).values.dtype == bits


def test_truncated_rows_are_known() -> None:
    ids = Ragged.from_lists([[1, 2], [3, 4], [5]])
    encoded = Encoded({"input_ids": ids}, {}, cut=np.array([0, 7, 0]))
    assert len(encoded) == 3
    assert encoded.truncated.tolist() == [1]
    assert encoded.cost.tolist() == [2, 2, 1]


def columns(dtype: str = "<f4") -> Encoded:
    """A ragged column of boxes, a fixed one of numbers, and one that refers to files."""
    boxes = Ragged(np.arange(12, dtype=dtype).reshape(3, 4) / 7, np.array([0, 1, 1, 3]))
    files = Filed(["a", "b", "c"], str.encode)
    return Encoded({"boxes": boxes, "size": np.array([[1.5], [2.5], [3.5]]), "file": files}, {})


def test_columns_of_any_type_and_shape_are_taken() -> None:
    part = columns().take(np.array([2, 0]))
    assert part.inputs["boxes"].values.shape == (3, 4)
    assert np.array_equal(part.inputs["boxes"][0], columns().inputs["boxes"][2])
    assert part.inputs["size"].tolist() == [[3.5], [1.5]]
    assert [part.inputs["file"][row] for row in range(2)] == ["c", "a"]
    assert part.cost.tolist() == [2, 1]  # the lengths of the first ragged column


def test_digests_are_over_the_real_bytes() -> None:
    """A change below 1 in a float, another type, and another content of a file are all told apart."""
    whole = columns()
    digests, identities = {whole.digest()}, {whole.identity(0)}
    nudged = columns()
    nudged.inputs["boxes"].values[0, 1] += 1e-6
    digests.add(nudged.digest())
    identities.add(nudged.identity(0))
    digests.add(columns("<f8").digest())
    other = columns()
    other.inputs["file"] = Filed(["a", "b", "c"], lambda name: {"a": b"9"}.get(name, name.encode()))
    digests.add(other.digest())
    identities.add(other.identity(0))
    assert len(digests) == 4
    assert len(identities) == 3
    assert other.identity(1) == whole.identity(1)
    assert columns().digest() == whole.digest()
    widths = (Ragged.from_lists([[1, 2]], dtype=kind) for kind in (np.int8, np.int32, np.int64))
    assert len({Encoded({"input_ids": ids}, {}).digest() for ids in widths}) == 1


def test_what_identifies_a_row_is_worked_out_once_for_everything_taken_from_it() -> None:
    asked: list[str] = []

    def content(name: str) -> bytes:
        asked.append(name)
        return name.encode()

    def made() -> Encoded:
        ids = Ragged.from_lists([[1], [2, 3], [4], [5, 6]])
        return Encoded({"input_ids": ids, "file": Filed(["a", "b", "c", "d"], content)}, {})

    expected = [made().identity(row) for row in range(4)]
    assert len(set(expected)) == 4
    asked.clear()
    whole = made()
    part = whole.take(np.array([3, 1]))
    assert [part.identity(row) for row in (0, 1, 0)] == [expected[3], expected[1], expected[3]]
    again = part.with_targets({"target": np.zeros(2)}).take(np.array([1, 0, 1]))
    assert [again.identity(row) for row in range(3)] == [expected[1], expected[3], expected[1]]
    assert [whole.identity(row) for row in range(4)] == expected
    assert sorted(asked) == ["a", "b", "c", "d"]
