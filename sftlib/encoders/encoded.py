"""What was written of rows, as a few columns: made once, sliced for every batch.

A column is ragged (values of a length for each row), fixed (an array with a line for each row), or filed (what a row
refers to, decoded when a batch needs it). A row of the data is one row here, but for tasks that cut a long one into
several windows: those say with ``owners`` whose window each is.

Letters: ``N`` rows, ``L`` values of all rows together, ``B`` rows of a batch, ``T`` values of the longest of them,
``F`` the shape of one value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
_BLOCK = 2**20  # values looked at together by whatever walks over all of them


@final
class Ragged:
    """Sequences of different lengths in one flat array, which may lie in a file.

    Args:
        values: ``(L, *F)`` the sequences one after the other, of any type.
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

    def __init__(self, values: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self._set(values, offsets[:-1], np.diff(offsets))
        self._in_order = True  # `_flat` holds these rows and nothing else, one after the other

    def _set(self, flat: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self._flat = flat
        self._starts = starts
        self._lengths = lengths

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]], dtype: type[np.generic] = np.int32) -> Ragged:
        """Build from one list of numbers per row."""
        offsets = offsets_of(np.fromiter(map(len, rows), np.int64, len(rows)))
        values = np.fromiter((value for row in rows for value in row), dtype=dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, in order."""
        offsets = offsets_of(np.concatenate([part.lengths for part in parts]))
        return cls(np.concatenate([part.values for part in parts]), offsets)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """These rows, in this order; the values stay where they are."""
        view = object.__new__(Ragged)
        view._set(self._flat, self._starts[rows], self._lengths[rows])
        view._in_order = False
        return view

    def alike(self, values: NDArray[Any]) -> Ragged:
        """Other values at the very same places, such as the types of these tokens."""
        view = object.__new__(Ragged)
        view._set(values, self._starts, self._lengths)
        view._in_order = self._in_order
        return view

    @property
    def values(self) -> NDArray[Any]:
        """``(L, *F)`` the rows one after the other: no copy, unless they were taken from others."""
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
        """The values, and where each row begins and how long it is."""
        return [self._flat, self._starts, self._lengths]

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, row: int) -> NDArray[Any]:
        start = self._starts[row]
        return self._flat[start : start + self._lengths[row]]

    def positions(self, rows: IntArray) -> NDArray[np.int64]:
        """Where the values of the chosen rows stand in the flat array, one after the other."""
        return ranges(self._starts[rows], self._lengths[rows])

    def gather(self, rows: IntArray) -> NDArray[Any]:
        """The values of the chosen rows, one after the other."""
        return self._flat[self.positions(rows)]

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All values in order, a limited number at a time."""
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
        """Every whole number that occurs, ascending; none may be negative."""
        seen = np.zeros(0, dtype=bool)
        for block in self.blocks():
            found = np.bincount(block) > 0 if len(block) else seen
            short, seen = (found, seen) if len(found) < len(seen) else (seen, found)
            seen[: len(short)] |= short
        return np.flatnonzero(seen)

    def padded(self, rows: IntArray, *, fill: float) -> NDArray[Any]:
        """The chosen rows as one ``(B, T, *F)`` array, filled up on the right; whole numbers become int64."""
        return pad_together({"": self}, rows, fill={"": fill})[0][""]


@final
class Filed:
    """What rows refer to, such as pictures: kept as the data has it, decoded by `Encoder.load` when a batch needs it.

    Args:
        values: of the data, which may lie in a file; asked for one at a time.
        identify: what identifies the content of a value, whatever it refers to.
        rows: (N,) which of ``values`` each row is; all of them, in order, when None.

    Example:
        >>> files = Filed(["a.png", "b.png"], identify=str.encode)
        >>> files.take(np.array([1]))[0]
        'b.png'
    """

    def __init__(
        self, values: Sequence[Any], identify: Callable[[Any], bytes], rows: NDArray[np.int64] | None = None
    ) -> None:
        self._values = values
        self._identify = identify
        self._rows = np.arange(len(values)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Any:
        return self._values[int(self._rows[row])]

    def take(self, rows: NDArray[np.int64]) -> Filed:
        """These rows, in this order."""
        return Filed(self._values, self._identify, self._rows[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Filed]) -> Filed:
        """The rows of all parts, in order; they are of one kind, so that one of them identifies the values of all."""
        return cls(_Chained(parts), parts[0]._identify)

    def identity(self, row: int) -> bytes:
        """What identifies the content of a row."""
        return self._identify(self[row])

    def arrays(self) -> list[NDArray[Any]]:
        """The numbers of the rows; what they refer to is not held here."""
        return [self._rows]


@final
class _Chained(Sequence[Any]):
    """The values of several columns, one after the other, each asked for where it is."""

    def __init__(self, parts: Sequence[Filed]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: Any) -> Any:
        number = int(np.searchsorted(self._ends, row, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        return self._parts[number][row - before]


#: (N, ...) of rows of one shape, or of rows of different lengths, or of rows that refer to something.
Column: TypeAlias = NDArray[Any] | Ragged | Filed


@final
class Encoded:
    """What a task and an encoder made of a data set.

    Args:
        inputs: name of a model input -> its column.
        targets: name -> a column that only the loss sees; empty for unlabelled rows.
        cost: (N,) what a row takes of a pass: tokens, patches, frames. Rows are sorted, cut and shared out by it and by
            nothing else. The lengths of the first ragged input when None; 1 each without one.
        cut: (N,) how much was cut off of each row; nothing when None.
        owners: (N,) ascending, the row of the data that each is a window of; None where each is a row itself.
        notes: name -> a column of what the task needs to read the model's answer, of labelled and unlabelled rows
            alike. The model never sees it.
        apart: (N,) whole numbers; rows of different ones never share a pass. None where all rows may.
    """

    def __init__(
        self,
        inputs: Mapping[str, Column],
        targets: Mapping[str, Column],
        *,
        cost: NDArray[np.int64] | None = None,
        cut: NDArray[np.integer[Any]] | None = None,
        owners: NDArray[np.int64] | None = None,
        notes: Mapping[str, Column] | None = None,
        apart: NDArray[np.int64] | None = None,
    ) -> None:
        self.inputs = dict(inputs)
        self.targets = dict(targets)
        self.notes = dict(notes or {})
        self.cost = _usual_cost(inputs) if cost is None else cost
        self.cut = np.broadcast_to(np.int64(0), len(self.cost)) if cut is None else cut
        self.owners = np.arange(len(self.cost)) if owners is None else owners
        self.apart = apart
        self._digest = ""
        self._identities = _Identities.of(len(self.cost))

    def __len__(self) -> int:
        return len(self.cost)

    @property
    def truncated(self) -> NDArray[np.int64]:
        """Numbers of the rows of which something was cut off."""
        return np.flatnonzero(self.cut > 0)

    def arrays(self) -> list[NDArray[Any]]:
        """Every array that this is made of, each once."""
        parts = [*self.inputs.values(), *self.targets.values(), *self.notes.values()]
        found = [array for part in parts for array in ([part] if isinstance(part, np.ndarray) else part.arrays())]
        return list({id(array): array for array in [*found, self.cost, self.cut, self.owners]}.values())

    def take(self, rows: NDArray[np.int64]) -> Encoded:
        """These rows, in this order; what they are made of is shared, not copied.

        Example:
            >>> words = Encoded({"input_ids": Ragged.from_lists([[7, 8], [9]])}, {})
            >>> part = words.take(np.array([1]))
            >>> len(part), part.cost.tolist()
            (1, [1])
        """
        taken = Encoded(
            _taken(self.inputs, rows),
            _taken(self.targets, rows),
            cost=self.cost[rows],
            cut=self.cut[rows],
            notes=_taken(self.notes, rows),
            apart=None if self.apart is None else self.apart[rows],
        )
        taken._identities = self._identities.take(rows)
        return taken

    def of_rows(self, rows: NDArray[np.int64]) -> Encoded:
        """These rows of the data, in this order, each with all of its windows; what they are made of is shared.

        Example:
            >>> ids = Ragged.from_lists([[7], [8], [9]])
            >>> words = Encoded({"input_ids": ids}, {}, owners=np.array([0, 0, 1]))
            >>> part = words.of_rows(np.array([1, 0]))
            >>> part.inputs["input_ids"].values.tolist(), part.owners.tolist()
            ([9, 7, 8], [0, 1, 1])
        """
        counts = np.bincount(self.owners, minlength=int(rows.max(initial=-1)) + 1)
        windows = counts[rows]
        found = self.take(ranges(offsets_of(counts)[:-1][rows], windows))
        found.owners = np.repeat(np.arange(len(rows)), windows)
        return found

    def with_targets(self, targets: Mapping[str, Column], *, cost: NDArray[np.int64] | None = None) -> Encoded:
        """The same rows with these targets, and what they cost with them; the inputs are shared."""
        cost = self.cost if cost is None else cost
        same = Encoded(
            self.inputs, targets, cost=cost, cut=self.cut, owners=self.owners, notes=self.notes, apart=self.apart
        )
        same._digest = self._digest
        same._identities = self._identities
        return same

    def digest(self) -> str:
        """Hex SHA-256 over the inputs of every row in order, targets left out; worked out once.

        Equal values give an equal digest, wherever they lie; whole numbers in whatever width they are kept.
        """
        if not self._digest:
            sha = hashlib.sha256(str(len(self)).encode())
            for name, part in sorted(self.inputs.items()):
                sha.update(name.encode())
                for piece in _pieces(part):
                    sha.update(piece)
            self._digest = sha.hexdigest()
        return self._digest

    def identity(self, row: int) -> bytes:
        """What tells the inputs of a row from those of any other, in this data set or another; worked out once."""
        return self._identities.known(row) or self._identities.know(row, self._identified(row))

    def _identified(self, row: int) -> bytes:
        sha = hashlib.blake2b(digest_size=_Identities.SIZE)
        for name, part in sorted(self.inputs.items()):
            sha.update(name.encode())
            sha.update(part.identity(row) if isinstance(part, Filed) else _form(part[row]) + _bytes(part[row]))
        return sha.digest()


@final
class _Identities:
    """What identifies each row, as far as it was asked for; rows that were taken from others share theirs.

    Args:
        found: (M, 16) uint8, zeros where nobody has asked yet.
        rows: (N,) which of them these rows are.
    """

    SIZE = 16  # bytes

    def __init__(self, found: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._found = found
        self._rows = rows

    @classmethod
    def of(cls, count: int) -> _Identities:
        """Of rows that nobody has asked about; memory is taken up by those that somebody asks about."""
        return cls(np.zeros((count, cls.SIZE), np.uint8), np.arange(count))

    def take(self, rows: NDArray[np.int64]) -> _Identities:
        """Those of these rows, in this order."""
        return _Identities(self._found, self._rows[rows])

    def known(self, row: int) -> bytes | None:
        """What identifies a row, if somebody has asked before."""
        found = self._found[self._rows[row]]
        return found.tobytes() if found.any() else None

    def know(self, row: int, identity: bytes) -> bytes:
        """Keep it, and hand it back."""
        self._found[self._rows[row]] = np.frombuffer(identity, np.uint8)
        return identity


def _usual_cost(inputs: Mapping[str, Column]) -> NDArray[np.int64]:
    """(N,) the lengths of the first ragged column; without one, each row costs the same."""
    for part in inputs.values():
        if isinstance(part, Ragged):
            return part.lengths
    return np.ones(len(next(iter(inputs.values()), ())), np.int64)


def _taken(columns: Mapping[str, Column], rows: NDArray[np.int64]) -> dict[str, Column]:
    """These rows of every column; ragged ones that stand at the same places go on doing so."""
    found: dict[str, Column] = {}
    first: tuple[Ragged, Ragged] | None = None  # as it was, and as it is taken
    for name, part in columns.items():
        if isinstance(part, np.ndarray):
            found[name] = part[rows]
        elif isinstance(part, Ragged) and first is not None and part._starts is first[0]._starts:
            found[name] = first[1].alike(part._flat)
        else:
            found[name] = taken = part.take(rows)
            first = (part, taken) if isinstance(part, Ragged) and isinstance(taken, Ragged) and not first else first
    return found


def _pieces(part: Column) -> Iterator[bytes]:
    """The bytes of a column, a limited number at a time; of what rows refer to, what identifies it."""
    if isinstance(part, Filed):
        yield from (part.identity(row) for row in range(len(part)))
        return
    if isinstance(part, Ragged):
        yield _form(part._flat)
        yield _bytes(part.lengths)
        yield from map(_bytes, part.blocks())
        return
    yield _form(part)
    yield from (_bytes(part[start : start + _BLOCK]) for start in range(0, len(part), _BLOCK))


def _form(values: NDArray[Any]) -> bytes:
    """Type and shape of each value."""
    whole = np.issubdtype(values.dtype, np.integer)
    return f"{'whole' if whole else values.dtype.str} {values.shape[1:]} ".encode()


def _bytes(values: NDArray[Any]) -> bytes:
    """The bytes of values: whole numbers as int64, all others as they are."""
    whole = np.issubdtype(values.dtype, np.integer)
    return np.ascontiguousarray(values, np.int64 if whole else None).tobytes()


def pad_together(
    parts: Mapping[str, Ragged], rows: IntArray, *, fill: Mapping[str, float]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Lay the chosen rows of several columns of equal lengths side by side, filled up on the right.

    Args:
        parts: name -> the values.
        rows: (B,) row numbers.
        fill: name -> the value beyond a row's end.

    Returns:
        Name -> ``(B, T, *F)``, whole numbers as int64; and the (B, T) mask that is True where a value stands.
    """
    lengths = next(iter(parts.values())).lengths[rows]  # (B,)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]  # (B, T)
    padded, positions, starts = {}, None, None
    for name, part in parts.items():
        if part._starts is not starts or positions is None:  # columns of one store stand at the same places
            positions, starts = part.positions(rows), part._starts
        flat = part._flat
        kind = np.int64 if flat.dtype.kind in "iu" else flat.dtype
        out = np.full((*mask.shape, *flat.shape[1:]), fill[name], dtype=kind)
        out[mask] = flat[positions]
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
