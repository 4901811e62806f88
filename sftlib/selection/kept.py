"""Results of trials on disk: a search that was killed goes on, and what is finished is not computed again.

One JSON file a trial, written whole or not at all, beside ``run.json``, which says what all of them belong to. Nothing
but plain values is written, and only dataclasses that the task's own modules define are made of what is read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from sftlib.errors import CheckpointError
from sftlib.run.identity import differences
from sftlib.selection.trial import Outcome
from sftlib.support.checking import folder_path
from sftlib.support.storage import StorageError, read_json, write_json
from sftlib.tasks.base import Task

_RUN = "run.json"
_FORMAT = 1


@final
class Kept:
    """The results of one search.

    Args:
        folder: where they lie; None to keep none.
        identity: all that decides results, as JSON values.
        task: whose predictions they hold.

    Raises:
        CheckpointError: the folder cannot be written, holds something else, or another search; each difference named.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, identity: Mapping[str, Any], task: Task) -> None:
        self._folder = None if folder is None else folder_path(folder, option="output_dir")
        self._task = task
        if self._folder is not None:
            self._open(self._folder, {"format": _FORMAT, **identity})

    def _open(self, folder: Path, identity: dict[str, Any]) -> None:
        shown = f"output_dir={os.fspath(folder)!r}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
            if there and _RUN not in there:
                raise CheckpointError(f"{shown} is not empty (it holds {', '.join(there[:5])}) and holds no search")
            if not there:
                _write(folder / _RUN, identity)
                return
            found = differences(read_json(folder / _RUN), identity)
        except StorageError as error:
            raise CheckpointError(f"{shown} cannot be read: {error}") from error
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{shown} cannot be written: {error}") from error
        if found:
            lines = "\n".join(f"  {line}" for line in found)
            raise CheckpointError(
                f"{shown} holds another search (saved -> now):\n{lines}\n"
                "Give what it was begun with, or choose another output_dir."
            )

    def find(self, name: str) -> Outcome | str | None:
        """The result of a trial, or the error that it ended with; None where it is not finished."""
        if self._folder is None or not (self._folder / f"{name}.json").is_file():
            return None
        try:
            found = read_json(self._folder / f"{name}.json")
            if "error" in found:
                return str(found["error"])
            predictions = tuple(_restored(value, self._task) for value in found.pop("predictions"))
            return Outcome(predictions=predictions, **found)
        except (StorageError, TypeError, ValueError, KeyError):
            return None  # damaged: it is computed again

    def keep(self, name: str, result: Outcome | str) -> None:
        """Keep a result; one that cannot be written as plain values is computed again by whoever goes on."""
        if self._folder is None:
            return
        if isinstance(result, str):
            _write(self._folder / f"{name}.json", {"error": result})
            return
        facts = {item.name: getattr(result, item.name) for item in fields(result)}
        try:
            facts["predictions"] = [_plain(value) for value in result.predictions]
        except TypeError:
            return
        _write(self._folder / f"{name}.json", facts)


def _write(path: Path, value: dict[str, Any]) -> None:
    new = path.with_name(f".{path.name}.new")
    write_json(new, value, private=True)
    os.replace(new, path)


def _plain(value: Any) -> Any:
    """A value as JSON that says what it was made of."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {"of": type(value).__name__, "has": [_plain(getattr(value, item.name)) for item in fields(value)]}
    if isinstance(value, Mapping):
        return {"map": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_plain(item) for item in value]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": [value.dtype.str, list(value.shape), value.tobytes().hex()]}
    raise TypeError(f"a {type(value).__name__} is no plain value")


def _restored(value: Any, task: Task) -> Any:
    """What `_plain` was given."""
    if not isinstance(value, dict):
        return value
    if "of" in value:
        kind = _prediction(task, value["of"])
        return kind(*[_restored(item, task) for item in value["has"]])
    if "map" in value:
        return {_restored(key, task): _restored(item, task) for key, item in value["map"]}
    if "bytes" in value:
        return bytes.fromhex(value["bytes"])
    if "array" in value:
        kind_of_number, shape, content = value["array"]
        return np.frombuffer(bytes.fromhex(content), np.dtype(kind_of_number)).reshape(shape)
    (name,) = value
    made = [_restored(item, task) for item in value[name]]
    return tuple(made) if name == "tuple" else made


def _prediction(task: Task, name: str) -> Any:
    """The dataclass of this name in a module that the task is written in."""
    for base in type(task).__mro__:
        found = vars(sys.modules[base.__module__]).get(name)
        if isinstance(found, type) and is_dataclass(found):
            return found
    raise ValueError(f"no dataclass {name!r}")
