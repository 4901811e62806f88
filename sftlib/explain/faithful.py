"""Whether an explanation explains: what the model says without the pieces that it names, and without others.

After DeYoung et al. (2020): *comprehensiveness* is what the probability loses when the pieces that speak for the answer
are taken away, *sufficiency* what it loses when they alone are left. Both mean little by themselves: beside them stands
what the same number of pieces does that were chosen by chance.

Letters: ``W`` groups, ``P`` dials, ``R`` draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.explain.dials import Dials, Read

_SHARE, _DRAWS = 0.2, 8
#: Where less than this of a probability moves there is nothing to explain.
NOTICEABLE: Final = 0.02


@final
@dataclass(frozen=True)
class Faithfulness:
    """What taking pieces away does to the probability of what is explained.

    Attributes:
        comprehensiveness: it loses this without the pieces that speak for it most, a fifth of all.
        sufficiency: it loses this when they alone are left; small is good.
        random_comprehensiveness: the mean over pieces chosen by chance.
        random_sufficiency: likewise.
        beats_chance: whether it loses more than the mean over random choices, and enough to be noticed.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: float
    random_sufficiency: float
    beats_chance: bool


def faithfulness(
    dials: Dials, chance: Read, groups: NDArray[np.float64], scores: NDArray[np.float64], *, seed: int
) -> Faithfulness:
    """Compare the best pieces with random ones.

    Args:
        dials: of the input.
        chance: the probability of what is explained, or the number where there is none.
        groups: (W, P) the share of each group in each dial.
        scores: (W,) of the explanation.
        seed: of the random choices.
    """
    count = max(1, round(_SHARE * len(scores)))
    generator = np.random.Generator(np.random.Philox(key=seed))
    chosen = [np.argsort(-scores, kind="stable")[:count]]
    chosen += [generator.permutation(len(scores))[:count] for _ in range(_DRAWS)]
    named = np.stack([(groups[rows] > 0).any(axis=0) for rows in chosen])  # (1 + R, P)
    free = np.asarray((groups > 0).any(axis=0))  # dials that belong to any group
    stands, place = np.unique(np.concatenate([~named, named | ~free]), axis=0, return_inverse=True)
    (values,) = dials.values(torch.from_numpy(stands.astype(np.float32)), chance)
    ((whole, _),) = dials.ends(chance)
    lost = float(whole) - values.numpy()[place.reshape(-1)]
    without, alone = lost[: 1 + _DRAWS], lost[1 + _DRAWS :]
    return Faithfulness(
        comprehensiveness=float(without[0]),
        sufficiency=float(alone[0]),
        random_comprehensiveness=float(without[1:].mean()),
        random_sufficiency=float(alone[1:].mean()),
        beats_chance=bool(without[0] > without[1:].mean() and without[0] >= NOTICEABLE),
    )
