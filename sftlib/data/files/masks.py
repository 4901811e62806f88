"""Pictures and their masks: two folders of files of the same names, or two lists."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sftlib.data.files.paths import existing, opened
from sftlib.data.files.pictures import Paths, by_stem, matched, pictures_in
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import Label
from sftlib.data.kinds.label_names import check_label_names
from sftlib.data.kinds.masks import MaskRole
from sftlib.data.plain import whole
from sftlib.data.problems import brief
from sftlib.errors import DataError, OptionError

OPTIONS = ("names", "ignore_index")

#: What masks are often called beside the name of their picture.
_ENDINGS = re.compile(r"[-_](mask|masks|label|labels|gt|seg|segmentation|labelids|l)$", re.IGNORECASE)


def read_masks(images: object, masks: object, *, ignore_index: int | None = None) -> Table:
    """Columns ``image`` and ``mask``.

    Raises:
        OptionError: a number to be ignored that is none.
        DataError: pictures without masks or masks without pictures.
    """
    if ignore_index is not None and whole(ignore_index) is None:
        raise OptionError(f"ignore_index={brief(ignore_index)}: expected a whole number, or None for 255")
    first, second = _columns(images, masks)
    if not first:
        raise DataError("from_masks: there are no pictures")
    kinds = {"mask": MaskRole(ignore=whole(ignore_index))}
    return Table({"image": first, "mask": second}, len(first), options=OPTIONS, kinds=kinds)


def _columns(images: object, masks: object) -> tuple[list[object], list[object]]:
    folders = [isinstance(given, str | os.PathLike) for given in (images, masks)]
    if all(folders):
        pairs = _of_folders(Path(images), Path(masks))  # type: ignore[arg-type]
        return [str(one.absolute()) for one, _ in pairs], [str(other.absolute()) for _, other in pairs]
    lists = [isinstance(given, Sequence) and not isinstance(given, str | bytes) for given in (images, masks)]
    if any(folders) or not all(lists):
        raise OptionError(
            f"from_masks({brief(images)}, {brief(masks)}): expected two folders, or two lists of paths or arrays"
        )
    first, second = list(images), list(masks)  # type: ignore[call-overload]
    if len(first) != len(second):
        raise DataError(
            f"from_masks: {len(first):,} pictures and {len(second):,} masks: give one mask for each picture"
        )
    return first, second


def _of_folders(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    first, second = by_stem(pictures_in(images), images), by_stem(pictures_in(masks), masks)
    if first.keys().isdisjoint(second):  # sky_01.jpg and sky_01_mask.png
        shorter = {_ENDINGS.sub("", stem): file for stem, file in second.items()}
        if len(shorter) == len(second):
            second = shorter
    return matched(first, second, ("pictures", "masks"))


def read_names(names: object) -> tuple[Label, ...] | None:
    """Names of classes: as they are given, or of a file with one in each line.

    Raises:
        OptionError: they are none.
        DataError: there is no such file.
    """
    if isinstance(names, str | os.PathLike):
        with opened(_file(names), "r") as stream:
            names = [line.strip() for line in stream if line.strip()]
    try:
        return check_label_names(names)
    except OptionError as error:
        raise OptionError(str(error).replace("label_names", "names")) from None


def _file(names: Paths) -> Path:
    return existing(names)
