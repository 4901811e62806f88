"""Folders that are written whole or not at all, and files that are what their manifest says.

Used for saved models and for checkpoints alike. Nothing but JSON and safetensors is ever written or read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, final

MANIFEST = "manifest.json"
_CHUNK = 2**20
_WORTH_A_THREAD = 2**18  # bytes; below, handing the hash to another core costs more than it saves
_CHUNKS_AHEAD = 64  # that may wait for their hash: bounds the memory of what was copied from another device


class StorageError(Exception):
    """What is on disk is not what was written; callers turn it into an error of their own kind."""


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@final
class Files:
    """Writes the files of a folder while other cores hash them and the disk takes them in.

    A context: when it ends without an error, `facts` is complete. Small files are hashed on the way.

    Args:
        folder: where.
        private: readable by their owner alone.
    """

    def __init__(self, folder: Path, *, private: bool = False) -> None:
        self._folder = folder
        self._private = private
        self._hasher, self._flusher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)  # a thread starts when it is needed
        self._digests: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._waiting: deque[Future[None]] = deque()

    def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Write one file.

        Args:
            name: of the file.
            chunks: its content, piece by piece; must not change before the context ends.
        """
        digest = self._digests[name] = hashlib.sha256()
        self._sizes[name] = 0
        elsewhere = False
        descriptor = _open_new(self._folder / name, private=self._private)
        try:
            for chunk in chunks:
                self._sizes[name] += len(chunk)
                elsewhere = elsewhere or len(chunk) >= _WORTH_A_THREAD  # and then to its end: in order
                if elsewhere:
                    self._wait(_CHUNKS_AHEAD)
                    self._waiting.append(self._hasher.submit(digest.update, chunk))
                else:
                    digest.update(chunk)
                _write(descriptor, chunk)
            if elsewhere:
                self._waiting.append(self._flusher.submit(_flush, os.dup(descriptor)))
        finally:
            os.close(descriptor)

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each file: ``{"size": ..., "sha256": ...}``."""
        return {
            name: {"size": self._sizes[name], "sha256": digest.hexdigest()} for name, digest in self._digests.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self._wait(0)
        finally:
            self._hasher.shutdown(cancel_futures=True)
            self._flusher.shutdown(cancel_futures=True)

    def _wait(self, left: int) -> None:
        while len(self._waiting) > left:
            self._waiting.popleft().result()


def write_json(path: Path, value: object, *, private: bool = False) -> None:
    """Write JSON that people can read."""
    descriptor = _open_new(path, private=private)
    try:
        _write(descriptor, _as_json(value))
    finally:
        os.close(descriptor)


def read_json(path: Path, *, finite: bool = False) -> dict[str, Any]:
    """Read a JSON object, refusing duplicate keys.

    Args:
        path: of the file.
        finite: whether NaN and Infinity, which Python reads although JSON has no such numbers, are refused too.

    Raises:
        StorageError: it is not one.
    """
    try:
        value = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant if finite else None,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path.name} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise StorageError(f"{path.name} holds a {type(value).__name__}, expected an object")
    return value


def write_manifest(
    folder: Path,
    *,
    kind: str,
    free: Iterable[str] = (),
    hashed: Mapping[str, Mapping[str, Any]] | None = None,
    private: bool = False,
    **facts: Any,
) -> None:
    """Write the manifest: size and SHA-256 of every file, and of the manifest itself.

    Args:
        folder: holds every other file already.
        kind: what the folder is.
        free: names of files that may change later and are not listed.
        hashed: name -> what `Files` said of it; the other files are read again.
        private: readable by its owner alone.
        facts: more entries.
    """
    known = hashed or {}
    files = {
        path.name: known.get(path.name) or {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, *free)
    }
    manifest = {"kind": kind, "version": 1, **facts, "files": files}
    write_json(folder / MANIFEST, {**manifest, "sha256": _digest(manifest)}, private=private)


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
    there = _is_plain(folder / MANIFEST)
    manifest = read_json(folder / MANIFEST) if there else {}
    files = manifest.get("files")
    if manifest.get("kind") != kind or not isinstance(files, dict):
        why = f"{MANIFEST} says otherwise" if there else f"{MANIFEST} is missing"
        raise StorageError(f"it is not a folder of kind {kind!r}: {why}")
    if manifest.get("version") != 1:
        raise StorageError(f"{MANIFEST} has version {manifest.get('version')!r}; this release reads version 1")
    try:
        as_written = _is_as_written(folder / MANIFEST, manifest)  # not only what it says: every byte of it
        is_whole = manifest.pop("sha256", None) == _digest(manifest)
    except RecursionError as error:
        raise StorageError(f"{MANIFEST} is nested too deeply") from error
    if not (is_whole and as_written):
        raise StorageError(f"{MANIFEST} was changed after it was written")
    known = {MANIFEST, *files, *free}
    for path in folder.iterdir():
        if path.name not in known:
            raise StorageError(f"{path.name} does not belong there")
        if not _is_plain(path):
            raise StorageError(f"{path.name} is not a plain file")
    for name, facts in files.items():
        _verify_file(folder, name, facts)
    return manifest


@contextmanager
def written_whole(target: Path, *, private: bool = False, replace: bool = True) -> Iterator[Path]:
    """A folder to write into; it takes the place of ``target`` only when the context ends without an error.

    Every file is flushed to disk before the rename, and the rename before this returns.

    Args:
        target: where the folder will be.
        private: readable by its owner alone.
        replace: whether a folder that is there is replaced; otherwise it is an error.

    Raises:
        FileExistsError: there is one, and it is not to be replaced.
    """
    if target.exists() and not replace:
        raise FileExistsError(f"{target.name} is there already")
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


def _open_new(path: Path, *, private: bool) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, chunk: bytes | memoryview) -> None:
    """Write all of a chunk; the system may take it in parts."""
    rest = memoryview(chunk)
    while len(rest):
        rest = rest[os.write(descriptor, rest) :]


def _as_json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=True) + "\n").encode()


def _is_as_written(path: Path, value: object) -> bool:
    try:
        return path.read_bytes() == _as_json(value)
    except UnicodeEncodeError:  # half of a surrogate pair: never written by us
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _verify_file(folder: Path, name: str, facts: Any) -> None:
    path = folder / name
    if Path(name).name != name or name in (".", "..") or not _is_plain(path):
        raise StorageError(f"{name} is missing or is not a plain file of the folder")
    if not isinstance(facts, dict) or path.stat().st_size != facts.get("size"):
        raise StorageError(f"{name} has {path.stat().st_size:,} bytes, the manifest says otherwise")
    if sha256(path) != facts.get("sha256"):
        raise StorageError(f"{name} was changed after it was written: its SHA-256 is not the manifest's")


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} stands there, which is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found
