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
        steps: that the way from nothing was cut into, or settings that were tried.
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

    The way is cut into steps, and each into two until the scores add up to within 1 %; every slope is computed once.
    Steps are shorter where the way begins: a model has seen most of what it goes by long before the input is whole
    (Miglani et al., 2020), and the slope hardly changes from there.

    Args:
        steps: of the first try; at least two are made.
    """

    name = "integrated-gradients"
    moves = True

    steps: int = 16

    def share(self, dials: Dials, read: Read, groups: Floats) -> Shared:
        whole, empty = ends(dials, read)
        steps = max(2, self.steps)
        slopes = _slopes(dials, read, np.arange(1, steps + 1) / steps)  # (steps, P)
        while True:
            found = Shared(groups @ (_weights(steps) @ slopes), whole, empty, steps)
            if found.gap <= _ENOUGH or steps * 2 > max(_MOST_STEPS, self.steps):
                return found
            between = _slopes(dials, read, (np.arange(steps) + 0.5) / steps)
            slopes = np.stack([between, slopes], axis=1).reshape(2 * steps, -1)
            steps *= 2


def _slopes(dials: Dials, read: Read, times: Floats) -> Floats:
    """(S, P) how the number changes with each dial, at ``times`` (S,) from 0 to 1, each of which stands at its square.

    So the pace grows steadily from nothing to two.
    """
    at = settings(len(times), dials.pieces) * times[:, None] ** 2
    found: Floats = dials.gradients(torch.from_numpy(at.astype(np.float32)), read).numpy()
    return found


def _weights(steps: int) -> Floats:
    """(steps,) of the slopes at equal times, in the integral over the way; the first time of all has a pace of 0.

    The trapezoidal rule with Gregory's corrections at its ends, which is exact of cubics. A rule of equal steps has all
    its points again in that of twice as many, and does not crowd them at the end of the way too, as those of Gauss or
    of Clenshaw and Curtis do: on tuned models these need more slopes.
    """
    found = np.ones(steps + 1)
    corrections = np.array([-5 / 8, 1 / 6, -1 / 24])
    found[:3] += corrections
    found[-3:] += corrections[::-1]
    pace = 2 * np.arange(steps + 1) / steps
    return (found * pace / steps)[1:]


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
    (values,) = dials.ends(read)
    return float(values[0]), float(values[1])


METHODS: Final[tuple[type[Method], ...]] = (IntegratedGradients, LeaveOneOut, Gradient)
