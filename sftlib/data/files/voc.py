"""Pascal VOC's layout: an XML file for each picture."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

from sftlib.data.files.paths import existing, opened
from sftlib.data.files.pictures import Paths, by_stem, files_in, pictures_in
from sftlib.data.files.tables import Table
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.errors import DataError, OptionError
from sftlib.support.display import counted

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_MOST_BYTES = 2**24  # of one file: a few thousand boxes have a few hundred thousand


def read_voc(annotations: Paths, images: Paths, *, ids: Paths | Sequence[str] | None = None) -> Table:
    """Columns ``image``, ``objects`` and ``id`` (the name of the file without its suffix), sorted.

    Pixels are counted from 1 there and from 0 here, so 1 is taken off of every edge. Objects that are marked as
    difficult count neither for nor against a detector, as in VOC's own evaluation: they become a ``crowd``.

    Args:
        annotations: the folder of the XML files.
        images: the folder of the pictures.
        ids: which of them, as a list or as a file with one in each line; all when None.

    Raises:
        DataError: no such folders, files of another layout, and where; pictures that are not there.
    """
    root, folder = existing(annotations, folder=True), existing(images, folder=True)
    files = by_stem([*files_in(root, frozenset({".xml"}))], root)
    if not files:
        raise DataError(f"{root} holds no .xml files")
    files = _chosen(files, ids, root)
    pictures = pictures_in(folder)
    by_name = {picture.name: picture for picture in pictures}
    stems = {picture.stem: picture for picture in pictures}
    columns: dict[str, list[Any]] = {"image": [], "objects": [], "id": []}
    problems: list[str] = []
    lying = []
    for stem, file in files.items():
        name, objects = _read(file, problems)
        picture = by_name.get(name) if Path(name).stem == file.stem else None
        if picture is None:
            picture = stems.get(file.stem)
            lying += [file.name] if name and picture is not None and name != picture.name else []
        if picture is None:
            problems.append(f"  {file.name}: {folder} holds no picture {file.stem!r}")
            continue
        columns["image"].append(str(picture.absolute()))
        columns["objects"].append(objects)
        columns["id"].append(stem)
    if problems:
        more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([f"{root} cannot be used:", *problems[:SHOWN], *more]))
    difficult = sum(thing.get("crowd", False) for objects in columns["objects"] for thing in objects)
    if difficult:
        logging.getLogger("sftlib").warning(
            "%s: %s marked as difficult, neither learned nor held against a model",
            root,
            counted(difficult, "object"),
        )
    if lying:
        logging.getLogger("sftlib").warning(
            "%s: %d files name another picture than their own name does, which was taken: %s",
            root,
            len(lying),
            listed(lying, SHOWN),
        )
    return Table(columns, len(columns["id"]), options=("ids",))


def _chosen(files: dict[str, Path], ids: object, root: Path) -> dict[str, Path]:
    if ids is None:
        return files
    if isinstance(ids, str | os.PathLike):
        with opened(existing(ids), "r") as stream:  # VOC's own have a second column, 1 or -1
            ids = [line.split()[0] for line in stream if line.strip()]
    if not isinstance(ids, Sequence) or not all(isinstance(name, str) for name in ids):
        raise OptionError(f"ids={brief(ids)}: expected a list of names without suffix, or a file with one in each line")
    missing = [name for name in ids if name not in files]
    if missing:
        raise DataError(
            f"{root} holds no .xml files for {len(missing):,} of {len(ids):,} ids: {listed(missing, SHOWN)}"
        )
    return {name: files[name] for name in ids}


def _read(file: Path, problems: list[str]) -> tuple[str, list[dict[str, object]]]:
    """The name of the picture, and its objects; what is wrong is noted."""
    if file.stat().st_size > _MOST_BYTES:
        problems.append(f"  {file.name} has {file.stat().st_size:,} bytes, expected at most {_MOST_BYTES:,}")
        return "", []
    with opened(file, "rb") as stream:
        content = stream.read()
    walk = _Walk()
    try:
        walk.read(content)
    except (expat.ExpatError, _RefusedError) as error:
        problems.append(f"  {file.name}: no XML that can be read: {error}")
        return "", []
    objects: list[dict[str, object]] = []
    for number, thing in enumerate(walk.objects):
        label, edges = thing.get("name", ""), [_number(thing.get(f"bndbox/{edge}")) for edge in _EDGES]
        if not label or None in edges:
            problems.append(f"  {file.name}: object {number} has name {label!r} and bndbox {edges}")
        else:
            box = tuple(max(0.0, edge - 1) for edge in edges if edge is not None)
            passed_over = {"crowd": True} if thing.get("difficult") == "1" else {}
            objects.append({"label": label, "box": box, **passed_over})
    return walk.picture, objects


class _RefusedError(Exception):
    """An XML file that declares entities of its own, which can fill the memory."""


class _Walk:
    """Goes through a file and keeps the texts that are wanted.

    Attributes:
        picture: the name that the file gives its picture.
        objects: of each object the texts under their paths; those of its parts are left out.
    """

    def __init__(self) -> None:
        self.picture = ""
        self.objects: list[dict[str, str]] = []
        self._path: list[str] = []
        self._text: list[str] = []

    def read(self, content: bytes) -> None:
        """Read the bytes of a file."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.EntityDeclHandler = self._refuse
        parser.Parse(content, True)

    def _refuse(self, *_: object) -> None:
        raise _RefusedError("it declares entities of its own")

    def _start(self, name: str, _: object) -> None:
        self._path.append(name)
        self._text.clear()
        if self._path[1:] == ["object"]:
            self.objects.append({})

    def _end(self, name: str) -> None:
        text, path = "".join(self._text).strip(), self._path[1:]
        if path == ["filename"]:
            self.picture = text
        elif path[:1] == ["object"] and len(path) in (2, 3) and self.objects:
            self.objects[-1].setdefault("/".join(path[1:]), text)
        self._path.pop()
        self._text.clear()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
