"""Splits are a partition, of the right sizes, stratified, the same everywhere, and never part identical inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.data import TaskDataset
from sftlib.errors import DataError, OptionError

SHARES = st.lists(st.integers(1, 10), min_size=1, max_size=4).map(lambda parts: [p / sum(parts) for p in parts])


def numbered(labels: list[object], texts: list[str] | None = None) -> TaskDataset:
    texts = texts or [f"row {i}" for i in range(len(labels))]
    return TaskDataset({"text": texts, "label": labels, "id": list(range(len(labels)))})


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=80),
    shares=SHARES,
    seed=st.integers(0, 2**40),
    stratify=st.booleans(),
)
def test_a_split_is_a_partition(rows: list[tuple[int, int]], shares: list[float], seed: int, stratify: bool) -> None:
    data = numbered([label for _, label in rows], [f"text {text}" for text, _ in rows])
    try:
        parts = data.split(*shares, seed=seed, stratify=stratify)
    except DataError:  # a side would be empty
        return
    ids = [part.column("id") for part in parts]
    assert sorted(row for part in ids for row in part) == list(range(len(rows)))
    assert all(part == sorted(part) for part in ids)
    texts = [set(part.column("text")) for part in parts]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert all(part.label_names == data.label_names for part in parts)
    largest = max(Counter(data.column("text")).values())
    for part, total in zip(parts, np.cumsum(shares) - np.cumsum([0, *shares[:-1]]), strict=True):
        assert abs(len(part) - total * len(rows)) <= largest + 1e-6


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=6), shares=SHARES, seed=st.integers(0, 1000))
def test_each_class_keeps_its_share(counts: list[int], shares: list[float], seed: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    order = np.random.default_rng(seed).permutation(len(labels))
    data = numbered([labels[i] for i in order])
    try:
        parts = data.split(*shares, seed=seed)
    except DataError:
        return
    for part, share in zip(parts, shares, strict=True):
        found = part.label_counts()
        for label, count in enumerate(counts):
            # One for the rounding of the class itself, and its part of what the other classes round.
            assert abs(found[label] - share * count) <= 2 + 2 * len(counts) * count / len(labels)


def test_sizes_are_exact_without_duplicates() -> None:
    data = numbered([i % 7 for i in range(1000)])
    for seed in range(20):
        parts = data.split(0.8, 0.1, 0.1, seed=seed)
        assert [len(part) for part in parts] == [800, 100, 100]
        assert all(abs(count - 100 / 7) <= 1.5 for count in parts[1].label_counts().values())


def test_a_class_with_one_row_is_trained_on() -> None:
    data = numbered([0] * 50 + [1] * 49 + [2])
    for seed in range(20):
        assert data.split(0.5, 0.5, seed=seed)[0].label_counts()[2] == 1


def test_seeds_differ_and_repeat() -> None:
    data = numbered([i % 2 for i in range(100)])
    first, again, other = (data.split(0.5, 0.5, seed=seed)[0].column("id") for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_pairs_are_identical_only_as_pairs() -> None:
    data = TaskDataset({"text": ["a"] * 20, "text_pair": list("bc") * 10, "label": [0, 1] * 10})
    left, right = data.split(0.5, 0.5)
    assert {len(set(part.column("text_pair"))) for part in (left, right)} == {1}


def test_regression_and_unlabelled_data_split_too() -> None:
    texts = [f"row {i}" for i in range(10)]
    for data in (TaskDataset({"text": texts, "target": range(10)}), TaskDataset({"text": texts})):
        assert [len(part) for part in data.split(0.7, 0.3)] == [7, 3]


def test_a_split_is_the_same_in_every_process() -> None:
    code = (
        "from sftlib.data import TaskDataset\n"
        "data = TaskDataset([{'text': f'row {i % 40}', 'label': 'abc'[i % 3]} for i in range(60)])\n"
        "lists = TaskDataset([{'text': 'x', 'labels': {'a', 'b', 'c', 'd'}}])\n"
        "print([part.fingerprint() for part in data.split(0.6, 0.4, seed=3)], lists.fingerprint())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("shares", "match"),
    [
        ((), "expected positive shares"),
        ((0.8, 0.1), r"add up to 0.9, expected 1: add the share 0.1"),
        ((80, 20), "divide each by their sum"),
        ((1.0, 0.0), "expected positive shares"),
        ((1.5, -0.5), "expected positive shares"),
        (("0.5", 0.5), "expected positive shares"),
        ((True,), "expected positive shares"),
        ((float("nan"), 0.5), "expected positive shares"),
    ],
)
def test_wrong_shares(shares: tuple[float, ...], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        numbered([0, 1] * 5).split(*shares)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 1.5}, {"seed": True}, {"stratify": "yes"}, {"sed": 1}])
def test_wrong_options(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        numbered([0, 1] * 5).split(0.5, 0.5, **options)


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(DataError, match=r"of 3 rows \(3 distinct inputs\) leaves side 3 empty"):
        numbered([0, 1, 0]).split(0.8, 0.1, 0.1)
    with pytest.raises(DataError, match="empty"):
        numbered([0, 1]).select([]).split(0.5, 0.5)


def speakers(count: int, rows: int, seed: int = 0) -> TaskDataset:
    """Rows of several speakers, mixed, with two labels each."""
    generator = np.random.default_rng(seed)
    who = generator.integers(count, size=rows)
    return TaskDataset(
        {"text": [f"row {i}" for i in range(rows)], "label": generator.integers(2, size=rows), "speaker": who}
    )


def test_groups_stay_on_one_side() -> None:
    data = speakers(30, 600)
    for by in ("speaker", lambda row: f"speaker {row['speaker']}", lambda row: (row["speaker"], "x")):
        for seed in range(5):
            parts = data.split(0.6, 0.2, 0.2, seed=seed, by=by)
            found = [set(part.column("speaker")) for part in parts]
            assert sum(map(len, found)) == len(set().union(*found))
            assert sum(map(len, parts)) == len(data)
            assert all(abs(len(part) - share * 600) < 40 for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True))


def test_sides_with_classes_of_their_own() -> None:
    """Which ones is drawn, and not the first: groups that are alone in their class are shuffled too."""
    data = numbered([row % 10 for row in range(200)])
    splits = [data.split(0.5, 0.5, seed=seed, by="label") for seed in range(20)]
    firsts = {tuple(sorted(set(left.column("label")))) for left, _ in splits}
    assert all(not set(left.column("label")) & set(right.column("label")) for left, right in splits)
    assert all(len(left) == len(right) == 100 for left, right in splits)
    assert len(firsts) > 15
    assert all(left.label_names == data.label_names for left, _ in splits)


def test_groups_of_one_class_are_spread_by_it() -> None:
    """Patients who are ill or not: as many of the ill on each side, by the share."""
    rows = [(patient, patient % 5 == 0) for patient in range(100) for _ in range(4)]
    texts = [f"row {i}" for i in range(len(rows))]
    data = TaskDataset({"text": texts, "label": [ill for _, ill in rows], "patient": [who for who, _ in rows]})
    for seed in range(10):
        left, right = data.split(0.5, 0.5, seed=seed, by="patient")
        assert left.label_counts()[True] == right.label_counts()[True] == 40


def test_identical_inputs_link_groups() -> None:
    """Two speakers who said the same thing are on one side, and so is who said the same as either."""
    texts = ["a", "b", "b", "c", "c", "d", "e", "f", "g", "h"]
    data = TaskDataset({"text": texts, "speaker": [1, 1, 2, 2, 3, 3, 4, 5, 6, 7], "label": [0, 1] * 5})
    for seed in range(10):
        left, _ = data.split(0.6, 0.4, seed=seed, by="speaker")
        assert len({1, 2, 3} & set(left.column("speaker"))) in (0, 3)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 9), st.integers(0, 2)), min_size=2, max_size=60))
def test_a_grouped_split_is_a_partition(rows: list[tuple[int, int, int]]) -> None:
    data = TaskDataset([{"text": f"text {t}", "group": g, "label": y, "id": i} for i, (t, g, y) in enumerate(rows)])
    try:
        parts = data.split(0.5, 0.5, by="group")
    except DataError:  # a side would be empty
        return
    assert sorted(row for part in parts for row in part.column("id")) == list(range(len(rows)))
    for name in ("text", "group"):
        assert not set(parts[0].column(name)) & set(parts[1].column(name))


@pytest.mark.parametrize(
    ("by", "error", "match"),
    [
        ("speeker", DataError, "no role 'speeker': did you mean 'speaker'"),
        ("scaffold", DataError, "no role 'scaffold'"),
        (3, OptionError, r"split\(by=3\): expected a role, the name of a column, or a function"),
        (lambda row: None if row["speaker"] == 1 else 1, DataError, r"split\(by=...\): \d+ rows? with a missing value"),
        (lambda row: object(), DataError, "an object that cannot name a group"),
        (lambda row: 1, DataError, r"\(1 groups that stay together\) leaves side"),
    ],
)
def test_groups_that_cannot_be(by: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        speakers(5, 50).split(0.5, 0.5, by=by)  # type: ignore[arg-type]


def test_a_grouped_split_is_the_same_again() -> None:
    data = speakers(12, 100)
    assert [part.fingerprint() for part in data.split(0.5, 0.5, seed=3, by="speaker")] == [
        part.fingerprint() for part in data.split(0.5, 0.5, seed=3, by="speaker")
    ]
