"""Frozen layers computed once: whether that can be done is tried, then each row is computed when it is at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.models.attempts import attempt
from sftlib.models.frozen.freezing import Frozen, constant_parts
from sftlib.models.frozen.prefix_cache import Outputs, Prefix, Recalling, constant_prefix, kept
from sftlib.models.frozen.prefix_store import PrefixStore, Shelf
from sftlib.models.language.encoder_decoder import is_encoder_decoder
from sftlib.models.layouts.layout import Layout
from sftlib.models.outputs import logits
from sftlib.models.structure import body_of
from sftlib.train.feed import Feed
from sftlib.train.forward import Forward

_TOLERANCE = 1e-5  # of the largest score: the same numbers go into the same products

Make = Callable[[Layout], Forward]
Kept = tuple[list[int], Tensor, Tensor | None]  # vectors of each row, the vectors, and what is pooled


def freeze_layout(make: Make, layout: Layout, batches: Sequence[Batch]) -> Frozen:
    """The layout in which everything that is constant runs in evaluation mode.

    Args:
        make: a forward pass in a layout.
        layout: how rows lie.
        batches: a few rows of each kind that goes its own way through the model.
    """
    forward = make(layout)
    forward.model.eval()
    with forward.prepared():
        return Frozen(layout, constant_parts(forward.model, lambda: [forward(batch) for batch in batches]))


def try_recall(make: Make, frozen: Frozen, batch: Batch, unread: Batch, encoder: Encoder) -> Recalling | str:
    """How the constant prefix of a model is computed once, or why it is not.

    Args:
        make: a forward pass in fp32 in a layout.
        frozen: the layout without all this.
        batch: a few rows of different cost, identified.
        unread: the same rows as they are handed out once they are known.
        encoder: says which scores mean something.
    """
    forward = make(frozen)
    if is_encoder_decoder(forward.model):
        return "a row of an encoder-decoder is more than its inputs"
    prefix = constant_prefix(forward.model, frozen.constant)
    if prefix is None and frozen.constant and body_of(forward.model) is None:
        return "the model is not a body under a head"
    if prefix is None:
        return "no layer is constant"
    plain = attempt(lambda: _look(forward, prefix, batch, encoder))
    if plain.value is None:
        return f"the model does not give its own answers that way ({plain.reason})"
    form, expected = plain.value
    if form is None:
        return "their outputs are not constant"
    for first_only in (True, False) if prefix.layers is None else (False,):
        candidate = replace(prefix, first_only=first_only)
        trial = Recalling(frozen, candidate, form, _shelf_of(candidate, form, batch))
        found = attempt(partial(_again, make(trial), unread, encoder))
        if found.value is not None and _agree(expected, found.value):
            return Recalling(frozen, candidate, form, Shelf())
    return f"the model does not give its own answers that way{f' ({found.reason})' if found.reason else ''}"


@final
class Recall:
    """Runs whose frozen prefix is computed once for each row.

    Args:
        layout: recalls.
        plain: a pass without, to compute what is not known yet.
        feed: of given rows, identified.
        store: where outputs are kept.
    """

    def __init__(
        self, layout: Recalling, plain: Forward, feed: Callable[[Encoded], Feed], *, store: PrefixStore
    ) -> None:
        self.layout = layout
        self._plain = plain
        self._feed = feed
        self._store = store
        self._digest: tuple[object, str] = (None, "")

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of the model, or one in another process, computes anew

    def knows(self, known_by: Sequence[bytes]) -> bool:
        """Whether all of these rows were computed."""
        return self.layout.shelf.find(known_by) is not None

    def learn(self, *parts: Encoded) -> None:
        """Compute the rows that are not known yet; where there is no room for them, they are computed in every pass."""
        self.layout.shelf = self._store.shelf(self._key())
        for encoded in parts:
            rows = _unknown(encoded, self.layout.shelf)
            if len(rows):
                self._compute(encoded, rows)

    def _compute(self, encoded: Encoded, rows: NDArray[np.int64]) -> None:
        model, shelf, prefix = self._plain.model, self.layout.shelf, self.layout.prefix
        was_training = model.training
        model.eval()
        with torch.no_grad(), self._plain.prepared(), prefix.captured() as outputs:
            for number, (_, batch) in enumerate(self._feed(encoded).passes(rows)):
                self._plain(batch)
                parts = kept(outputs, prefix, batch.inputs.get("attention_mask"), len(batch.rows))
                by_cost = "attention_mask" in batch.inputs and not prefix.first_only
                vectors = int(encoded.cost[rows].sum()) if by_cost else len(rows) * parts[0][0]
                if not number and not _make_room(self._store, shelf, parts, len(rows), vectors):
                    break
                shelf.add(batch.known_by, *parts)
        model.train(was_training)

    def _key(self) -> str:
        """The key of the frozen weights as they are now; a digest is made anew only when they were touched."""
        stamp = tuple((weight.data_ptr(), weight._version) for weight in self.layout.prefix.weights())
        if self._digest[0] != stamp:
            facts = (self._plain.precision.name, self._plain.layout.name, self._plain.device.type)
            self._digest = (stamp, self.layout.prefix.key(*facts))
        return self._digest[1]


def _unknown(encoded: Encoded, shelf: Shelf) -> NDArray[np.int64]:
    """The first row of every different content that the shelf does not hold."""
    first: dict[bytes, int] = {}
    for row in range(len(encoded)):
        first.setdefault(encoded.identity(row), row)
    return np.array([row for known_by, row in first.items() if known_by not in shelf], dtype=np.int64)


def _shelf_of(prefix: Prefix, form: Outputs, batch: Batch) -> Shelf:
    """A shelf with this batch alone."""
    store, shelf = PrefixStore(), Shelf()
    parts = kept(form, prefix, batch.inputs.get("attention_mask"), len(batch.rows))
    _make_room(store, shelf, parts, len(batch.rows), len(parts[1]))
    shelf.add(batch.known_by, *parts)
    return shelf


def _make_room(store: PrefixStore, shelf: Shelf, like: Kept, rows: int, vectors: int) -> bool:
    """A block for so many rows and vectors, if there is room; ``like`` is what is kept of the first few."""
    _, hidden, pooled = like
    return store.make_room(
        shelf,
        vectors=vectors,
        rows=rows,
        width=hidden.shape[-1],
        pooled=None if pooled is None else pooled.shape[-1],
        dtype=hidden.dtype,
    )


def _look(forward: Forward, prefix: Prefix, batch: Batch, encoder: Encoder) -> tuple[Outputs | None, Tensor]:
    """The prefix's output, None when it is another one in training; and the scores."""
    outputs = []
    with forward.prepared():
        for training in (False, True):
            with prefix.captured(whole=True) as output:
                scores = _scores(forward, batch, training, encoder)
            outputs.append((output, scores))
    (first, in_evaluation), (second, in_training) = outputs
    same = _equal(first.hidden, second.hidden) and _equal(first.pooled, second.pooled)
    return first if same else None, torch.stack([in_evaluation, in_training])


def _again(forward: Forward, batch: Batch, encoder: Encoder) -> Tensor:
    with forward.prepared():
        return torch.stack([_scores(forward, batch, training, encoder) for training in (False, True)])


def _scores(forward: Forward, batch: Batch, training: bool, encoder: Encoder) -> Tensor:
    """Scores in evaluation, or in training with the dropout of what is trained."""
    forward.model.train(training)
    with torch.no_grad():
        found = encoder.visible(logits(forward.train(batch, step=1)), batch.inputs)
    forward.model.eval()
    return found


def _equal(left: Tensor | None, right: Tensor | None) -> bool:
    return left is right if left is None or right is None else torch.equal(left, right)


def _agree(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False  # scores of positions that were not kept
    apart = (expected - found).abs().max()  # not a number where something was missing
    return bool(apart <= _TOLERANCE * max(float(expected.abs().max()), 1e-3))
