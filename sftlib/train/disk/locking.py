"""One run at a time in a folder: the lock that a living run holds, and that ends with its process, however it ends."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import final

from sftlib.errors import CheckpointError

#: The file that a living run holds; what a killed run left of it stands in nobody's way.
LOCK = ".lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_NOT_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@final
class FolderLock:
    """Held from `take` to `release`, or until the process ends: the system lets go of it, even after SIGKILL.

    Args:
        folder: there already.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first, second = FolderLock(Path(folder)), FolderLock(Path(folder))
        ...     first.take()
        ...     try:
        ...         second.take()
        ...     except CheckpointError as error:
        ...         print(f"process {os.getpid()}" in str(error))
        ...     first.release()
        ...     second.take()
        ...     second.release()
        True
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock, or refuse.

        Raises:
            CheckpointError: a living run holds it, and which; or the folder cannot be written.
        """
        while self._descriptor is None:
            descriptor = self._open()
            try:
                _lock(descriptor)
            except OSError as error:
                os.close(descriptor)
                if error.errno in _NOT_HERE:
                    said = "%r: the file system knows no locks; see to it that no other run writes there"
                    logging.getLogger("sftlib").warning(said, os.fspath(self._folder))
                    return
                raise self._refusal(error) from error
            if self._is_still(descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(_holder()).encode())
                self._descriptor = descriptor
            else:  # its last holder removed the file between our opening and locking it
                os.close(descriptor)

    def release(self) -> None:
        """Let go of it; of one that is not held, do nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if os.name == "posix" and self._is_still(descriptor):
            self._path.unlink()  # while it is held, so that nobody's new one goes
        os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError as error:
            raise CheckpointError(f"output_dir={os.fspath(self._folder)!r} cannot be locked: {error}") from error

    def _is_still(self, descriptor: int) -> bool:
        """Whether the open file is the one that has the name."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _refusal(self, error: OSError) -> CheckpointError:
        where = f"output_dir={os.fspath(self._folder)!r}"
        if error.errno not in _TAKEN:
            return CheckpointError(f"{where} cannot be locked: {error}")
        return CheckpointError(
            f"{where} is in use: {_described(self._path)} is training into it; wait for it, end it, or choose another "
            "output_dir"
        )


def _holder() -> dict[str, object]:
    return {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _described(path: Path) -> str:
    """Who wrote the lock; it may be writing just now, or the file be another program's."""
    try:
        held = json.loads(path.read_bytes()[:4096])
        return f"process {held['process']!r:.20} on {held['host']!r:.80} (since {held['since']!r:.40})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another run"


__all__ = ["LOCK", "FolderLock"]
