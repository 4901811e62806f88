"""Flat token arrays against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.encoders.encoded import Encoded, Ragged

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
    encoded = Encoded({"input_ids": ids}, {}, np.array([2, 9, 1]))
    assert len(encoded) == 3
    assert encoded.truncated.tolist() == [1]
    assert encoded.lengths.tolist() == [2, 2, 1]
