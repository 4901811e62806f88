"""The token store: the same tokens in memory, in a file and in a kept folder; views share; damage is noticed."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.data import scratch
from sftlib.data.scratch import Growing, Scratch, in_memory, mapped
from sftlib.encoders import writer as module
from sftlib.encoders.encoded import Encoded, Ragged, pad_together
from sftlib.encoders.writer import Writer, read_columns, write_columns

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), min_size=1, max_size=30)


def fill(writer: Writer, rows: list[list[int]], chunk: int = 4, types: bool = False) -> None:
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        lengths = np.array([len(row) for row in part])
        ids = np.array([token for row in part for token in row], np.int32)
        kinds = (ids % 2 if types and start else np.zeros_like(ids)).astype(np.int8)
        inputs = {"input_ids": ids, "token_type_ids": kinds}
        writer.add(inputs, lengths=lengths, cut=np.ones_like(lengths))


def encoded(rows: list[list[int]], **options: Any) -> Encoded:
    with Writer() as writer:
        fill(writer, rows, **options)
        return writer.done()


def lists(part: Ragged) -> list[list[int]]:
    return [part[row].tolist() for row in range(len(part))]


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, chunk=st.integers(1, 9), types=st.booleans(), limit=st.sampled_from([0, 16, 2**20]))
def test_what_is_written_is_read(rows: list[list[int]], chunk: int, types: bool, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "MEMORY_LIMIT", limit)
        found = encoded(rows, chunk=chunk, types=types)
    assert lists(found.inputs["input_ids"]) == rows
    kinds = [[token % 2 if types and row >= chunk else 0 for token in tokens] for row, tokens in enumerate(rows)]
    assert lists(found.inputs["token_type_ids"]) == kinds
    assert found.cut.tolist() == [1] * len(rows)
    assert found.cost.tolist() == [len(row) for row in rows]
    assert found.digest() == encoded(rows, chunk=3 if not types else chunk, types=types).digest()


def test_types_that_are_zero_take_no_memory_and_others_one_byte() -> None:
    rows = [[5, 6, 7]] * 1000
    assert in_memory(encoded(rows).inputs["token_type_ids"].values) == 0
    types = encoded(rows, types=True).inputs["token_type_ids"]
    assert types.values.dtype == np.int8
    assert types.values.sum() == 996 * 2


def test_large_arrays_lie_in_a_file_that_nobody_has_to_remove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scratch, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    found = encoded([[1, 2, 3]] * 500)
    assert in_memory(found.inputs["input_ids"].values) == 0
    assert found.inputs["input_ids"].values.tolist() == [1, 2, 3] * 500
    del found
    assert list(tmp_path.iterdir()) == []


def test_a_child_leaves_the_scratch_of_its_parent_alone(tmp_path: Path) -> None:
    code = (
        "import os, tempfile, sys, numpy as np\n"
        "from sftlib.data import scratch\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "place = scratch.Scratch(); path = place.path('x'); path.write_text('kept')\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(path.read_text(), flush=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout == "kept\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_as_good_as_memory(tmp_path: Path) -> None:
    rows = [[1, 2], [3], [4, 5, 6]]
    for types in (False, True):
        write_columns(tmp_path / "kept", lambda writer, types=types: fill(writer, rows, chunk=2, types=types))
        found = read_columns(tmp_path / "kept")
        assert found is not None
        assert found.digest() == encoded(rows, chunk=2, types=types).digest()
        assert ((tmp_path / "kept" / "token_type_ids.npy").exists()) == types
        assert in_memory(found.inputs["input_ids"].values) == 0
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def broken(writer: Writer) -> None:
        fill(writer, [[1]])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_columns(tmp_path / "kept", broken)
    assert list(tmp_path.iterdir()) == []
    assert read_columns(tmp_path / "kept") is None


@pytest.mark.parametrize("name", ["input_ids.npy", "lengths.npy", "cut.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "more"])
def test_damage_is_noticed(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "kept"
    write_columns(folder, lambda writer: fill(writer, [[1, 2], [3]]))
    content = (folder / name).read_bytes()
    changed = {"cut": content[:-1], "flip": content[:-2] + bytes([content[-2] ^ 1]) + content[-1:], "more": content}
    if damage == "gone":
        (folder / name).unlink()
    elif damage == "more":
        (folder / "another.npy").write_bytes(content)
    else:
        (folder / name).write_bytes(changed[damage])
    assert read_columns(folder) is None


def test_a_folder_that_was_made_up_is_refused(tmp_path: Path) -> None:
    """Sizes that do not fit, and objects: the manifest only says that nothing was changed since."""
    for lengths, ids in (([9], [1]), ([-1, 2], [1]), ([1], np.array([object()], dtype=object))):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        np.save(folder / "input_ids.npy", ids, allow_pickle=True)
        np.save(folder / "lengths.npy", lengths)
        np.save(folder / "cut.npy", lengths)
        module.storage.write_manifest(folder, kind="sftlib columns", first="input_ids", zeros=[], shapes={})
        assert read_columns(folder) is None


def test_an_array_grows_into_its_file(tmp_path: Path) -> None:
    growing = Growing(np.int64, lambda: tmp_path / "a.npy", limit=100)
    parts = [np.arange(n) for n in (0, 5, 7, 1, 100, 0)]
    for part in parts:
        growing.extend(part)
    found = growing.done()
    assert found.tolist() == np.concatenate(parts).tolist()
    assert np.load(tmp_path / "a.npy", allow_pickle=False).tolist() == found.tolist()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1
    np.save(tmp_path / "b.npy", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="no flat array"):
        mapped(tmp_path / "b.npy")


def test_an_empty_store() -> None:
    with Writer() as writer:
        found = writer.done()
    assert len(found) == 0
    assert found.cost.tolist() == []
    assert found.inputs["input_ids"].distinct().tolist() == []
    Scratch().release()  # of nothing
    none = encoded([[1, 2]]).take(np.empty(0, np.int64))
    assert len(none) == 0
    assert none.inputs["input_ids"].values.tolist() == none.inputs["input_ids"].distinct().tolist() == []


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, data=st.data())
def test_a_view_is_a_store_of_its_rows(rows: list[list[int]], data: st.DataObject) -> None:
    rows = [[token % 1000 for token in row] for row in rows]
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=20)), np.int64)
    whole = encoded(rows)
    view, alone = whole.take(chosen), encoded([rows[i] for i in chosen])
    assert lists(view.inputs["input_ids"]) == [rows[i] for i in chosen]
    assert view.digest() == alone.digest()
    for name in ("input_ids", "token_type_ids"):
        assert np.array_equal(view.inputs[name].values, alone.inputs[name].values)
        assert np.array_equal(view.inputs[name].offsets, alone.inputs[name].offsets)
    assert view.inputs["input_ids"].distinct().tolist() == sorted({t for i in chosen for t in rows[i]})
    again = view.take(np.arange(len(chosen))[::-1])
    assert lists(again.inputs["input_ids"]) == [rows[i] for i in chosen[::-1]]
    assert np.shares_memory(view.inputs["input_ids"]._flat, whole.inputs["input_ids"]._flat)


def test_views_are_walked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib.encoders import encoded as columns

    rows = [list(range(n % 7 + 1)) for n in range(100)]
    whole = encoded(rows)
    expected = whole.take(np.arange(99, -1, -1)).digest()
    monkeypatch.setattr(columns, "_BLOCK", 5)
    view = whole.take(np.arange(99, -1, -1))
    assert np.concatenate(list(view.inputs["input_ids"].blocks())).tolist() == [n for row in rows[::-1] for n in row]
    assert max(map(len, view.inputs["input_ids"].blocks())) <= 7
    assert view.digest() == expected
    assert encoded(rows).digest() == whole.digest()
    assert view.inputs["input_ids"].distinct().tolist() == list(range(7))


def test_digests_tell_rows_apart() -> None:
    digests = [encoded(rows).digest() for rows in ([[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[3], [1, 2]])]
    assert len(set(digests)) == 4
    assert all(len(digest) == len(hashlib.sha256().hexdigest()) for digest in digests)
    labelled = encoded([[1, 2], [3]]).with_targets({"target": np.array([0, 1])})
    assert labelled.digest() == digests[0]  # of the inputs alone


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, data=st.data())
def test_padding_by_hand(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=9)), np.int64)
    found = encoded(rows, types=True)
    padded, mask = pad_together(found.inputs, chosen, fill={"input_ids": 9, "token_type_ids": 3})
    longest = max(len(rows[i]) for i in chosen)
    assert padded["input_ids"].tolist() == [rows[i] + [9] * (longest - len(rows[i])) for i in chosen]
    assert mask.tolist() == [[True] * len(rows[i]) + [False] * (longest - len(rows[i])) for i in chosen]
    types = lists(found.inputs["token_type_ids"])
    assert padded["token_type_ids"].tolist() == [types[i] + [3] * (longest - len(types[i])) for i in chosen]
    assert padded["input_ids"].dtype == np.int64


def windows(rows: list[list[int]], first: int = 0) -> Encoded:
    """Each row as windows of two tokens, with targets and notes of every make."""
    parts = [(number, row[i : i + 2]) for number, row in enumerate(rows, first) for i in range(0, len(row), 2)]
    ids = Ragged.from_lists([part for _, part in parts])
    return Encoded(
        {"input_ids": ids, "token_type_ids": ids.alike((ids.values % 2).astype(np.int8))},
        {"of_tokens": ids.alike(ids.values % 7), "of_windows": ids.lengths % 2 == 0},
        cut=np.ones(len(ids), np.int64),
        owners=np.array([number for number, _ in parts]),
        notes={"more": Ragged.from_lists([part[:1] * (len(part) + number % 2) for number, part in parts], np.int64)},
    )


def same(found: Encoded, expected: Encoded) -> bool:
    pairs = [(getattr(found, kind), getattr(expected, kind)) for kind in ("inputs", "targets", "notes")]
    arrays = [(found.cut, expected.cut), (found.owners, expected.owners)]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        for name, part in theirs.items():
            ragged = isinstance(part, Ragged)
            arrays += [(ours[name].lengths, part.lengths)] if ragged else []
            arrays += [(ours[name].values, part.values) if ragged else (ours[name], part)]
            assert arrays[-1][0].dtype == arrays[-1][1].dtype
    return all(np.array_equal(one, other) for one, other in arrays)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, chunk=st.integers(1, 9), limit=st.sampled_from([0, 16, 2**20]), data=st.data())
def test_windows_targets_and_notes_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], chunk: int, limit: int, data: st.DataObject
) -> None:
    def fill_in(writer: Writer) -> None:
        for start in range(0, len(rows), chunk):
            writer.extend(windows(rows[start : start + chunk], start))

    folder = tmp_path_factory.mktemp("tokens") / "kept"
    write_columns(folder, fill_in)
    with pytest.MonkeyPatch.context() as patch, Writer() as writer:
        patch.setattr(scratch, "MEMORY_LIMIT", limit)
        fill_in(writer)
        made = writer.done()
    read = read_columns(folder)
    assert read is not None
    assert same(made, windows(rows))
    assert same(read, made)
    assert all(in_memory(part.values) == 0 for part in (read.inputs["input_ids"], read.targets["of_tokens"]))  # type: ignore[union-attr]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    part, alone = read.of_rows(np.array(chosen, np.int64)), windows([rows[row] for row in chosen])
    for name in ("input_ids", "token_type_ids"):
        assert lists(part.inputs[name]) == lists(alone.inputs[name])
    assert lists(part.targets["of_tokens"]) == lists(alone.targets["of_tokens"])  # type: ignore[arg-type]
    assert part.owners.tolist() == alone.owners.tolist()
    assert part.cut.tolist() == alone.cut.tolist()


def test_what_is_attached_may_come_before_or_after_its_rows() -> None:
    expected = windows([[1, 2, 3], [4]])
    with Writer() as writer:
        writer.attach(notes={"more": expected.notes["more"].take(np.array([0]))})  # type: ignore[union-attr]
        plain = Encoded(expected.inputs, {}, cut=expected.cut, owners=expected.owners)
        writer.extend(plain)
        writer.attach(targets=expected.targets, notes={"more": expected.notes["more"].take(np.array([1, 2]))})  # type: ignore[union-attr]
        assert same(writer.done(), expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("targets.of_windows", [True, False]),
        ("targets.of_tokens", [1, 2, 3]),
        ("notes.more", [1, 1, 3, 4]),
        ("notes.more.lengths", [2, 1]),
        ("notes.more.lengths", [-2, 5, 2]),
        ("owners", [0, 1]),
        ("owners", [1, 0, 0]),
        ("owners", [-1, 0, 1]),
        ("else.where", [0, 0, 0]),
    ],
)
def test_attached_arrays_that_do_not_belong_to_the_tokens_are_refused(
    tmp_path: Path, name: str, values: list[Any]
) -> None:
    """The manifest only says that nothing was changed since."""
    folder = tmp_path / "kept"
    write_columns(folder, lambda writer: writer.extend(windows([[1, 2, 3], [4]])))
    assert read_columns(folder) is not None
    (folder / "manifest.json").unlink()
    np.save(folder / f"{name}.npy", np.array(values))
    module.storage.write_manifest(folder, kind="sftlib columns", first="input_ids", zeros=[], shapes={})
    assert read_columns(folder) is None
