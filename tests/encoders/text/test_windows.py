"""Windows over long rows: nothing is lost, every place is owned once, by the window where it has most context."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sftlib.encoders.encoded import Ragged
from sftlib.encoders.text.windows import cut_windows, framed, settled_stride


def random_rows(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 60, size=20)
    rooms = rng.integers(1, 17, size=20)
    strides = rng.integers(0, rooms // 2 + 1)
    return lengths, rooms, strides, rng.random(int(lengths.sum())) < 0.4


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("with_breaks", [False, True])
def test_every_place_is_owned_once_where_it_has_most_context(seed: int, with_breaks: bool) -> None:
    lengths, rooms, strides, breaks = random_rows(seed)
    found = cut_windows(lengths, rooms, strides, breaks if with_breaks else None)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    owned = [place for first, last in zip(found.firsts, found.lasts, strict=True) for place in range(first, last)]
    assert owned == list(range(int(lengths.sum())))
    assert (np.diff(found.owners) >= 0).all()
    assert (found.lengths <= rooms[found.owners]).all()
    for row in range(20):
        mine = np.flatnonzero(found.owners == row)
        spans = [(int(found.starts[w]), int(found.ends[w])) for w in mine]
        assert spans[0][0] == offsets[row]
        assert spans[-1][1] == offsets[row + 1]
        if lengths[row] <= rooms[row]:
            assert len(spans) == 1
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= strides[row]
        for number, w in enumerate(mine):
            for place in range(found.firsts[w], found.lasts[w]):
                contexts = [context(place, span, offsets[row], offsets[row + 1]) for span in spans]
                # The middle of what two windows share may lie half a place off.
                assert contexts[number] >= max(contexts) - 1


def context(place: int, span: tuple[int, int], begin: int, end: int) -> float:
    """Places on the nearer side; the ends of the row cut nothing off."""
    if not span[0] <= place < span[1]:
        return -np.inf
    left = np.inf if span[0] == begin else place - span[0]
    right = np.inf if span[1] == end else span[1] - 1 - place
    return float(min(left, right))


def test_a_window_begins_with_a_word_where_it_can() -> None:
    breaks = np.array([1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0], bool)
    found = cut_windows(np.array([12]), np.array([6]), np.array([1]), breaks)
    assert found.starts.tolist() == [0, 4, 6]
    giant = cut_windows(np.array([12]), np.array([4]), np.array([1]), np.array([1, *[0] * 11], bool))
    assert giant.starts.tolist() == [0, 3, 6, 9]


def test_strides() -> None:
    rooms = np.array([20, 9, 1])
    assert settled_stride(None, rooms).tolist() == [5, 2, 0]
    assert settled_stride(6, rooms).tolist() == [6, 4, 0]
    assert settled_stride(0, rooms).tolist() == [0, 0, 0]


def test_frames() -> None:
    bodies = Ragged.from_lists([[5], [6, 7]])
    assert framed(bodies, np.array([], np.int32), np.array([], np.int32)).values.tolist() == [5, 6, 7]
    different = framed(bodies, Ragged.from_lists([[1, 2], []]), np.array([9]))
    assert [different[row].tolist() for row in range(2)] == [[1, 2, 5, 9], [6, 7, 9]]
