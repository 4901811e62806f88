"""Tokenised rows as a few flat arrays: made once, sliced for every batch.

A row of the data is one row here, but for tasks that cut a long one into several windows: those say with ``owners``
whose window each is.

Letters: ``N`` rows, ``L`` tokens of all rows together, ``B`` rows of a batch, ``T`` tokens of the longest of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
_BLOCK = 2**20  # tokens looked at together by whatever walks over all of them


@final
class Ragged:
    """Sequences of different lengths in one flat array, which may lie in a file.

    Args:
        values: (L,) the sequences one after the other.
        offsets: (N + 1,) int64; row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Example:
        >>> words = Ragged.from_lists([[7, 8], [9]])
        >>> words.lengths.tolist(), words[0].tolist()
        ([2, 1], [7, 8])
        >>> words.padded(np.array([1, 0]), fill=0).tolist()
        [[9, 0], [7, 8]]
        >>> words.take(np.array([1])).values.tolist()
        [9]
    """

    def __init__(self, values: IntArray, offsets: NDArray[np.int64]) -> None:
        self._set(values, offsets[:-1], np.diff(offsets))
        self._in_order = True  # `_flat` holds these rows and nothing else, one after the other

    def _set(self, flat: IntArray, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self._flat = flat
        self._starts = starts
        self._lengths = lengths

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]], dtype: type[np.integer[Any]] = np.int32) -> Ragged:
        """Build from one list per row."""
        offsets = offsets_of(np.fromiter(map(len, rows), np.int64, len(rows)))
        values = np.fromiter((value for row in rows for value in row), dtype=dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, in order."""
        offsets = offsets_of(np.concatenate([part.lengths for part in parts]))
        return cls(np.concatenate([part.values for part in parts]), offsets)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """These rows, in this order; the tokens stay where they are."""
        view = object.__new__(Ragged)
        view._set(self._flat, self._starts[rows], self._lengths[rows])
        view._in_order = False
        return view

    def alike(self, values: IntArray) -> Ragged:
        """Other values at the very same places, such as the token types of these tokens."""
        view = object.__new__(Ragged)
        view._set(values, self._starts, self._lengths)
        view._in_order = self._in_order
        return view

    @property
    def values(self) -> IntArray:
        """(L,) the rows one after the other: no copy, unless they were taken from others."""
        return self._flat if self._in_order else self.gather(np.arange(len(self)))

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,) where each row begins in ``values``, and the end."""
        return offsets_of(self._lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) the length of each row."""
        return self._lengths

    def arrays(self) -> list[NDArray[Any]]:
        """The tokens, and where each row begins and how long it is."""
        return [self._flat, self._starts, self._lengths]

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, row: int) -> IntArray:
        start = self._starts[row]
        return self._flat[start : start + self._lengths[row]]

    def positions(self, rows: IntArray) -> NDArray[np.int64]:
        """Where the tokens of the chosen rows stand in the flat array, one after the other."""
        return ranges(self._starts[rows], self._lengths[rows])

    def gather(self, rows: IntArray) -> IntArray:
        """The tokens of the chosen rows, one after the other."""
        return self._flat[self.positions(rows)]

    def blocks(self) -> Iterator[IntArray]:
        """All tokens in order, a limited number at a time."""
        if self._in_order:
            yield from (self._flat[start : start + _BLOCK] for start in range(0, len(self._flat), _BLOCK))
            return
        ends = np.cumsum(self._lengths)
        first = 0
        while first < len(self):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _BLOCK)))
            yield self.gather(np.arange(first, min(last, len(self))))
            first = last

    def distinct(self) -> IntArray:
        """Every token that occurs, ascending; tokens are not negative."""
        seen = np.zeros(0, dtype=bool)
        for block in self.blocks():
            found = np.bincount(block) > 0 if len(block) else seen
            short, seen = (found, seen) if len(found) < len(seen) else (seen, found)
            seen[: len(short)] |= short
        return np.flatnonzero(seen)

    def padded(self, rows: IntArray, *, fill: int) -> NDArray[np.int64]:
        """The chosen rows as one (B, T) array, filled up on the right."""
        return pad_together({"": self}, rows, fill={"": fill})[0][""]


@final
class Encoded:
    """What a task made of a data set: inputs of different lengths, targets of one shape or of a length for each row.

    Args:
        inputs: name of a model input -> its tokens; all share the lengths of ``input_ids``.
        targets: name -> (N, ...) array, or the target of every token; empty for unlabelled rows.
        uncut_lengths: (N,) tokens of each row before truncation.
        owners: (N,) ascending, the row of the data that each is a window of; None where each is a row itself.
        notes: name -> (N, ...) array, or something of every token: what the task needs to read the model's answer, of
            labelled and unlabelled rows alike. The model never sees it.
        sizes: (N,) positions that a row takes in a pass, where those are more than its tokens.
    """

    def __init__(
        self,
        inputs: Mapping[str, Ragged],
        targets: Mapping[str, NDArray[Any] | Ragged],
        uncut_lengths: NDArray[np.integer[Any]],
        owners: NDArray[np.int64] | None = None,
        notes: Mapping[str, NDArray[Any] | Ragged] | None = None,
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        self.inputs = dict(inputs)
        self.targets = dict(targets)
        self.notes = dict(notes or {})
        self.uncut_lengths = uncut_lengths
        self.owners = np.arange(len(uncut_lengths)) if owners is None else owners
        self._sizes = sizes
        self._digest = ""

    def __len__(self) -> int:
        return len(self.uncut_lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each row, as the model sees them."""
        return self.inputs["input_ids"].lengths

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(N,) positions of each row in a pass: by these rows are sorted and cut."""
        return self.lengths if self._sizes is None else self._sizes

    @property
    def truncated(self) -> NDArray[np.int64]:
        """Numbers of the rows that lost tokens."""
        return np.flatnonzero(self.uncut_lengths > self.lengths)

    def arrays(self) -> list[NDArray[Any]]:
        """Every array that this is made of, each once."""
        parts = [*self.inputs.values(), *self.targets.values(), *self.notes.values()]
        found = [array for part in parts for array in (part.arrays() if isinstance(part, Ragged) else [part])]
        return list({id(array): array for array in [*found, self.uncut_lengths, self.owners]}.values())

    def take(self, rows: NDArray[np.int64]) -> Encoded:
        """These rows, in this order; the tokens are shared, not copied.

        Example:
            >>> words = Encoded({"input_ids": Ragged.from_lists([[7, 8], [9]])}, {}, np.array([5, 1]))
            >>> part = words.take(np.array([1]))
            >>> len(part), part.lengths.tolist()
            (1, [1])
        """
        ids = self.inputs["input_ids"]
        first = ids.take(rows)
        inputs = {
            name: first.alike(part._flat) if part._starts is ids._starts else part.take(rows)
            for name, part in self.inputs.items()
        }
        targets = {name: _taken(values, rows) for name, values in self.targets.items()}
        sizes = None if self._sizes is None else self._sizes[rows]
        notes = {name: _taken(values, rows) for name, values in self.notes.items()}
        return Encoded(inputs, targets, self.uncut_lengths[rows], notes=notes, sizes=sizes)

    def of_rows(self, rows: NDArray[np.int64]) -> Encoded:
        """These rows of the data, in this order, each with all of its windows; the tokens are shared.

        Example:
            >>> words = Encoded(
            ...     {"input_ids": Ragged.from_lists([[7], [8], [9]])}, {}, np.ones(3), np.array([0, 0, 1])
            ... )
            >>> part = words.of_rows(np.array([1, 0]))
            >>> part.inputs["input_ids"].values.tolist(), part.owners.tolist()
            ([9, 7, 8], [0, 1, 1])
        """
        counts = np.bincount(self.owners, minlength=int(rows.max(initial=-1)) + 1)
        windows = counts[rows]
        found = self.take(ranges(offsets_of(counts)[:-1][rows], windows))
        found.owners = np.repeat(np.arange(len(rows)), windows)
        return found

    def with_targets(
        self, targets: Mapping[str, NDArray[Any] | Ragged], sizes: NDArray[np.int64] | None = None
    ) -> Encoded:
        """The same rows with these targets, and the sizes that they have with them; the tokens are shared."""
        same = Encoded(self.inputs, targets, self.uncut_lengths, self.owners, self.notes, sizes)
        same._digest = self._digest
        return same

    def digest(self) -> str:
        """Hex SHA-256 over the inputs of every row in order, targets left out; worked out once.

        Equal tokens give an equal digest, wherever they lie and in whatever width they are kept.
        """
        if not self._digest:
            sha = hashlib.sha256(np.ascontiguousarray(self.lengths, np.int64).data)
            for name, part in sorted(self.inputs.items()):
                sha.update(name.encode())
                for block in part.blocks():
                    sha.update(np.ascontiguousarray(block, np.int32).data)
            self._digest = sha.hexdigest()
        return self._digest


def _taken(values: NDArray[Any] | Ragged, rows: NDArray[np.int64]) -> NDArray[Any] | Ragged:
    return values.take(rows) if isinstance(values, Ragged) else values[rows]


def pad_together(
    parts: Mapping[str, Ragged], rows: IntArray, *, fill: Mapping[str, int]
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.bool_]]:
    """Lay the chosen rows of several inputs of equal lengths side by side, filled up on the right.

    Args:
        parts: name -> the tokens.
        rows: (B,) row numbers.
        fill: name -> the value beyond a row's end.

    Returns:
        Name -> (B, T) int64, and the (B, T) mask that is True where a token stands.
    """
    lengths = next(iter(parts.values())).lengths[rows]  # (B,)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]  # (B, T)
    padded, positions, starts = {}, None, None
    for name, part in parts.items():
        if part._starts is not starts or positions is None:  # inputs of one store stand at the same places
            positions, starts = part.positions(rows), part._starts
        out = np.full(mask.shape, fill[name], dtype=np.int64)
        out[mask] = part._flat[positions]
        padded[name] = out
    return padded, mask


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The whole numbers of several ranges, one range after the other.

    Example:
        >>> ranges(np.array([7, 2]), np.array([2, 3])).tolist()
        [7, 8, 2, 3, 4]
    """
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def offsets_of(lengths: IntArray) -> NDArray[np.int64]:
    """(N + 1,) where each of these rows begins when they stand one after the other, and the end."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
