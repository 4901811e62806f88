"""YOLO's layout: for each picture a text file with a line for each object, in shares of width and height."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftlib.data.files.masks import read_names
from sftlib.data.files.paths import existing, opened
from sftlib.data.files.pictures import Paths, by_stem, files_in, pictures_in
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import Label
from sftlib.data.pictures import UnreadableError, size_of
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import choice, nearest, raise_together, user_path

OPTIONS = ("names", "split", "missing")


def read_yolo(
    images: Paths,
    labels: Paths | None = None,
    *,
    names: object = None,
    split: str = "train",
    missing: str = "error",
) -> tuple[Table, tuple[Label, ...] | None]:
    """Columns ``image`` and ``objects``, and the names of the classes.

    Args:
        images: the folder of the pictures, or the ``data.yaml`` that names it, or the folder that this lies in.
        labels: the folder of the text files; None for the folder of that name beside ``images``.
        names: of the classes, number 0 first, or a file with one in each line; those of ``data.yaml`` when None.
        split: which of those that ``data.yaml`` names.
        missing: ``"error"``, or ``"empty"`` where a picture without a file has no objects.

    Raises:
        OptionError: options that cannot be.
        DataError: no such folders, lines that cannot be read; all of them in one.
    """
    raise_together([choice("missing", missing, ("error", "empty"))])
    known = read_names(names)
    described = _described(images)
    if described is not None:
        settings = _settings(described)
        known = known or settings.names
        images = settings.folder(split)
    root = existing(images, folder=True)
    folder = existing(_beside(root) if labels is None else labels, folder=True)
    pictures = by_stem(pictures_in(root), root)
    files = by_stem([*files_in(folder, frozenset({".txt"}))], folder)
    alone = [pictures[stem].name for stem in pictures if stem not in files]
    if alone and missing == "error":
        raise DataError(
            f"{folder} holds no .txt file for {len(alone):,} of {len(pictures):,} pictures: {listed(alone, SHOWN)}; "
            "pictures without objects are read with missing='empty'"
        )
    problems: list[str] = []
    objects = [
        _objects(files[stem], picture, known, problems) if stem in files else [] for stem, picture in pictures.items()
    ]
    if problems:
        more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([f"{folder} cannot be used:", *problems[:SHOWN], *more]))
    columns: dict[str, list[Any]] = {"image": [str(p.absolute()) for p in pictures.values()], "objects": objects}
    return Table(columns, len(pictures), options=OPTIONS), known


def _described(images: Paths) -> Path | None:
    """The ``data.yaml`` that is given, or that lies in the folder that is given; None where there is none."""
    if Path(os.fspath(images)).suffix.lower() in (".yaml", ".yml"):
        return existing(images)
    inside = user_path(images) / "data.yaml"
    return inside if inside.is_file() else None


def _beside(images: Path) -> Path:
    """``a/labels/train`` of ``a/images/train``, as others look for it."""
    parts = list(images.absolute().parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if not places:
        raise OptionError(f"labels=None: {images} is not in a folder 'images', beside which one 'labels' would be")
    parts[places[-1]] = "labels"
    return Path(*parts)


def _objects(
    file: Path, picture: Path, names: tuple[Label, ...] | None, problems: list[str]
) -> list[dict[str, object]]:
    with opened(file, "r", errors="replace") as stream:
        lines = [(number, line.split()) for number, line in enumerate(stream, 1) if line.strip()]
    try:
        height, width = size_of(str(picture)) if lines else (1, 1)
    except UnreadableError:  # which the role says, with its row
        height, width = 1, 1
    found: list[dict[str, object]] = []
    for number, cells in lines:
        numbers = [_float(cell) for cell in cells]
        if len(cells) != 5 or None in numbers or not cells[0].isdigit():
            wanted = "a class number and the middle, width and height of a box"
            more = " (a polygon?)" if len(cells) > 6 else ""
            problems.append(f"  {file.name}, line {number}: {brief(' '.join(cells))}, expected {wanted}{more}")
            continue
        code, (x, y, w, h) = int(cells[0]), [float(cell) for cell in cells[1:]]
        if names is not None and code >= len(names):
            problems.append(f"  {file.name}, line {number}: class {code}, and there are {len(names)} names")
        elif max(x, y, w, h) > 1.5:
            problems.append(f"  {file.name}, line {number}: {brief(' '.join(cells))} are pixels, expected shares to 1")
        else:
            box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            found.append({"label": code if names is None else names[code], "box": box})
    return found


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


class _Settings:
    """What a ``data.yaml`` says, of which only the plain part is read: keys, lists and mappings one level deep."""

    def __init__(self, file: Path, values: Mapping[str, Any]) -> None:
        self._file = file
        self._values = values

    @property
    def names(self) -> tuple[Label, ...] | None:
        """Of the classes, number 0 first."""
        found = self._values.get("names")
        if isinstance(found, Mapping):
            if sorted(found) != [str(number) for number in sorted(range(len(found)), key=str)]:
                raise DataError(f"{self._file}: names are numbered {listed(found, 10)}, expected 0 to {len(found) - 1}")
            found = [found[str(number)] for number in range(len(found))]
        return read_names(found) if isinstance(found, list) and found else None

    def folder(self, split: str) -> Path:
        """Of the pictures of a split."""
        given = self._values.get(split)
        if not isinstance(given, str):
            raise DataError(f"{self._file} names no folder for split={split!r}: {nearest(split, self._values)}")
        root = self._file.parent / str(self._values.get("path") or "")
        places = [root / given, self._file.parent / given, self._file.parent / given.removeprefix("../")]
        return next((place for place in places if place.is_dir()), places[0])


def _settings(file: Path) -> _Settings:
    values: dict[str, Any] = {}
    key, pending = "", ""
    with opened(file, "r") as stream:
        for line in stream:
            text = pending + re.sub(r"(^|\s)#.*", "", line.rstrip())
            pending = f"{text} " if _is_open(text) else ""
            if not text.strip() or pending:
                continue
            begin, _, rest = text.strip().partition(":")
            if text.startswith((" ", "\t", "-")):
                _add(values, key, text.strip(), begin, rest.strip())
            else:
                key = begin.strip()
                values[key] = _value(rest.strip())
    return _Settings(file, values)


def _is_open(text: str) -> bool:
    """Whether a list or a mapping in brackets goes on in the next line."""
    value = text.partition(":")[2].strip()
    return value[:1] in ("[", "{") and not value.endswith(("]", "}"))


def _add(values: dict[str, Any], key: str, text: str, begin: str, rest: str) -> None:
    """A line below a key: a member of a list, or a key of its own."""
    if text.startswith("-"):
        values[key] = [*(values[key] if isinstance(values.get(key), list) else []), _bare(text[1:])]
    else:
        values[key] = {**(values[key] if isinstance(values.get(key), dict) else {}), _bare(begin): _bare(rest)}


def _value(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return [_bare(part) for part in text[1:-1].split(",") if part.strip()]
    if text.startswith("{") and text.endswith("}"):
        pairs = [part.partition(":") for part in text[1:-1].split(",") if part.strip()]
        return {_bare(key): _bare(value) for key, _, value in pairs}
    return _bare(text)


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
