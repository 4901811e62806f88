"""Who is who: whether two things are of one identity, told by how near they lie.

Letters: ``N`` rows, ``D`` numbers of an embedding, ``P`` pairs, ``S`` different similarities among them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import DataError
from sftlib.metrics.base import Family
from sftlib.metrics.labels import Label
from sftlib.metrics.rows import Rows
from sftlib.metrics.summed import raise_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

EXACT = 2**21  # pairs up to which every similarity counts as it is; beyond, they are counted in bins
BINS = 2**16  # of cosines, from -1 to 1
TIE = 1e-9  # cosines nearer than this are equal
PRIOR = 0.01  # of two things being of one identity, for the detection cost

_BLOCK = 2**22  # cosines that are held at once
_UNIT = 1e-5  # embeddings of this length but for so much are taken as they are
_OF_ROWS = ("recall_at_1", "recall_at_5", "map_at_r")
_OF_PAIRS = ("eer", "tar_at_far_1e-2", "tar_at_far_1e-3", "roc_auc", "min_dcf")


@final
@dataclass(frozen=True, eq=False)
class Curve:
    """How many pairs are called the same from which similarity on: all that a threshold decides.

    Attributes:
        thresholds: (1 + S,) falling, from infinity on; a pair at or above one is called the same.
        genuine: (1 + S,) of pairs that are the same, how many are called so; the last is all of them.
        impostor: (1 + S,) of pairs that are not, how many are called the same.
    """

    thresholds: Floats
    genuine: Floats
    impostor: Floats

    @classmethod
    def of_pairs(cls, similarities: Floats, same: NDArray[np.bool_]) -> Curve:
        """The curve of pairs.

        Args:
            similarities: (P,)
            same: (P,) whether they are of one identity.

        Example:
            >>> Curve.of_pairs(np.array([0.9, 0.5, 0.5]), np.array([True, True, False])).thresholds.tolist()
            [inf, 0.9, 0.5]
        """
        order = np.argsort(-similarities, kind="stable")
        falling, truth = similarities[order], same[order]
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1) if len(falling) else np.empty(0, np.int64)
        genuine, impostor = np.cumsum(truth)[ends], np.cumsum(~truth)[ends]
        return cls(_from(math.inf, falling[ends]), _from(0, genuine), _from(0, impostor))

    @classmethod
    def of_embeddings(cls, embeddings: NDArray[np.float32], identities: Ids) -> Curve:
        """The curve of all pairs of rows, by cosine.

        Args:
            embeddings: (N, D) of length 1.
            identities: (N,) number of each row's identity.
        """
        count = len(embeddings)
        if count * (count - 1) // 2 <= EXACT:
            parts = [part for block in _blocks(embeddings) for part in _above(*block, identities)]
            found = parts or [(np.empty(0), np.empty(0, bool))]
            return cls.of_pairs(np.concatenate([s for s, _ in found]), np.concatenate([t for _, t in found]))
        bins = np.zeros((2, BINS), np.int64)
        for block in _blocks(embeddings):
            for cosines, same in _above(*block, identities):
                places = np.clip((cosines + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)
                bins[0] += np.bincount(places[same], minlength=BINS)
                bins[1] += np.bincount(places[~same], minlength=BINS)
        lower = np.arange(BINS)[::-1] * (2 / BINS) - 1
        genuine, impostor = np.cumsum(bins[:, ::-1], axis=1)
        return cls(_from(math.inf, lower), _from(0, genuine), _from(0, impostor))

    @property
    def defined(self) -> bool:
        """Whether there are pairs of both kinds."""
        return bool(self.genuine[-1] > 0 and self.impostor[-1] > 0)

    @property
    def rates(self) -> tuple[Floats, Floats]:
        """(1 + S,) shares: of impostors that are called the same, and of genuine pairs that are."""
        return self.impostor / self.impostor[-1], self.genuine / self.genuine[-1]

    def eer(self) -> float:
        """The rate at which as many impostors pass as genuine pairs are turned away; between points, on the line."""
        false, true = self.rates
        gap = 1 - true - false  # falls from 1 to -1
        after = int(np.argmax(gap <= 0))
        part = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(false[after - 1] + part * (false[after] - false[after - 1]))

    def true_accepts(self, far: float) -> float:
        """The largest share of genuine pairs that pass while at most this share of impostors does."""
        false, true = self.rates
        return float(true[false <= far].max())

    def area(self) -> float:
        """Under the curve of the two rates: how often a genuine pair is nearer than an impostor, a tie being half."""
        false, true = self.rates
        return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))

    def cost(self, prior: float = PRIOR) -> float:
        """The least cost of detection, where each error costs 1, over that of not listening at all."""
        false, true = self.rates
        costs = prior * (1 - true) + (1 - prior) * false
        return float(costs.min() / min(prior, 1 - prior))

    def threshold(self, far: float | None = None) -> float:
        """A similarity from which on two things are called the same; half-way to the next pair that is not.

        Args:
            far: share of impostors that may pass; None for where both errors are nearest to each other.
        """
        false, true = self.rates
        allowed = np.flatnonzero(false <= far)[-1] if far is not None else np.argmin(np.maximum(false, 1 - true))
        chosen = int(allowed)
        at, below = self.thresholds[chosen], self.thresholds[min(chosen + 1, len(self.thresholds) - 1)]
        return float(np.nextafter(below, math.inf) if math.isinf(at) else (at + below) / 2)


class Verification(Family):
    """Equal error rate, accepts at a rate of false ones, area under the curve; and neighbours of embeddings.

    Rows are of one of two kinds. A prediction with ``.embedding`` (or an array (D,)) has an identity for its reference,
    a text or number; every two rows make a pair, genuine if they are of one identity, as near as their cosine says. A
    prediction with ``.similarity`` (or a number) is a pair itself, and its reference says whether it is genuine.

    ``eer`` is the rate at which both errors are equal, on the straight line between the points of the ROC curve;
    ``tar_at_far_1e-2`` (``1e-3``) the share of genuine pairs accepted while at most that share of impostors is;
    ``roc_auc`` as scikit-learn has it; ``min_dcf`` the least cost of detection at a prior of 0.01 with costs of 1. Of
    more than two million pairs, cosines are counted in 65,536 bins. ``recall_at_k`` is the share of rows with one of
    their own identity among the k nearest, ``map_at_r`` their mean average precision among the R nearest, where R is
    how many others of the identity there are (Musgrave et al., 2020); rows without another are left out, and a tie puts
    strangers first. Of pairs these two are nan. All depend on which rows there are: compare them on the same rows only.

    Kept: the float32 embedding and the identity of each row, or similarity and truth of each pair.
    """

    title = "verification"
    names = (*_OF_PAIRS, *_OF_ROWS)
    without_interval = frozenset(_OF_PAIRS)

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        self._names = tuple(names)
        self._embeddings = Rows()  # (N, D) float32, of length 1
        self._identities: list[Hashable] = []
        self._pairs = Rows()  # similarity (P,), truth (P,)
        self._curve: Curve | None = None
        self._found: dict[str, Floats] = {}  # by row, of rows that have another of their identity

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return False  # where others have all the metrics that are asked for, they are meant

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names)

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._embeddings) + len(self._pairs)

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        if _similarity(predictions[0]) is None:
            self._add_rows(predictions, references)
        else:
            self._add_pairs(predictions, references)
        self._curve, self._found = None, {}

    def _add_rows(self, predictions: list[Any], references: list[Any]) -> None:
        vectors = [_vector(prediction) for prediction in predictions]
        first = self._embeddings.columns[0][0] if len(self._embeddings) else vectors[0]
        width = 0 if first is None else len(first)
        _alone(self._pairs, "pairs", "embeddings")
        raise_rows(
            [
                f"predictions, row {row}: expected .embedding of {width or 'some'} finite numbers, or such an "
                f"array, got {predictions[row]!r:.80}"
                for row, vector in enumerate(vectors)
                if vector is None or vector.shape != (width,) or not width or not np.isfinite(vector).all()
            ]
            + [
                f"references, row {row}: expected a text or number that says whose it is, got {item!r:.50}"
                for row, item in enumerate(references)
                if not isinstance(item, Hashable)
            ]
        )
        stacked = np.stack([vector for vector in vectors if vector is not None])
        lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
        usual = (lengths == 0) | (abs(lengths - 1) < _UNIT)
        self._embeddings.append((stacked / np.where(usual, 1, lengths)).astype(np.float32))
        self._identities.extend(references)

    def _add_pairs(self, predictions: list[Any], references: list[Any]) -> None:
        _alone(self._embeddings, "embeddings", "pairs")
        similarities = [_similarity(prediction) for prediction in predictions]
        raise_rows(
            [
                f"predictions, row {row}: expected .similarity, or a number, got {predictions[row]!r:.80}"
                for row, value in enumerate(similarities)
                if value is None or math.isnan(value)
            ]
            + [
                f"references, row {row}: expected True or False, whether they are the same, got {item!r:.50}"
                for row, item in enumerate(references)
                if not isinstance(item, bool | np.bool_) and item not in (0, 1)
            ]
        )
        self._pairs.append(np.array(similarities, np.float64), np.array([bool(item) for item in references]))

    def merged(self, other: Self) -> Self:
        both = copy(self)
        both._embeddings = self._embeddings.merged(other._embeddings)
        both._pairs = self._pairs.merged(other._pairs)
        _alone(both._embeddings if len(both._pairs) else Rows(), "embeddings", "pairs")
        both._identities = self._identities + other._identities
        both._curve, both._found = None, {}
        return both

    def value(self, name: str) -> float:
        if name in _OF_ROWS:
            found = self._by_row(name)
            return float(found.mean()) if len(found) else math.nan
        curve = self._of_all()
        if not curve.defined:
            return math.nan
        if name.startswith("tar_at_far_"):
            return curve.true_accepts(float(name.removeprefix("tar_at_far_")))
        return {"eer": curve.eer, "roc_auc": curve.area, "min_dcf": curve.cost}[name]()

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        found = self._by_row(name)
        return float(found[generator.integers(0, len(found), len(found))].mean()) if len(found) else math.nan

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        """Identities (a list of N) and embeddings (N, D) of length 1; of pairs, truth (P,) and similarity (P,)."""
        if len(self._pairs):
            similarities, same = self._pairs.columns
            return (same, similarities) if index is None else (same[index], similarities[index])
        (embeddings,) = self._embeddings.columns
        if index is None:
            return list(self._identities), embeddings
        return [self._identities[row] for row in index], embeddings[index]

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_values

        return draw_values({name: self.value(name) for name in self._names}, self.rows, axes)

    def _numbers(self) -> Ids:
        known: dict[Hashable, int] = {}
        return np.array([known.setdefault(item, len(known)) for item in self._identities], dtype=np.int64)

    def _of_all(self) -> Curve:
        if self._curve is None:
            if len(self._pairs):
                self._curve = Curve.of_pairs(*self._pairs.columns)
            else:
                self._curve = Curve.of_embeddings(self._embeddings.columns[0], self._numbers())
        return self._curve

    def _by_row(self, name: str) -> Floats:
        if len(self._pairs):
            return np.empty(0)
        if not self._found:
            ranks, precision = neighbours(self._embeddings.columns[0], self._numbers())
            self._found = {"rank": ranks, "map_at_r": precision}
        if name == "map_at_r":
            return self._found[name]
        return (self._found["rank"] <= int(name.removeprefix("recall_at_"))).astype(np.float64)


def neighbours(embeddings: NDArray[np.float32], identities: Ids) -> tuple[Floats, Floats]:
    """Of every row that has another of its identity: the rank of the nearest of these, and its precision at R.

    Args:
        embeddings: (N, D) of length 1.
        identities: (N,) number of each row's identity.

    Returns:
        (M,) ranks from 1, and (M,) average precisions among the R nearest.

    Example:
        >>> ranks, precision = neighbours(np.eye(3, dtype=np.float32)[[0, 0, 1, 2]], np.array([0, 0, 0, 1]))
        >>> ranks.tolist(), precision.tolist()
        ([1.0, 1.0, 2.0], [0.5, 0.5, 0.25])
    """
    ranks, precisions = [np.empty(0)], [np.empty(0)]
    for start, cosines in _blocks(embeddings):
        rows = np.arange(start, start + len(cosines))
        same = identities[rows, None] == identities
        same[np.arange(len(rows)), rows] = False
        cosines[np.arange(len(rows)), rows] = -np.inf
        others = same.sum(axis=1)
        has = others > 0
        if not has.any():
            continue
        same, cosines, others = same[has], cosines[has], others[has]
        best = np.where(same, cosines, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1.0 + ((cosines >= best - TIE) & ~same).sum(axis=1))
        most = int(others.max())
        order = np.argsort(-(cosines + TIE * ~same), axis=1, kind="stable")[:, :most]
        hits = np.take_along_axis(same, order, axis=1) & (np.arange(most) < others[:, None])
        precisions.append((hits * np.cumsum(hits, axis=1) / np.arange(1, most + 1)).sum(axis=1) / others)
    return np.concatenate(ranks), np.concatenate(precisions)


def _blocks(embeddings: NDArray[np.float32]) -> Iterator[tuple[int, Floats]]:
    """The number of the first row of a block, and its cosines (B, N) with all rows."""
    exact = embeddings.astype(np.float64)
    size = max(1, _BLOCK // max(len(exact), 1))
    for start in range(0, len(exact), size):
        yield start, exact[start : start + size] @ exact.T


def _above(start: int, cosines: Floats, identities: Ids) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """Cosines of each row of a block with those behind it, and whether they are of its identity."""
    for number, row in enumerate(cosines):
        behind = start + number + 1
        yield row[behind:], identities[behind:] == identities[behind - 1]


def _from(first: float, rest: NDArray[Any]) -> Floats:
    return np.concatenate([[first], rest]).astype(np.float64)


def _similarity(prediction: Any) -> float | None:
    value = getattr(prediction, "similarity", prediction)
    return float(value) if isinstance(value, Real) and type(value) is not bool else None


def _vector(prediction: Any) -> Floats | None:
    """The embedding of a prediction (D,); None when it has none."""
    try:
        found = np.asarray(getattr(prediction, "embedding", prediction), dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.ndim == 1 else None


def _alone(others: Rows, those: str, these: str) -> None:
    if len(others):
        raise DataError(f"rows are {these} here and were {those} before: keep them in metrics of their own")
