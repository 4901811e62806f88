"""Rows of pictures, with what is said of them drawn on: labels, boxes, masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.data.kinds.base import Label
from sftlib.data.kinds.masks import MaskRole
from sftlib.data.kinds.media import ImageRole
from sftlib.data.pixels import decode
from sftlib.data.problems import brief
from sftlib.data.rows import Rows
from sftlib.errors import DataError
from sftlib.support.canvas import Box, Drawn, Gallery, Plane, drawn
from sftlib.support.display import counted

_SPOKEN = ("label", "labels", "target", "same")


def shown_rows(data: Rows, rows: Sequence[int]) -> Gallery:
    """A picture for each row, and for each of a pair.

    Args:
        data: with a role that holds pictures.
        rows: numbers.

    Raises:
        DataError: it holds no pictures.
        MissingExtraError: pillow is not installed.
    """
    roles = [role for role, kind in data.kinds.items() if isinstance(kind, ImageRole)]
    if not roles:
        raise DataError(f"show: it draws pictures, and these rows have none; their roles are {', '.join(data.roles)}")
    return Gallery([_shown(data, row, role) for row in rows for role in roles])


def _shown(data: Rows, row: int, role: str) -> Drawn:
    pixels, names = decode(data.view(role)[row]), tuple(data.label_names or ())
    said = [f"row {row}"]
    said += [f"{name}: {brief(data.view(name)[row], 60)}" for name in _SPOKEN if name in data.roles]
    boxes: list[Box] = []
    mask = None
    if "objects" in data.roles:
        objects = data.view("objects")[row]
        boxes = boxes_of(objects, names)
        said.append(counted(len(objects), "object"))
    if "mask" in data.roles:
        kind = data.kinds["mask"]
        assert isinstance(kind, MaskRole)
        mask = Plane(kind.classes(data.view("mask")[row]), names)
    return drawn(pixels, caption=", ".join(said), boxes=boxes, mask=mask)


def boxes_of(objects: Sequence[Any], names: Sequence[Label]) -> list[Box]:
    """Boxes to draw of objects, mappings or found ones, the surest on top; regions of many have broken lines.

    Example:
        >>> boxes_of([{"label": "cat", "box": (0, 0, 4, 2)}], ["cat"])
        [Box(edges=(0, 0, 4, 2), text='cat', number=0, broken=False)]
    """
    number = {name: place for place, name in enumerate(names)}
    made = []
    for thing in objects:
        if isinstance(thing, dict):
            crowd = bool(thing.get("crowd"))
            made.append(Box(thing["box"], str(thing["label"]), number.get(thing["label"], len(number)), crowd))
        else:
            text = f"{thing.label} {thing.probability:.2f}"
            made.append(Box(thing.box, text, number.get(thing.label, len(number))))
    return made[::-1] if made and not isinstance(objects[0], dict) else made


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many row numbers, evenly over all.

    Example:
        >>> spread(10, 4).tolist(), spread(3, 8).tolist()
        ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)
