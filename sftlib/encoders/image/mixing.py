"""Two pictures in one: pure functions of both and a `Draw`, and which picture is mixed into which.

The second picture is one of the data set, told by its number, which is a function of (seed, epoch, row) and of how many
rows there are. It is shown as it would be in its own place in that epoch. So neither how a batch is cut, nor processes,
threads or a resume can change what is seen, and a micro-batch of one row is mixed as any other.

Letters: ``B`` rows of a micro-batch, ``H`` and ``W`` pixels of the model's pictures.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.draws import Draw

Values: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Mixing(ABC):
    """One way of putting two pictures into one.

    Args:
        alpha: of the Beta distribution, alike on both sides, that the share of the first one is drawn from: below 1
            mostly one of the two is seen, at 1 every share is as likely, above 1 mostly both.
    """

    alpha: float

    use: ClassVar[str]

    @abstractmethod
    def __call__(self, own: Values, other: Values, draw: Draw) -> tuple[Values, float]:
        """The mixture, and the share of ``own`` in it, from 0 to 1.

        Args:
            own: (3, H, W) as the model would see it.
            other: the same, of the second picture.
            draw: of the row and epoch of ``own``.
        """


@final
@dataclass(frozen=True)
class Mixup(Mixing):
    """Both at once, one shining through the other (Zhang et al., 2018).

    Example:
        >>> black, white = np.zeros((3, 2, 2), np.float32), np.ones((3, 2, 2), np.float32)
        >>> mixed, share = Mixup(1.0)(black, white, Draw(0, 0, 0))
        >>> bool(np.allclose(mixed, 1 - share))
        True
    """

    use: ClassVar[str] = "mixup"

    def __call__(self, own: Values, other: Values, draw: Draw) -> tuple[Values, float]:
        share = float(draw.generator(self.use).beta(self.alpha, self.alpha))
        return own * np.float32(share) + other * np.float32(1 - share), share


@final
@dataclass(frozen=True)
class CutMix(Mixing):
    """A part of the second one covers the same part of the first (Yun et al., 2019).

    The part has the proportions of the picture and its middle anywhere; of what reaches beyond the edge nothing is
    seen, and the share is that of the pixels that are.

    Example:
        >>> black, white = np.zeros((3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
        >>> mixed, share = CutMix(1.0)(black, white, Draw(0, 0, 0))
        >>> float(1 - mixed.mean()) == share
        True
    """

    use: ClassVar[str] = "cutmix"

    def __call__(self, own: Values, other: Values, draw: Draw) -> tuple[Values, float]:
        generator = draw.generator(self.use)
        side = math.sqrt(1 - generator.beta(self.alpha, self.alpha))
        (top, bottom), (left, right) = (_stretch(length, side, generator) for length in own.shape[1:])
        mixed = own.copy()
        mixed[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (own.shape[1] * own.shape[2])


def _stretch(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """From where to where a stretch reaches whose middle may lie anywhere, as far as it is inside."""
    half, middle = round(length * share) / 2, generator.uniform(0, length)
    return max(0, round(middle - half)), min(length, round(middle + half))


def mixings(mixup: float, cutmix: float) -> tuple[Mixing, ...]:
    """Those that are asked for, by their alphas; 0 for none.

    Example:
        >>> mixings(0.2, 0.0)
        (Mixup(alpha=0.2),)
    """
    asked = [kind(alpha) for kind, alpha in ((Mixup, mixup), (CutMix, cutmix)) if alpha]
    return tuple(asked)


def chosen(ways: Sequence[Mixing], draw: Draw) -> Mixing:
    """One of several, each as often as the others."""
    return ways[int(draw.generator("mixing").integers(len(ways)))]


def partner(row: int, rows: int, draw: Draw) -> int:
    """The number of another row, any of them as likely; of a data set of one row, itself.

    Args:
        row: its number.
        rows: how many there are.
        draw: of the row and epoch.

    Example:
        >>> sorted({partner(1, 3, Draw(0, epoch, 1)) for epoch in range(20)})
        [0, 2]
    """
    return (row + 1 + int(draw.generator("partner").integers(rows - 1))) % rows if rows > 1 else row
