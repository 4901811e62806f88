"""Finding the right partner of an embedding among all others.

Letters: ``N`` rows, ``M`` distinct documents, ``D`` numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sftlib.metrics.base import Family
from sftlib.metrics.labels import Label
from sftlib.metrics.rows import Rows
from sftlib.metrics.summed import no_labels, raise_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ranks = NDArray[np.int64]

BLOCK = 1024  # queries that are compared with all documents at once
TIE = 1e-9  # cosines nearer than this are equal


class Retrieval(Family):
    """Recall, reciprocal rank and NDCG of queries that look for their document by cosine.

    Predictions have ``.embedding`` (the query's) and ``.embedding_pair`` (its document's), or are pairs of two arrays
    (D,). References say which document it is: its text or number; rows with equal references share one, whose
    embedding is that of the first of them. Every query ranks the documents of all rows; a tie ranks the others first,
    so a model that says the same of everything finds nothing.

    ``recall_at_k`` is the share of queries whose document is among the first k, ``mrr`` the mean of 1 / rank,
    ``ndcg_at_10`` the mean of 1 / log2(1 + rank), 0 beyond rank 10: each query has one right document. Values grow
    when there are fewer documents: compare them on the same rows only. Intervals draw queries and keep the documents.

    Kept: two float32 embeddings and the reference of each row.
    """

    title = "retrieval"
    names = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr", "ndcg_at_10")

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        no_labels(label_names)
        self._names = tuple(names)
        self._rows = Rows()  # queries and documents (N, D), float32, of length 1
        self._references: list[Hashable] = []
        self._ranks: Ranks | None = None  # computed when first read, until rows come

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return True  # asked only when nothing else has its metrics

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names) and not label_names

    @property
    def rows(self) -> int:  # type: ignore[override]
        return len(self._rows)

    def update(self, predictions: list[Any], references: list[Any]) -> None:
        pairs = [_pair(prediction) for prediction in predictions]
        width = self._rows.columns[0].shape[1] if len(self._rows) else _width(pairs)
        raise_rows(
            [
                f"predictions, row {row}: expected .embedding and .embedding_pair of {width} finite numbers each "
                f"(or a pair of such arrays), got {predictions[row]!r:.80}"
                for row, pair in enumerate(pairs)
                if pair is None or pair.shape != (2, width) or not np.isfinite(pair).all()
            ]
            + [
                f"references, row {row}: expected a text or number that says which document it is, got {item!r:.50}"
                for row, item in enumerate(references)
                if not isinstance(item, Hashable)
            ]
        )
        stacked = np.stack([pair for pair in pairs if pair is not None])
        lengths = np.linalg.norm(stacked, axis=-1, keepdims=True)
        unit = (stacked / np.where(lengths, lengths, 1)).astype(np.float32)
        self._rows.append(unit[:, 0], unit[:, 1])
        self._references.extend(references)
        self._ranks = None

    def merged(self, other: Self) -> Self:
        both = copy(self)
        both._rows = self._rows.merged(other._rows)
        both._references = self._references + other._references
        both._ranks = None
        return both

    def value(self, name: str) -> float:
        return _value(name, self._all_ranks())

    def resampled(self, name: str, generator: np.random.Generator) -> float:
        return _value(name, self._all_ranks()[generator.integers(0, self.rows, self.rows)])

    def pairs(self, index: NDArray[np.int64] | None = None) -> tuple[list[Hashable], NDArray[np.float32]]:
        """References (a list of N) and embeddings of queries and documents, of length 1 (N, 2, D)."""
        embeddings = np.stack(self._rows.columns, axis=1)
        if index is None:
            return list(self._references), embeddings
        return [self._references[row] for row in index], embeddings[index]

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_values

        return draw_values({name: self.value(name) for name in self._names}, self.rows, axes)

    def _all_ranks(self) -> Ranks:
        if self._ranks is None:
            first: dict[Hashable, int] = {}
            own = np.array([first.setdefault(item, len(first)) for item in self._references])
            queries, documents = self._rows.columns
            _, places = np.unique(own, return_index=True)
            self._ranks = ranks(queries, documents[places], own)
        return self._ranks


def ranks(queries: NDArray[np.float32], documents: NDArray[np.float32], own: NDArray[np.int64]) -> Ranks:
    """The rank (N,), from 1, of each query's own document.

    Args:
        queries: (N, D).
        documents: (M, D).
        own: (N,) which document is whose.

    Example:
        >>> import numpy as np
        >>> ranks(np.eye(2), np.array([[1, 0], [1, 0.5]]), np.array([0, 1])).tolist()
        [2, 1]
    """
    found = np.empty(len(queries), dtype=np.int64)
    columns = documents.astype(np.float64).T
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        cosines = queries[block].astype(np.float64) @ columns  # (BLOCK, M)
        right = np.take_along_axis(cosines, own[block, None], axis=1)
        found[block] = (cosines >= right - TIE).sum(axis=1)
    return found


def _value(name: str, found: Ranks) -> float:
    if name == "mrr":
        return float((1 / found).mean())
    if name == "ndcg_at_10":
        return float(np.where(found <= 10, 1 / np.log2(1 + found), 0).mean())
    return float((found <= int(name.removeprefix("recall_at_"))).mean())


def _pair(prediction: Any) -> NDArray[np.float64] | None:
    """The two embeddings of a prediction (2, D); None when it has not both."""
    if hasattr(prediction, "embedding"):
        prediction = (prediction.embedding, getattr(prediction, "embedding_pair", None))
    try:
        pair = np.array([np.asarray(side, dtype=np.float64) for side in prediction])
    except (TypeError, ValueError):
        return None
    return pair if pair.ndim == 2 and len(pair) == 2 else None


def _width(pairs: Sequence[NDArray[np.float64] | None]) -> int:
    return next((pair.shape[1] for pair in pairs if pair is not None), 0)
