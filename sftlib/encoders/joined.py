"""The columns of several data sets as those of one: row after row, each set's own columns under its name.

Letters: ``N`` rows of all sets together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.encoded import Column, Encoded, Filed, Ragged, offsets_of


def joined(parts: Mapping[str, Encoded], rows: Mapping[str, int]) -> Encoded:
    """One after the other, each apart from the others.

    What the model sees keeps its name: of a column that a set does not have, such as the types of tokens where rows
    are no pairs, each value is 0. Targets and notes get the name of their set in front, as in ``"topic/target"``; rows
    of others have none.

    Args:
        parts: name -> the columns of a set.
        rows: name -> how many rows of the data it is made of.

    Example:
        >>> words, numbers = Ragged.from_lists([[7, 8], [9]]), np.array([0.5])
        >>> both = joined(
        ...     {
        ...         "a": Encoded({"input_ids": words}, {"tags": words}),
        ...         "b": Encoded({"input_ids": words.take(np.array([1]))}, {"target": numbers}),
        ...     },
        ...     {"a": 2, "b": 1},
        ... )
        >>> both.apart.tolist(), both.inputs["input_ids"].lengths.tolist(), both.targets["b/target"].tolist()
        ([0, 0, 1], [2, 1, 1], [0.0, 0.0, 0.5])
    """
    sets = list(parts.values())
    sizes = [len(part) for part in sets]
    before = np.concatenate([[0], np.cumsum([rows[name] for name in parts])])
    return Encoded(
        {name: _inputs(name, sets) for name in dict.fromkeys(name for part in sets for name in part.inputs)},
        _named([(name, part.targets) for name, part in parts.items()], sizes),
        cost=np.concatenate([part.cost for part in sets]),
        cut=np.concatenate([part.cut for part in sets]),
        owners=np.concatenate([part.owners + first for part, first in zip(sets, before[:-1], strict=True)]),
        notes=_named([(name, part.notes) for name, part in parts.items()], sizes),
        apart=np.repeat(np.arange(len(sets)), sizes),
    )


def own_columns(columns: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Of what `joined` named, that of one set, under its own name.

    Example:
        >>> own_columns({"mood/target": 1, "topic/target": 2}, "topic")
        {'target': 2}
    """
    before = f"{name}/"
    return {key.removeprefix(before): value for key, value in columns.items() if key.startswith(before)}


def _inputs(name: str, sets: Sequence[Encoded]) -> Column:
    """A column of what the model sees, over all sets."""
    found = [part.inputs.get(name) for part in sets]
    if len(found) == 1 and found[0] is not None:
        return found[0]
    if all(isinstance(column, np.ndarray) for column in found):
        return np.concatenate(found)  # type: ignore[arg-type]
    if any(isinstance(column, Filed) for column in found):
        return Filed.concatenate([column for column in found if isinstance(column, Filed)])
    filled = [_zeros(part) if column is None else column for part, column in zip(sets, found, strict=True)]
    return Ragged.concatenate([column for column in filled if isinstance(column, Ragged)])


def _zeros(part: Encoded) -> Ragged:
    """A zero wherever the first ragged column of a set has a value."""
    like = next(column for column in part.inputs.values() if isinstance(column, Ragged))
    return Ragged(np.zeros(int(like.lengths.sum()), np.int8), offsets_of(like.lengths))


def _named(columns: Sequence[tuple[str, Mapping[str, Column]]], sizes: Sequence[int]) -> dict[str, Column]:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = int(starts[-1])
    return {
        f"{name}/{key}": _spread(column, int(starts[number]), total - int(starts[number + 1]))
        for number, (name, own) in enumerate(columns)
        for key, column in own.items()
    }


def _spread(column: Column, before: int, after: int) -> Column:
    """A column with rows of nothing before it and after it."""
    if isinstance(column, Ragged):
        lengths = np.concatenate([np.zeros(before, np.int64), column.lengths, np.zeros(after, np.int64)])
        return Ragged(column.values, offsets_of(lengths))
    if isinstance(column, Filed):
        raise TypeError("targets that lie in files belong to tasks that stand alone")
    return np.concatenate([_nothing(column, before), column, _nothing(column, after)])


def _nothing(like: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.zeros((rows, *like.shape[1:]), like.dtype)
