"""Numbers that are drawn for one row in one epoch."""

from __future__ import annotations

import hashlib
from typing import final

import numpy as np


@final
class Draw:
    """What is drawn for a row: each use has a generator of its own, keyed by seed, epoch, row and the use's name."""

    def __init__(self, seed: int, epoch: int, row: int) -> None:
        self._key = (seed, epoch, row)

    def generator(self, use: str) -> np.random.Generator:
        """The generator of one use, at its start."""
        digest = hashlib.sha256(repr((*self._key, use)).encode()).digest()
        return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))
