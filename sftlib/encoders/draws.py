"""Numbers that are drawn for one row in one epoch."""

from __future__ import annotations

import hashlib
from typing import final

import numpy as np


@final
class Draw:
    """What is drawn for a row: each use has a generator of its own, keyed by seed, epoch, row and the use's name.

    Nothing is shared and nothing moves on, so the order of rows, threads and an interruption cannot change what is
    drawn, nor can a use that is added or left out change what another one draws.

    Args:
        seed: of the run.
        epoch: from 0.
        row: its number in the data.

    Example:
        >>> first, again = Draw(0, epoch=1, row=7), Draw(0, epoch=1, row=7)
        >>> first.generator("crop").random() == again.generator("crop").random()
        True
        >>> first.generator("crop").random() == first.generator("flip").random()
        False
    """

    def __init__(self, seed: int, epoch: int, row: int) -> None:
        # As Python's own: numpy's numbers are written otherwise, and would be another key.
        self._key = (int(seed), int(epoch), int(row))

    def generator(self, use: str) -> np.random.Generator:
        """The generator of one use, at its start."""
        digest = hashlib.sha256(repr((*self._key, str(use))).encode()).digest()
        return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], "<u8")))

    def __repr__(self) -> str:
        return f"Draw(seed={self._key[0]}, epoch={self._key[1]}, row={self._key[2]})"
