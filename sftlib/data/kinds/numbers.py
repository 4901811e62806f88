"""Labels that came as numbers, where the call names the classes: each number becomes the name at its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sftlib.data.columns import Coded, Column, Made
from sftlib.data.kinds.base import Label, RoleKind, is_missing
from sftlib.data.kinds.labels import LabelListRole, are_marks, plain_label
from sftlib.errors import LabelError


def named(kind: RoleKind, values: Sequence[Any], names: Sequence[Label]) -> Sequence[Any]:
    """Values with names in the place of numbers, where all labels are numbers and no name is one.

    Lists of 0 and 1, one for each name, are read as marks.

    Args:
        kind: of the role.
        values: as they came.
        names: the label names, as given.

    Raises:
        LabelError: lists that could be both.

    Example:
        >>> from sftlib.data.kinds.labels import LabelRole
        >>> from sftlib.data.kinds.words import TagsRole
        >>> named(LabelRole(), [1, 0], ["bad", "good"]), named(TagsRole(), [[0, 1]], ["O", "B-PER"])
        (['good', 'bad'], [['O', 'B-PER']])
        >>> named(LabelListRole(), [[1, 0, 0], [0, 1, 1]], ["a", "b", "c"])
        [['a'], ['b', 'c']]
    """
    texts = [name for name in names if isinstance(name, str) and not _is_digits(name)]
    if len(texts) < len(names):
        return values
    looked_at = values.values if isinstance(values, Coded) else values
    marks = are_marks(looked_at, len(names)) if isinstance(kind, LabelListRole) else False
    if marks:
        return _made(values, lambda some: [_marked(row, names) for row in some])
    if not _all_numbers(kind, looked_at):
        return values
    if marks is None:
        raise LabelError(
            f"labels: lists of 0 and 1, as many as label_names ({len(names)}), may be numbers of classes, or "
            "marks of which class holds; write the names of the classes"
        )
    return _made(values, lambda some: kind.decode([_numbers(value) for value in some], [str(name) for name in names]))


def _made(values: Sequence[Any], make: Any) -> Sequence[Any]:
    if isinstance(values, Coded):
        return Coded(values.codes, make(values.values))
    return Made(make, values) if isinstance(values, Column) else make(values)


def _is_digits(name: str) -> bool:
    return name.strip().lstrip("+-").replace(".", "", 1).isdigit()


def _labels(kind: RoleKind, values: Sequence[Any]) -> Iterator[object]:
    for value in values:
        if is_missing(value):
            continue
        members = kind.numbers_of(value)
        yield from (None,) if members is None else members


def _all_numbers(kind: RoleKind, values: Sequence[Any]) -> bool:
    """Whether there are labels, and all of them are whole numbers or the digits of some."""
    found = False
    for label in _labels(kind, values):
        plain = plain_label(label)
        whole = isinstance(plain, int) and not isinstance(plain, bool)
        if not whole and not (isinstance(plain, str) and plain.strip().isdigit()):
            return False
        found = True
    return found


def _numbers(value: Any) -> Any:
    if isinstance(value, str):
        return int(value) if value.strip().isdigit() else value
    if isinstance(value, list | tuple):
        return [_numbers(member) for member in value]
    return value


def _marked(row: Any, names: Sequence[Label]) -> Any:
    return row if is_missing(row) else [name for name, mark in zip(names, row, strict=True) if _is_yes(mark)]


def _is_yes(mark: object) -> bool:
    return str(plain_label(mark)).strip() in ("1", "1.0", "True")
