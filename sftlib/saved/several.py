"""A folder of several tasks: one that stands by itself for each, and a file that says which belong together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sftlib.errors import ArtifactError
from sftlib.support import storage
from sftlib.support.checking import folder_path, is_number

#: Which folders belong together.
TASKS = "sftlib-tasks.json"
_KIND = "sftlib-tasks"


class Together(NamedTuple):
    """What a folder of several tasks says.

    Attributes:
        names: of the folders in it, in the order of the tasks.
        scales: of each task.
        mixing: of their rows.
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]
    mixing: float


def is_of_several(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds one folder a task."""
    return (folder_path(path) / TASKS).is_file()


def save_parts(
    path: str | os.PathLike[str],
    parts: Mapping[str, Callable[[Path], None]],
    *,
    scales: Sequence[float],
    mixing: float,
) -> None:
    """Write one folder a task; what was there is replaced when all of it is written.

    Args:
        path: a folder that does not exist, is empty, or holds several tasks saved by sftlib.
        parts: name -> writes its folder, and sees that it can be read.
        scales: of each task.
        mixing: of their rows.

    Raises:
        ArtifactError: it cannot be written, or holds something else.
    """
    target = folder_path(path)
    if target.exists() and not (target.is_dir() and (is_of_several(target) or not any(target.iterdir()))):
        raise ArtifactError(
            f"{os.fspath(path)!r} is not a folder of several tasks saved by sftlib, and nothing else is replaced: "
            "choose another folder"
        )
    try:
        with storage.written_whole(target) as folder:
            for name, write in parts.items():
                write(folder / name)
            facts = {"tasks": list(parts), "scales": list(scales), "mixing": mixing}
            sums = {name: storage.sha256(folder / name / storage.MANIFEST) for name in parts}
            storage.write_json(folder / TASKS, {"kind": _KIND, "version": 1, **facts, "manifests": sums})
    except OSError as error:
        raise ArtifactError(f"{os.fspath(path)!r} cannot be written: {error.strerror or error}") from error


def read_together(path: str | os.PathLike[str]) -> Together:
    """Which folders belong together; each verifies itself when it is opened.

    Raises:
        ArtifactError: a folder is missing or another one now, or the file says something else.
    """
    folder = folder_path(path)
    try:
        facts = storage.read_json(folder / TASKS)
        _check(folder, facts)
    except (storage.StorageError, OSError) as error:
        raise ArtifactError(f"{os.fspath(path)!r} cannot be opened: {error}") from error
    return Together(tuple(facts["tasks"]), tuple(map(float, facts["scales"])), float(facts["mixing"]))


def _check(folder: Path, facts: Mapping[str, Any]) -> None:
    names: Any = facts.get("tasks")
    scales: Any = facts.get("scales")
    sums: Any = facts.get("manifests")
    good = (
        facts.get("kind") == _KIND
        and facts.get("version") == 1
        and isinstance(names, list)
        and bool(names)
        and all(isinstance(name, str) and name.isidentifier() for name in names)
        and isinstance(scales, list)
        and len(scales) == len(names)
        and all(is_number(scale) and 0 < scale < float("inf") for scale in scales)
        and is_number(facts.get("mixing"))
        and 0 <= facts["mixing"] <= 1
        and isinstance(sums, dict)
        and list(sums) == names
    )
    if not good:
        raise storage.StorageError(f"{TASKS} does not say which folders belong together")
    for name in names:
        manifest = folder / name / storage.MANIFEST
        if (folder / name).is_symlink() or not manifest.is_file():
            raise storage.StorageError(f"the folder {name!r} is missing")
        if storage.sha256(manifest) != sums[name]:
            raise storage.StorageError(f"the folder {name!r} is not the one that was written with the others")
