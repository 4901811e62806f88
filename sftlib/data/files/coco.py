"""COCO's layout: one JSON file with images, categories and annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sftlib.data.files.json import parsed
from sftlib.data.files.paths import existing
from sftlib.data.files.pictures import Paths
from sftlib.data.files.tables import Table
from sftlib.data.kinds.base import kind_of
from sftlib.data.plain import whole
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.errors import DataError
from sftlib.support.checking import is_number


def read_coco(path: Paths, images: Paths | None = None) -> tuple[Table, tuple[str, ...]]:
    """Columns ``image``, ``objects`` and ``id``, a row for each image; and the names of all categories, by their ids.

    Boxes are turned from (x, y, width, height) into (x1, y1, x2, y2); ``iscrowd`` becomes ``crowd``.

    Args:
        path: the file.
        images: the folder of the pictures; that of the file when None.

    Raises:
        DataError: no such file or folder, no JSON, or another layout, and where.
    """
    file = existing(path)
    folder = file.parent if images is None else existing(images, folder=True)
    content = parsed(file)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise DataError(
            f"{file} holds {brief(content, 80)}, expected COCO's layout: an object with 'images', 'annotations' and "
            "'categories'"
        )
    problems: list[str] = []
    names = dict(_numbered(content, "categories", "name", problems))
    files = dict(_numbered(content, "images", "file_name", problems))
    objects = _objects(content, names, files, problems)
    twice = sorted({name for name in names.values() if [*names.values()].count(name) > 1})
    problems += [f"  categories: the name {listed(twice)} stands there more than once"] if twice else []
    if problems:
        more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([f"{file} is not of COCO's layout:", *problems[:SHOWN], *more]))
    columns: dict[str, list[Any]] = {
        "image": [os.path.abspath(folder / name) for name in files.values()],
        "objects": [objects[number] for number in files],
        "id": list(files),
    }
    return Table(columns, len(files), options=("images",)), tuple(names[number] for number in sorted(names))


def _numbered(content: Mapping[str, Any], part: str, key: str, problems: list[str]) -> Iterator[tuple[int, str]]:
    """The id of each member of a list, and its text under a key."""
    seen = set()
    for place, member in _members(content, part, problems):
        number, text = whole(member.get("id")), member.get(key)
        if number is None or not isinstance(text, str) or not text.strip():
            problems.append(f"  {place} has id {brief(member.get('id'))} and {key} {brief(text)}")
        elif number in seen:
            problems.append(f"  {place} has the id {number} of an earlier one")
        else:
            seen.add(number)
            yield number, text


def _members(content: Mapping[str, Any], part: str, problems: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    members = content[part]
    if not isinstance(members, list):
        problems.append(f"  {part} is {kind_of(members)}, expected a list")
        return
    for number, member in enumerate(members):
        if isinstance(member, dict):
            yield f"{part}[{number}]", member
        else:
            problems.append(f"  {part}[{number}] is {kind_of(member)}, expected an object")


def _objects(
    content: Mapping[str, Any], names: Mapping[int, str], files: Mapping[int, str], problems: list[str]
) -> dict[int, list[dict[str, object]]]:
    """Id of an image -> its objects."""
    found: dict[int, list[dict[str, object]]] = {number: [] for number in files}
    for place, member in _members(content, "annotations", problems):
        image, category = whole(member.get("image_id")), whole(member.get("category_id"))
        box = _corners(member.get("bbox"))
        if image not in found or image is None:
            problems.append(f"  {place} is of image {brief(member.get('image_id'))}, which is not there")
        elif category not in names or category is None:
            problems.append(f"  {place} is of category {brief(member.get('category_id'))}, which is not there")
        elif box is None:
            problems.append(f"  {place} has bbox {brief(member.get('bbox'))}, expected [x, y, width, height]")
        else:
            crowd = {"crowd": True} if member.get("iscrowd") else {}
            found[image].append({"label": names[category], "box": box, **crowd})
    return found


def _corners(box: object) -> tuple[float, float, float, float] | None:
    if not isinstance(box, Sequence) or len(box) != 4 or not all(is_number(number) for number in box):
        return None
    left, upper, width, height = (float(number) for number in box)
    return left, upper, left + width, upper + height
