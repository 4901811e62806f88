"""Folders that hold one folder a class: of pictures, of sounds, or of texts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from sftlib.data.files.paths import entries, existing, with_mark
from sftlib.data.files.tables import Table
from sftlib.data.pictures import SUFFIXES
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.data.sounds import SUFFIXES as SOUNDS
from sftlib.errors import DataError, OptionError
from sftlib.support.display import counted

OPTIONS = ("encoding", "splits")

#: Names that folders of splits bear; no class is likely to.
_SPLITS = frozenset("train training val valid validation dev test testing eval".split())

#: How files of pictures begin, for those whose name does not say so.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")

#: Role -> what its files are called, in the order in which messages name them.
FILES = {"image": "pictures", "audio": "sounds", "text": ".txt files"}


@final
@dataclass
class _Found:
    """The files of one class."""

    folder: Path
    texts: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    sounds: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def of(self, role: str) -> list[Path]:
        """Those that play a role."""
        return {"image": self.pictures, "audio": self.sounds, "text": self.texts}[role]


def read_folder(path: str | os.PathLike[str], *, encoding: str = "utf-8", role: str | None = None) -> Table:
    """A row for each file, sorted: columns ``image``, ``audio`` or ``text``, ``label`` (its folder) and ``path``.

    Args:
        path: the folder with a folder for each class; those inside of these belong to the class.
        encoding: of texts.
        role: one of `FILES` where the call says which files are meant; None to see what there is.

    Raises:
        DataError: no such folder, no class folders, one without files, texts that cannot be decoded.
    """
    root = existing(path, folder=True)
    encoding = with_mark(encoding)
    inside = entries(root)
    classes = [entry for entry in inside if entry.is_dir() and not entry.name.startswith(".")]
    if not classes:
        raise DataError(
            f"{root} holds no folders: expected one folder per class, with pictures, sounds or .txt files inside"
            + ("; pictures without a class are rows: TaskDataset({'image': [...]})" if _any_picture(inside) else "")
        )
    found = [_sorted_out(folder) for folder in classes]
    _refuse_splits(root, found)
    role = role or _role_of(root, found)
    loose = [entry for entry in inside if entry not in classes]
    _say_passed_over(root, [*loose, *(file for one in found for file in _passed_over(one, role))])
    return _table(found, role, encoding)


def read_splits(
    path: str | os.PathLike[str], splits: Sequence[str], *, encoding: str = "utf-8", role: str | None = None
) -> list[Table]:
    """The folders of several splits, each with a folder for each class.

    Raises:
        OptionError: names that cannot be.
        DataError: as for `read_folder`.
    """
    good = isinstance(splits, Sequence) and not isinstance(splits, str | bytes)
    if not good or not splits or not all(isinstance(name, str) and name for name in splits):
        raise OptionError(f"splits={brief(splits)}: expected the names of folders, such as ('train', 'val')")
    if len(set(splits)) < len(splits):
        raise OptionError(f"splits={brief(splits)}: a name stands there twice")
    root = existing(path, folder=True)
    _say_passed_over(root, [entry for entry in entries(root) if entry.name not in splits])
    return [read_folder(root / name, encoding=encoding, role=role) for name in splits]


def _sorted_out(folder: Path) -> _Found:
    found = _Found(folder)
    for file in _files(folder):
        if file.suffix.lower() == ".txt" and file.is_file() and not file.name.startswith("."):
            found.texts.append(file)
        elif file.suffix.lower() in SOUNDS and file.is_file() and not file.name.startswith("."):
            found.sounds.append(file)
        elif not file.name.startswith(".") and file.is_file() and _is_picture(file):
            found.pictures.append(file)
        else:
            found.others.append(file)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Every file in a folder and in those inside of it, sorted, and folders that are not looked into.

    Those are hidden ones, and links to folders, which could lead round in circles.
    """
    for entry in entries(folder):
        if not entry.is_dir() or entry.is_symlink() or entry.name.startswith("."):
            yield entry
        else:
            yield from _files(entry)


def _is_picture(file: Path) -> bool:
    """Whether a file says by its name or its first bytes that it is a picture; whether it can be read, a role says."""
    if file.suffix.lower() in SUFFIXES:
        return True
    try:
        with open(file, "rb") as stream:
            start = stream.read(16)
    except OSError:
        return False
    return start.startswith(_MAGIC) or start[8:12] == b"WEBP" or start[4:12] == b"ftypavif"


def _any_picture(files: Sequence[Path]) -> bool:
    return any(file.suffix.lower() in SUFFIXES for file in files)


def _refuse_splits(root: Path, found: Sequence[_Found]) -> None:
    """A folder of splits looks like one of classes: ``train`` would become a label."""
    names = [one.folder.name for one in found]
    if not all(name.lower() in _SPLITS for name in names):
        return
    if all(any(entry.is_dir() for entry in entries(one.folder)) for one in found):
        raise DataError(
            f"{root} holds splits, not classes: read them with splits={tuple(names)!r}, or one of them by its own "
            f"path, {str(root / names[0])!r}"
        )


def _role_of(root: Path, found: Sequence[_Found]) -> str:
    """Which role the files play, when nobody said."""
    there = [role for role in FILES if any(one.of(role) for one in found)]
    if len(there) > 1:
        raise DataError(
            f"{root} holds {' and '.join(FILES[role] for role in there)}: say which are meant with "
            + " or ".join(f"{role}={role!r}" for role in there)
        )
    return there[0] if there else "text"


def _passed_over(one: _Found, role: str) -> list[Path]:
    return sorted([*one.others, *(file for other in FILES if other != role for file in one.of(other))])


def _say_passed_over(root: Path, files: Sequence[Path]) -> None:
    loose = [file for file in files if not file.is_dir()]
    unseen = [file for file in files if file.is_dir()]
    said = [
        f"{counted(len(some), one)} {what}: {listed([file.relative_to(root).as_posix() for file in some], SHOWN)}"
        for some, one, what in ((loose, "file", "passed over"), (unseen, "folder", "not looked into"))
        if some
    ]
    if said:
        logging.getLogger("sftlib").warning("%s: %s", root, "; ".join(said))


def _table(found: Sequence[_Found], role: str, encoding: str) -> Table:
    nothing = not any(one.of(other) for one in found for other in FILES)
    what = " and no ".join(FILES.values()) if nothing else FILES[role]
    problems = [f"{one.folder} holds no {what}; remove it or fill it" for one in found if not one.of(role)]
    columns: dict[str, list[object]] = {role: [], "label": [], "path": []}
    for one in found:
        for file in one.of(role):
            columns[role].append(_text(file, encoding, problems) if role == "text" else str(file.absolute()))
            columns["label"].append(one.folder.name)
            columns["path"].append(file.relative_to(one.folder.parent).as_posix())
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([*problems[:SHOWN], *more]))
    return Table(columns, len(columns["label"]), options=OPTIONS)


def _text(file: Path, encoding: str, problems: list[str]) -> str:
    """What a file says; nothing where it cannot be read, and then the problem is noted."""
    try:
        return file.read_text(encoding=encoding)
    except UnicodeError as error:
        problems.append(f"{file} is not {encoding.removesuffix('-sig')}: {error}")
    except OSError as error:
        problems.append(f"{file} cannot be read: {error.strerror}")
    return ""
