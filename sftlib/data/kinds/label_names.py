"""Label names: fitted from the labels, or declared and then held to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sftlib.data.kinds.base import Label, RoleKind
from sftlib.data.kinds.labels import plain_label
from sftlib.data.problems import SHOWN, Findings, brief, listed
from sftlib.errors import LabelError, OptionError
from sftlib.support.checking import nearest


def check_label_names(label_names: object) -> tuple[Label, ...] | None:
    """The names as given, as plain Python values in their own order.

    Raises:
        OptionError: they are not a sequence of distinct labels of one type.

    Example:
        >>> check_label_names(["neg", "pos"])
        ('neg', 'pos')
    """
    if label_names is None:
        return None
    if isinstance(label_names, Mapping) and list(label_names) == list(range(len(label_names))):
        label_names = list(label_names.values())  # as ``id2label`` of a model
    if isinstance(label_names, str | bytes | set | frozenset | Mapping) or not isinstance(label_names, Iterable):
        raise OptionError(f"label_names={brief(label_names)}: expected a list or tuple of labels, in their order")
    names = tuple(plain_label(name) for name in label_names)
    wrong = [name for name in names if not isinstance(name, str | int) or (isinstance(name, str) and not name.strip())]
    if wrong:
        raise OptionError(f"label_names: {listed(wrong)} cannot be labels: expected strings, integers or booleans")
    kinds = sorted({type(name).__name__ for name in names})
    if len(kinds) > 1:
        raise OptionError(f"label_names: expected labels of one type, found {' and '.join(kinds)}")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice or not names:
        raise OptionError(f"label_names: {listed(twice)} more than once" if twice else "label_names is empty")
    return names  # type: ignore[return-value]


def fit_label_names(kind: RoleKind, values: Iterable[object]) -> tuple[Label, ...]:
    """The distinct labels of a checked column, sorted."""
    return tuple(sorted({label for value in values for label in kind.labels_of(value)}))


def outside(kind: RoleKind, values: Iterable[tuple[int, object]], names: Sequence[Label]) -> Findings:
    """The rows whose labels are not among ``names``.

    Args:
        kind: of the column.
        values: (row, its normalised value).
        names: the label names.
    """
    findings = Findings()
    known = {(type(name), name) for name in names}
    what, mend = "a label that is not in label_names", f"expected one of {listed(names, 10)}"
    hints: dict[tuple[type, Label], str] = {}  # finding the nearest name is slow, and the same labels come again
    for row, value in values:
        for label in kind.labels_of(value):
            key = (type(label), label)
            if key in known:
                continue
            if key not in hints and len(hints) < SHOWN:
                hints[key] = _hint(label, names)
            findings.add(row, what, label, mend, note=hints.get(key, ""))
    return findings


def _hint(label: Label, names: Sequence[Label]) -> str:
    if names and type(label) is not type(names[0]):
        return f"of type {type(label).__name__}, the label names are of type {type(names[0]).__name__}"
    hint = nearest(label, names)
    return hint if hint.startswith("did you mean") else ""


def holds(names: Sequence[Label] | None, others: Sequence[Label] | None) -> bool:
    """Whether ``names`` has every one of ``others``, of the same type.

    Example:
        >>> holds((1, 0), (True,)), holds(("b", "a"), ("a",)), holds(None, None)
        (False, True, True)
    """
    known = {(type(name), name) for name in names or ()}
    return all((type(name), name) in known for name in others or ())


def union(first: Sequence[Label] | None, second: Sequence[Label] | None) -> tuple[Label, ...] | None:
    """The label names of two data sets together: kept when they are equal, else all of them sorted.

    Raises:
        LabelError: they are of different types.
    """
    if first is None or second is None:
        return None if first is None and second is None else tuple(first or second or ())
    if tuple(first) == tuple(second) and holds(first, second):
        return tuple(first)
    names = [*first, *second]
    kinds = sorted({type(name).__name__ for name in names})
    if len(kinds) > 1:
        raise LabelError(f"the labels of the two data sets are of different types, {' and '.join(kinds)}")
    return tuple(sorted(set(names)))
