"""Objects in a picture: a label and a box for each."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from sftlib.data.kinds.base import Label, RoleKind, is_missing, kind_of
from sftlib.data.kinds.labels import check_each_label, class_name, plain_label
from sftlib.data.plain import as_list, json_cell
from sftlib.data.problems import Findings, brief
from sftlib.support.checking import is_number

_FORM = 'write [{"label": "cat", "box": (x1, y1, x2, y2)}, ...] in pixels, and [] for a picture without objects'
_KNOWN = ("label", "box", "crowd")
_EDGES = ("xmin", "ymin", "xmax", "ymax")

Box = tuple[float, float, float, float]


@final
class ObjectsRole(RoleKind):
    """The objects in every picture: a list of mappings with ``label`` and ``box``; empty where there are none.

    A box is (x1, y1, x2, y2): left, upper, right and lower edge in pixels, measured from the upper left corner of the
    picture, or a mapping with ``xmin``, ``ymin``, ``xmax`` and ``ymax``. ``"crowd": True`` marks a region of many
    objects, which is neither learned nor held against a model.

    Example:
        >>> ObjectsRole().normalise([[{"label": "cat", "box": [0, 0, 4, 2]}], []])
        [[{'label': 'cat', 'box': (0.0, 0.0, 4.0, 2.0)}], []]
    """

    holds_labels = True
    unit = "objects"

    def check(self, values: Sequence[object]) -> Findings:
        """Find rows that are no list of objects, boxes that are no four numbers, and labels that cannot be one."""
        findings = Findings()
        for row, value in enumerate(values):
            for what, note in self._faults(value):
                findings.add(row, what, None, _FORM, note=note)
        check_each_label(lambda: self._labels(values), findings)
        return findings

    def _faults(self, value: object) -> Iterator[tuple[str, str]]:
        """What is wrong with the objects of a row, apart from their labels: the kinds, and where each is first."""
        objects = as_list(value)
        if is_missing(value) or objects is None:
            yield ("missing objects" if is_missing(value) else f"{kind_of(value)} instead of a list of objects"), ""
            return
        found: dict[str, str] = {}
        for number, thing in enumerate(objects):
            what = _fault(thing)
            if what is not None:
                found.setdefault(what, f"object {number}: {brief(thing, 60)}")
        yield from found.items()

    def _labels(self, values: Sequence[object]) -> Iterator[tuple[int, object]]:
        for row, value in enumerate(values):
            yield from ((row, thing["label"]) for thing in as_list(value) or () if _fault(thing) is None)

    def normalise(self, values: Sequence[object]) -> list[object]:
        """A list of dicts for each row, boxes as tuples of floats."""
        return [[_plain(thing) for thing in as_list(value) or ()] for value in values]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """What the cells say in JSON; an empty cell is missing."""
        return [json_cell(cell) for cell in cells]

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        """The name of each class number of each object."""
        return [
            value
            if (objects := as_list(value)) is None
            else [
                {**thing, "label": class_name(thing["label"], names)}
                if isinstance(thing, Mapping) and "label" in thing
                else thing
                for thing in objects
            ]
            for value in values
        ]

    def labels_of(self, value: object) -> Sequence[Label]:
        """The label of each object."""
        objects: Any = value
        return [thing["label"] for thing in objects]

    def comparable(self, value: object) -> Hashable:
        """The objects without their order."""
        objects: Any = value
        return frozenset((thing["label"], thing["box"], thing.get("crowd", False)) for thing in objects)


def _fault(thing: object) -> str | None:
    """What is wrong with one object, apart from its label."""
    if not isinstance(thing, Mapping):
        return "objects that are no mapping of label and box"
    if not {"label", "box"} <= thing.keys():
        return "objects without a label or a box"
    unknown = [key for key in thing if key not in _KNOWN]
    if unknown:
        return f"objects with {brief(unknown[0])}, which is neither label, box nor crowd"
    if not isinstance(thing.get("crowd", False), bool | np.bool_):
        return "objects whose crowd is neither True nor False"
    edges = _edges(thing["box"])
    if edges is None or not all(is_number(edge) and math.isfinite(edge) for edge in edges):
        return "boxes that are no four finite numbers"
    return None


def _edges(box: object) -> list[Any] | None:
    """The four edges of whatever a box is written as."""
    if isinstance(box, Mapping):
        return [box[name] for name in _EDGES] if set(_EDGES) <= box.keys() else None
    edges = as_list(box)
    return edges if edges is not None and len(edges) == 4 else None


def _plain(thing: Any) -> dict[str, object]:
    left, upper, right, lower = (float(edge) for edge in _edges(thing["box"]) or ())
    crowd = {"crowd": True} if thing.get("crowd", False) else {}
    return {"label": plain_label(thing["label"]), "box": (left, upper, right, lower), **crowd}


def box_faults(box: Box, height: int, width: int) -> str | None:
    """What is wrong with a box in a picture of this size; it may reach beyond an edge by a pixel.

    Example:
        >>> box_faults((0, 0, 4, 2), 2, 4), box_faults((3, 0, 1, 2), 2, 4), box_faults((1, 1, 1, 2), 2, 4)
        (None, 'a box whose corners have changed places', 'a box without area')
    """
    left, upper, right, lower = box
    if right < left or lower < upper:
        return "a box whose corners have changed places"
    if right == left or lower == upper:
        return "a box without area"
    if min(left, upper) < -1 or right > width + 1 or lower > height + 1:
        return "a box that reaches out of the picture"
    if left >= 0 and upper >= 0 and right <= 1 and lower <= 1 and min(width, height) > 1:
        return "a box in shares of the picture instead of pixels"
    if left >= width or upper >= height or right <= 0 or lower <= 0:
        return "a box that lies outside of the picture"
    return None
