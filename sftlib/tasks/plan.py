"""Which rows make up which optimizer step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.encoded import Encoded


class Plan(ABC):
    """The rows of every optimizer step: a pure function of the step, so that resuming needs no memory.

    A task may choose another than all rows shuffled (`Task.plan`): pairs, so many rows of each identity, mixtures.

    Attributes:
        steps_per_epoch: optimizer steps of an epoch.
    """

    steps_per_epoch: int

    @abstractmethod
    def rows(self, step: int) -> NDArray[np.int64]:
        """The row numbers of one optimizer step (from 0); it can be asked in any order."""

    def columns(self, step: int, encoded: Encoded) -> Encoded:
        """The rows that `rows` numbers at this step: those at hand, unless the plan brings its own.

        Args:
            step: from 0.
            encoded: the rows at hand.
        """
        return encoded

    def named(self, step: int, row: int) -> str:
        """What a message calls a row of the data, by its number among those of this step."""
        return str(row)

    @final
    def epoch(self, step: int) -> int:
        """The epoch (from 0) that a step (from 0) belongs to."""
        return step // self.steps_per_epoch
