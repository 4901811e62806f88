"""Files to rows, and answers to files."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import user_path

_PACKED: Final = {".gz", ".bz2", ".xz", ".zip"}
_OF_CSV: Final = ("delimiter", "quoting", "escape", "encoding")
_SEPARATED: Final = (".csv", ".tsv", ".txt")
_READERS: Final[Mapping[str, Callable[..., TaskDataset]]] = {
    ".csv": TaskDataset.from_csv,
    ".tsv": TaskDataset.from_csv,
    ".txt": TaskDataset.from_csv,
    ".jsonl": TaskDataset.from_jsonl,
    ".ndjson": TaskDataset.from_jsonl,
    ".json": TaskDataset.from_json,
    ".parquet": TaskDataset.from_parquet,
    ".xlsx": TaskDataset.from_excel,
}


def read_rows(path: str, reading: Mapping[str, Any], *, task: str | None = None) -> TaskDataset:
    """The rows of a file, by its ending.

    Args:
        path: of the file, or of a folder whose folders are labels.
        reading: roles and options.
        task: of a model that is to read them, where nothing else was said.

    Raises:
        DataError: no such file, one whose ending says nothing, and as the readers of `TaskDataset`.
        OptionError: options that its reader does not have.
    """
    file = user_path(path)
    given = {**({} if task is None else {"task": task}), **reading}
    if file.is_dir():
        found: TaskDataset = TaskDataset.from_folder(file, **given)
        return found
    ending = next((suffix.lower() for suffix in reversed(file.suffixes) if suffix.lower() not in _PACKED), "")
    reader = _READERS.get(ending)
    if reader is None:
        raise DataError(f"{path}: expected a file that ends in {', '.join(_READERS)}, or a folder")
    if ending not in _SEPARATED:
        odd = [name for name in _OF_CSV if name in given]
        if odd:
            raise OptionError(f"--{odd[0]}: it is for csv files, and {path} is none")
    elif ending == ".tsv":
        given = {"delimiter": "\t", **given}
    return reader(file, **given)


def write_answers(answers: Sequence[Any], path: str | None) -> None:
    """Write one line an answer, with the number of its row: csv, or JSON Lines by the ending.

    Args:
        answers: predictions, in the order of the rows.
        path: of the file; None for the terminal.

    Raises:
        OptionError: another ending, or a file that cannot be written.
    """
    lines, ending = [{"row": row, **plain(answer)} for row, answer in enumerate(answers)], ending_of(path)
    with _opened(path) as stream:
        if ending == ".jsonl":
            stream.writelines(json.dumps(line, ensure_ascii=False, default=_simple) + "\n" for line in lines)
            return
        writer = csv.DictWriter(stream, fieldnames=list(dict.fromkeys(name for line in lines for name in line)))
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)


def ending_of(path: str | None) -> str:
    """How answers are written: ``".csv"`` or ``".jsonl"``.

    Raises:
        OptionError: another ending.
    """
    ending = ".csv" if path is None else Path(path).suffix.lower()
    if ending not in (".csv", ".jsonl"):
        raise OptionError(f"--output {path}: expected a file that ends in .csv or .jsonl")
    return ending


def plain(answer: Any) -> dict[str, Any]:
    """What an answer says: the fields that it shows, and what it works out of the others; nothing that is empty.

    Example:
        >>> plain("Bonjour.")
        {'answer': 'Bonjour.'}
        >>> from sftlib.tasks.image.detection import Detected, DetectedObject
        >>> plain(Detected(0.5, (DetectedObject("cat", 0.9, (0.0, 0.0, 4.0, 2.0)),)))
        {'threshold': 0.5, 'objects': (DetectedObject(label='cat', probability=0.9, box=(0.0, 0.0, 4.0, 2.0)),)}
    """
    if not is_dataclass(answer) or isinstance(answer, type):
        return {"answer": answer}
    shown = [item.name for item in fields(answer) if item.repr]
    derived = [name for name, member in vars(type(answer)).items() if isinstance(member, property)]
    found = {name: getattr(answer, name) for name in (*shown, *derived) if not name.startswith("_")}
    return {name: value for name, value in found.items() if value is not None and not _has_no_cell(value)}


def _has_no_cell(value: object) -> bool:
    """Whether it is an array of nothing, as the second vector of a single text, or of pixels, told by their areas."""
    return isinstance(value, np.ndarray) and (value.ndim > 1 or not value.size)


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        with user_path(path).open("w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as error:
        raise OptionError(f"--output {path}: it cannot be written: {error.strerror or error}") from error


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False, default=_simple)


def _simple(value: Any) -> Any:
    """What JSON has no word for, in words that it has."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
