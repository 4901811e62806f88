"""Tokenised rows as a few flat arrays: made once, sliced for every batch.

Letters: ``N`` rows, ``L`` tokens of all rows together, ``B`` rows of a batch, ``T`` tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]


@final
class Ragged:
    """Sequences of different lengths in one flat array.

    Args:
        values: (L,) the sequences one after the other.
        offsets: (N + 1,) int64; row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Example:
        >>> words = Ragged.from_lists([[7, 8], [9]])
        >>> words.lengths.tolist(), words[0].tolist()
        ([2, 1], [7, 8])
        >>> words.padded(np.array([1, 0]), fill=0).tolist()
        [[9, 0], [7, 8]]
    """

    def __init__(self, values: IntArray, offsets: NDArray[np.int64]) -> None:
        self.values = values
        self.offsets = offsets

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]], dtype: type[np.integer[Any]] = np.int32) -> Ragged:
        """Build from one list per row."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        values = np.fromiter((value for row in rows for value in row), dtype=dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, in order."""
        lengths = np.concatenate([part.lengths for part in parts])
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(np.concatenate([part.values for part in parts]), offsets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) the length of each row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def padded(self, rows: IntArray, *, fill: int) -> NDArray[np.int64]:
        """The chosen rows as one (B, T) array, filled up on the right."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        out = np.full((len(rows), int((ends - starts).max(initial=0))), fill, dtype=np.int64)
        for line, start, end in zip(out, starts.tolist(), ends.tolist(), strict=True):
            line[: end - start] = self.values[start:end]
        return out


@final
class Encoded:
    """What a task made of a data set: inputs of different lengths, targets of one shape.

    Args:
        inputs: name of a model input -> its tokens; all share the lengths of ``input_ids``.
        targets: name -> (N, ...) array; empty for unlabelled rows.
        uncut_lengths: (N,) tokens of each row before truncation.
    """

    def __init__(
        self,
        inputs: Mapping[str, Ragged],
        targets: Mapping[str, NDArray[Any]],
        uncut_lengths: NDArray[np.int64],
    ) -> None:
        self.inputs = dict(inputs)
        self.targets = dict(targets)
        self.uncut_lengths = uncut_lengths

    def __len__(self) -> int:
        return len(self.uncut_lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each row, as the model sees them."""
        return self.inputs["input_ids"].lengths

    @property
    def truncated(self) -> NDArray[np.int64]:
        """Numbers of the rows that lost tokens."""
        return np.flatnonzero(self.uncut_lengths > self.lengths)
