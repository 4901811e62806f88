"""What is answered of one thing, and of two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Embedded:
    """Where something lies."""

    _vector: bytes = field(repr=False)

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(D,) of length 1."""
        return np.frombuffer(self._vector, dtype=np.float32)

    def __repr__(self) -> str:
        return f"Prediction(embedding=<{len(self.embedding)} numbers>)"


@final
@dataclass(frozen=True)
class Verified:
    """A verdict on two things.

    Attributes:
        similarity: the cosine of their embeddings, from -1 to 1.
        same: whether they are of one identity, which is where the similarity reaches the threshold; None without one.
        threshold: chosen on the validation rows of the run; None where there were none.
    """

    similarity: float
    same: bool | None = None
    threshold: float | None = None

    def __repr__(self) -> str:
        same = "" if self.same is None else f"same={self.same}, "
        return f"Prediction({same}similarity={self.similarity:.4g})"
