"""Evaluation and prediction: sorted by cost inside, in input order outside, the same answer for any batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.metrics import Metrics
from sftlib.tasks.base import Task
from sftlib.train.comm import Comm
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward
from sftlib.train.held import Held, Whole


@final
class Inference:
    """Runs a model over rows without gradients.

    Not in torch's inference mode, which would save nothing that can be measured: what a model keeps there for the next
    call, as ESM of transformers 5.0 does its tables of angles, could not be trained with afterwards.

    Args:
        forward: calls the model.
        task: turns outputs into losses and predictions.
        encoder: turns what the model writes into what a reader reads.
        feed: the rows.
        comm: the processes that share the rows; each has the whole result.
        held: how they hold the weights.
    """

    def __init__(
        self, forward: Forward, task: Task, encoder: Encoder, feed: Feed, comm: Comm, held: Held | None = None
    ) -> None:
        self._forward = forward
        self._task = task
        self._encoder = encoder
        self._feed = feed
        self._comm = comm
        self._held = held or Whole()

    @torch.no_grad()  # here, not around a ``yield``: an error would leave it on as long as its traceback lives
    def predict(self, data: TaskDataset) -> list[Any]:
        """One prediction per row of the data that the feed was made of, in its order."""
        found: list[Any] = [None] * len(data)
        pieces = _Pieces(self._feed.encoded.owners)
        self._forward.model.eval()
        for rows, decoded in self._comm.exchange(self._answered()):
            for row, parts in pieces.add(rows, decoded):
                found[row] = self._task.complete(data, row, parts)
        return found

    @torch.no_grad()
    def evaluate(self, data: TaskDataset, references: Sequence[Any], metrics: Metrics) -> Metrics:
        """Fill metrics with every row.

        Args:
            data: labelled, that the feed was made of.
            references: one per row of the data.
            metrics: empty; is returned.
        """
        totals, counts = [0.0], [0.0]
        pieces = _Pieces(self._feed.encoded.owners)
        self._forward.model.eval()
        for rows, total, count, decoded in self._comm.exchange(self._judged(metrics)):
            totals.append(total)
            counts.append(count)
            done = pieces.add(rows, decoded)
            metrics.update(
                [self._task.complete(data, row, parts) for row, parts in done], [references[row] for row, _ in done]
            )
        metrics.update([], [], loss_sum=math.fsum(totals), count=math.fsum(counts))
        return metrics

    def _answered(self) -> Iterator[tuple[NDArray[np.int64], Sequence[Any]]]:
        for (rows, batch), own in self._passes():
            decoded = self._task.answer(self._forward, batch, self._encoder)
            yield (rows, decoded) if own else (rows, [])

    def _judged(self, metrics: Metrics) -> Iterator[tuple[NDArray[np.int64], float, float, Sequence[Any]]]:
        for (rows, batch), own in self._passes():
            (total, count), decoded = self._task.judge(self._forward, batch, self._encoder, metrics)
            yield (rows, float(total), float(count), decoded) if own else (rows, 0.0, 0.0, [])

    def _passes(self) -> Iterator[tuple[tuple[NDArray[np.int64], Batch], bool]]:
        """Rows, what is made of them, and whether they are this process's own."""
        return self._held.evenly(self._feed.everything(), self._feed.spare)


@final
class _Pieces:
    """What was decoded of windows, until all those of a row are there; they come in any order.

    Args:
        owners: (N,) ascending, the row of each window.
    """

    def __init__(self, owners: NDArray[np.int64]) -> None:
        self._owners = owners
        self._windows = np.bincount(owners, minlength=1)
        self._waiting: dict[int, list[tuple[int, Any]]] = {}

    def add(self, windows: NDArray[np.int64], decoded: Sequence[Any]) -> list[tuple[int, list[Any]]]:
        """Take some in; returns every row that is complete now, with its pieces in the order of its windows."""
        done = []
        for window, piece in zip(windows.tolist(), decoded, strict=True):
            row = int(self._owners[window])
            parts = self._waiting.setdefault(row, [])
            parts.append((window, piece))
            if len(parts) == self._windows[row]:
                del self._waiting[row]
                done.append((row, [part for _, part in sorted(parts, key=lambda numbered: numbered[0])]))
        return done
