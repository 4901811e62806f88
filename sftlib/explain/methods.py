"""How a number is shared out among pieces: three methods, each of any function of dials.

Letters: ``W`` groups of dials (words, fields), ``P`` dials, ``B`` settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.explain.dials import Dials, Read, settings

Floats = NDArray[np.float64]
_ENOUGH, _MOST_STEPS = 0.01, 256


@final
@dataclass(frozen=True)
class Shared:
    """A number, shared out.

    Attributes:
        scores: (W,) the part of each group.
        whole: the number for the input as it is.
        empty: the number with everything taken away.
        steps: passes that each dial was moved through.
    """

    scores: Floats
    whole: float
    empty: float
    steps: int

    @property
    def gap(self) -> float:
        """What the scores fail to add up to, as a share of the difference between the whole and nothing."""
        difference = self.whole - self.empty
        return abs(float(self.scores.sum()) - difference) / max(abs(difference), 1e-6)


class Method(ABC):
    """A way of sharing out.

    Attributes:
        name: as users write it.
        moves: whether dials stand between 0 and 1.
    """

    name: ClassVar[str]
    moves: ClassVar[bool]

    @abstractmethod
    def share(self, dials: Dials, read: Read, groups: Floats) -> Shared:
        """Share out what is read.

        Args:
            dials: of the input.
            read: the number.
            groups: (W, P) the share of each group in each dial.
        """


@final
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """The gradient along the straight way from nothing to the input (Sundararajan et al., 2017); adds up.

    The integral is taken by Gauss and Legendre's rule, with twice the steps until the scores add up to within 1 %.

    Args:
        steps: of the first try.
    """

    name = "integrated-gradients"
    moves = True

    steps: int = 32

    def share(self, dials: Dials, read: Read, groups: Floats) -> Shared:
        whole, empty = ends(dials, read)
        steps = self.steps
        while True:
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            at = settings(steps, dials.pieces) * ((nodes[:, None] + 1) / 2)
            slopes = dials.gradients(torch.from_numpy(at.astype(np.float32)), read).numpy()  # (steps, P)
            found = Shared(groups @ (weights @ slopes / 2), whole, empty, steps)
            if found.gap <= _ENOUGH or steps * 2 > max(_MOST_STEPS, self.steps):
                return found
            steps *= 2


@final
@dataclass(frozen=True)
class LeaveOneOut(Method):
    """What the number loses when a group alone is taken away; exact of that, and need not add up."""

    name = "leave-one-out"
    moves = False

    def share(self, dials: Dials, read: Read, groups: Floats) -> Shared:
        whole, empty = ends(dials, read)
        without = torch.from_numpy((groups == 0).astype(np.float32))  # (W, P)
        (values,) = dials.values(without, read) if len(without) else (torch.zeros(0),)
        return Shared(whole - values.numpy(), whole, empty, len(without))


@final
@dataclass(frozen=True)
class Gradient(Method):
    """The slope at the input itself, times the way from nothing: one pass, and rough."""

    name = "gradient"
    moves = True

    def share(self, dials: Dials, read: Read, groups: Floats) -> Shared:
        whole, empty = ends(dials, read)
        slopes = dials.gradients(torch.ones(1, dials.pieces), read).numpy()[0]
        return Shared(groups @ slopes, whole, empty, 1)


def ends(dials: Dials, read: Read) -> tuple[float, float]:
    """The number for the input as it is, and with everything taken away."""
    both = torch.stack([torch.ones(dials.pieces), torch.zeros(dials.pieces)])
    (values,) = dials.values(both, read)
    return float(values[0]), float(values[1])


METHODS: Final[tuple[type[Method], ...]] = (IntegratedGradients, LeaveOneOut, Gradient)
