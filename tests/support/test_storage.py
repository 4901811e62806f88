"""Folders written whole or not at all, and files that are what the manifest says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from sftlib.support import storage

KIND = "some kind"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    (place / "a.bin").write_bytes(bytes(range(256)))
    (place / "b.txt").write_text("free", encoding="utf-8")
    storage.write_json(place / "c.json", {"é": [1, 2.5, None]})
    storage.write_manifest(place, kind=KIND, free=["b.txt"], note="x")
    return place


def verify(folder: Path) -> dict[str, object]:
    return storage.verify(folder, kind=KIND, free=["b.txt"])


def test_what_was_written_verifies(folder: Path) -> None:
    manifest = verify(folder)
    assert manifest["note"] == "x"
    files = json.loads((folder / storage.MANIFEST).read_text())["files"]
    assert set(files) == {"a.bin", "c.json"}
    assert files["a.bin"] == {"size": 256, "sha256": hashlib.sha256(bytes(range(256))).hexdigest()}


def test_every_bit_of_the_manifest_counts(folder: Path) -> None:
    path = folder / storage.MANIFEST
    good = path.read_bytes()
    for place in range(len(good)):
        bit = 1 << (place * 5) % 8
        path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
        with pytest.raises(storage.StorageError):
            verify(folder)
    path.write_bytes(good)
    verify(folder)


@pytest.mark.parametrize("name", ["a.bin", "c.json"])
def test_every_byte_of_a_file_counts(folder: Path, name: str) -> None:
    good = (folder / name).read_bytes()
    for place in range(0, len(good), 7):
        (folder / name).write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        with pytest.raises(storage.StorageError, match=name):
            verify(folder)
    for changed in (good[:-1], good + b"\0", b""):
        (folder / name).write_bytes(changed)
        with pytest.raises(storage.StorageError, match=name):
            verify(folder)


def test_files_that_are_missing_or_do_not_belong(folder: Path) -> None:
    (folder / "more.bin").write_bytes(b"")
    with pytest.raises(storage.StorageError, match="more.bin"):
        verify(folder)
    (folder / "more.bin").unlink()
    (folder / "more").mkdir()
    with pytest.raises(storage.StorageError, match="more"):
        verify(folder)
    (folder / "more").rmdir()
    (folder / "a.bin").rename(folder.parent / "a.bin")
    with pytest.raises(storage.StorageError, match="a.bin"):
        verify(folder)


def test_a_link_is_not_a_file(folder: Path) -> None:
    (folder / "a.bin").rename(folder.parent / "a.bin")
    (folder / "a.bin").symlink_to(folder.parent / "a.bin")
    with pytest.raises(storage.StorageError, match="a.bin"):
        verify(folder)


def test_free_files_may_change_or_go(folder: Path) -> None:
    (folder / "b.txt").write_text("changed", encoding="utf-8")
    verify(folder)
    (folder / "b.txt").unlink()
    verify(folder)


def test_another_kind_or_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(storage.StorageError, match="other kind"):
        storage.verify(folder, kind="other kind", free=["b.txt"])
    with pytest.raises(storage.StorageError, match="manifest"):
        storage.verify(tmp_path, kind=KIND)
    with pytest.raises(storage.StorageError, match="nowhere"):
        storage.verify(tmp_path / "nowhere", kind=KIND)


def forged(folder: Path, **changes: object) -> None:
    """Change the manifest and give it a digest that fits."""
    manifest = {**json.loads((folder / storage.MANIFEST).read_text()), **changes}
    manifest.pop("sha256")
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    storage.write_json(folder / storage.MANIFEST, {**manifest, "sha256": digest})


def test_names_cannot_lead_out_of_the_folder(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(b"secret")
    facts = {"size": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    files = json.loads((folder / storage.MANIFEST).read_text())["files"]
    for name in ("../outside", str(outside), "..", "."):
        forged(folder, files={**files, name: facts})
        with pytest.raises(storage.StorageError, match="plain file of the folder"):
            verify(folder)


@pytest.mark.parametrize("facts", [None, 3, [], {}, {"size": 256}, {"size": "256", "sha256": 1}])
def test_facts_that_are_none(folder: Path, facts: object) -> None:
    files = json.loads((folder / storage.MANIFEST).read_text())["files"]
    forged(folder, files={**files, "a.bin": facts})
    with pytest.raises(storage.StorageError, match="a.bin"):
        verify(folder)


def test_a_later_version_is_told(folder: Path) -> None:
    forged(folder, version=2)
    with pytest.raises(storage.StorageError, match="version 2"):
        verify(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"a": 1, "a": 2}', "[" * 100_000, "\udcff"])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(storage.StorageError, match="x.json"):
        storage.read_json(path)


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"text": "naïve ☃ \u202e", "numbers": [1, -2.5e-9, True, None], "nested": {"a": {}}}
    storage.write_json(tmp_path / "x.json", value)
    assert storage.read_json(tmp_path / "x.json") == value


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with storage.written_whole(target) as place:
        (place / "x").write_text("1")
        assert not target.exists()
        assert place.parent == target.parent  # on the same file system, so that a rename does it
    assert [path.name for path in target.iterdir()] == ["x"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with storage.written_whole(target) as place:
        (place / "x").write_text("old")

    def break_off() -> None:
        with storage.written_whole(target) as place:
            (place / "x").write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert (target / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    with storage.written_whole(target) as place:
        (place / "y").write_text("new")
    assert [path.name for path in target.iterdir()] == ["y"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_private_folders_are_for_their_owner(tmp_path: Path) -> None:
    with storage.written_whole(tmp_path / "target", private=True) as place:
        (place / "x").write_text("1")
    assert os.stat(tmp_path / "target").st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "target" / "x").st_mode & 0o777 == 0o600
