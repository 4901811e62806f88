"""Folders and lists of pictures, and the files that belong to each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sftlib.data.files.paths import entries, existing
from sftlib.data.pictures import SUFFIXES
from sftlib.data.problems import SHOWN, listed
from sftlib.errors import DataError

Paths = str | os.PathLike[str]


def pictures_in(folder: Paths) -> list[Path]:
    """Every picture in a folder and in those inside of it, by their suffixes, sorted.

    Raises:
        DataError: there is no such folder, or none in it.
    """
    root = existing(folder, folder=True)
    found = list(files_in(root, SUFFIXES))
    if not found:
        raise DataError(f"{root} holds no pictures; their suffixes are {', '.join(sorted(SUFFIXES))}")
    return found


def files_in(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Every file of these suffixes in a folder and in those inside of it, sorted."""
    for entry in entries(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from files_in(entry, suffixes)
        elif entry.suffix.lower() in suffixes and entry.is_file():
            yield entry


def by_stem(files: Sequence[Path], root: Path) -> dict[str, Path]:
    """Files under their path from a folder on, without the suffix.

    Raises:
        DataError: two files of one name.
    """
    found: dict[str, Path] = {}
    twice = []
    for file in files:
        stem = file.relative_to(root).with_suffix("").as_posix()
        if stem in found:
            twice.append(f"{found[stem].name} and {file.name}")
        found[stem] = file
    if twice:
        raise DataError(f"{root} has files of one name: {listed(twice, SHOWN)}; rename or remove one of each")
    return found


def matched(first: Mapping[str, Path], second: Mapping[str, Path], what: tuple[str, str]) -> list[tuple[Path, Path]]:
    """Pairs of files of one name.

    Args:
        first: stem -> file.
        second: the same.
        what: what a message calls both, in the plural.

    Raises:
        DataError: some have no counterpart; all of them are counted.
    """
    problems = [
        f"{len(alone):,} of {len(mine):,} {names[0]} have no {names[1]} of the same name: {listed(alone, SHOWN)}"
        for mine, other, names in ((first, second, what), (second, first, what[::-1]))
        if (alone := [mine[stem].name for stem in mine if stem not in other])
    ]
    if problems:
        raise DataError("\n".join([*problems, "pair them by name, or leave out those that are alone"]))
    return [(first[stem], second[stem]) for stem in first]
