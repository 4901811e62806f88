"""Folders that are written whole or not at all, and files that are what their manifest says.

Used for saved models and for checkpoints alike. Nothing but JSON and safetensors is ever written or read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_CHUNK = 2**20


class StorageError(Exception):
    """What is on disk is not what was written; callers turn it into an error of their own kind."""


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON that people can read."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, refusing duplicate keys.

    Raises:
        StorageError: it is not one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path.name} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise StorageError(f"{path.name} holds a {type(value).__name__}, expected an object")
    return value


def write_manifest(folder: Path, *, kind: str, free: Iterable[str] = (), **facts: Any) -> None:
    """Write the manifest: size and SHA-256 of every file, and of the manifest itself.

    Args:
        folder: holds every other file already.
        kind: what the folder is.
        free: names of files that may change later and are not listed.
        facts: more entries.
    """
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, *free)
    }
    manifest = {"kind": kind, "version": 1, **facts, "files": files}
    write_json(folder / MANIFEST, {**manifest, "sha256": _digest(manifest)})


def verify(folder: Path, *, kind: str, free: Iterable[str] = ()) -> dict[str, Any]:
    """Check every file against the manifest.

    Args:
        folder: to check.
        kind: what it should be.
        free: names of files that may be there, changed or not.

    Returns:
        The manifest.

    Raises:
        StorageError: naming the first file that is missing, changed, or does not belong.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise StorageError(f"there is no folder {folder.name!r}")
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    files = manifest.get("files")
    if manifest.get("kind") != kind or not isinstance(files, dict):
        why = f"{MANIFEST} says otherwise" if (folder / MANIFEST).is_file() else f"{MANIFEST} is missing"
        raise StorageError(f"it is not a folder of kind {kind!r}: {why}")
    if manifest.get("version") != 1:
        raise StorageError(f"{MANIFEST} has version {manifest.get('version')!r}; this release reads version 1")
    if manifest.pop("sha256", None) != _digest(manifest):
        raise StorageError(f"{MANIFEST} was changed after it was written")
    for path in folder.iterdir():
        if path.name not in (MANIFEST, *files, *free):
            raise StorageError(f"{path.name} does not belong there")
    for name, facts in files.items():
        _verify_file(folder, name, facts)
    return manifest


@contextmanager
def written_whole(target: Path, *, private: bool = False) -> Iterator[Path]:
    """A folder to write into; it takes the place of ``target`` only when the context ends without an error.

    Every file is flushed to disk before the rename, and the rename before this returns.

    Args:
        target: where the folder will be; one that is there is replaced.
        private: readable by its owner alone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700 if private else 0o777)
    try:
        yield temporary
        for path in [*temporary.iterdir(), temporary]:
            if private and path.is_file():
                path.chmod(0o600)
            _sync(path)
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    old = target.parent / f".{target.name}.old-{os.getpid()}"
    if target.exists():
        target.rename(old)
    new.rename(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify_file(folder: Path, name: str, facts: Any) -> None:
    path = folder / name
    if Path(name).name != name or name in (".", "..") or path.is_symlink() or not path.is_file():
        raise StorageError(f"{name} is missing or is not a plain file of the folder")
    if not isinstance(facts, dict) or path.stat().st_size != facts.get("size"):
        raise StorageError(f"{name} has {path.stat().st_size:,} bytes, the manifest says otherwise")
    if sha256(path) != facts.get("sha256"):
        raise StorageError(f"{name} was changed after it was written: its SHA-256 is not the manifest's")


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found
