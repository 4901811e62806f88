"""Contact prediction: which letters of a sequence touch each other in its structure.

Letters: ``B`` rows of a micro-batch, ``T`` positions, ``L`` letters of a row, ``M`` contacts of a row, ``R`` the rank
of the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self, final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.kinds.contacts import StructureRole
from sftlib.data.structures import contacts_of
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged, offsets_of
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.inputs import Sequence as SequenceInputs
from sftlib.encoders.text.tokenizer import Frame
from sftlib.encoders.text.windows import framed, window_room
from sftlib.encoders.writer import Writer
from sftlib.errors import LabelError, OptionError
from sftlib.metrics.contacts import Contacts
from sftlib.models.device import sent
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.support.checking import above_zero, checked_fields, is_number, real_number, whole_number
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import LossSum, Task
from sftlib.tasks.sequence.letters import ANYWHERE, letters_of, one_sequence, require_letters

_BANDS_OF_TWO = 2  # bands of distances from one power of two to the next
_AS_MANY = 10.0  # pairs that every band is taken to have, with contacts as often as anywhere


class Contact(NamedTuple):
    """Two letters that touch each other.

    Attributes:
        i: number of the first, from 0.
        j: number of the second; above ``i``.
        probability: 0 to 1.
    """

    i: int
    j: int
    probability: float


@final
@dataclass(frozen=True)
class ContactMap:
    """How probable it is of each two letters of a sequence that they touch.

    Attributes:
        threshold: that the probability of a contact must exceed.
        separation: letters from ``i`` to ``j`` at least; nothing is said of nearer pairs.
        letters: of the sequence.
    """

    threshold: float
    separation: int
    letters: int
    _pairs: bytes = field(repr=False)  # float32 of all pairs that are far enough apart, in the order of `_places`

    @classmethod
    def of(cls, pairs: NDArray[np.float32], *, threshold: float, separation: int, letters: int) -> ContactMap:
        """From the probabilities of all pairs that are far enough apart, in the order of ``numpy.triu_indices``."""
        return cls(threshold, separation, letters, pairs.tobytes())

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """The pairs whose probability exceeds the threshold, the most probable first."""
        return self.above(self.threshold)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(L, L) of each two letters, both ways round; 0 of pairs that are not far enough apart."""
        found = np.zeros((self.letters, self.letters), np.float32)
        i, j = self._places
        found[i, j] = found[j, i] = self._values
        found.flags.writeable = False
        return found

    def above(self, threshold: float) -> tuple[Contact, ...]:
        """The pairs whose probability exceeds another threshold, the most probable first."""
        return self._best(int((self._values > threshold).sum()))

    def top(self, count: int) -> tuple[Contact, ...]:
        """The most probable pairs, whatever their probability: as many as letters, say, or half as many.

        Raises:
            OptionError: a negative count.
        """
        problem = whole_number("count", count, at_least=0)
        if problem is not None:
            raise OptionError(problem)
        return self._best(count)

    def _best(self, count: int) -> tuple[Contact, ...]:
        (i, j), values = self._places, self._values
        order = np.argsort(-values, kind="stable")[:count]
        return tuple(map(Contact, i[order].tolist(), j[order].tolist(), values[order].tolist()))

    def reaching(self, letters: int) -> ContactMap:
        """The same for a sequence that goes on beyond what the model saw: of the rest nothing is probable."""
        whole = np.zeros((letters, letters), np.float32)
        whole[: self.letters, : self.letters] = self.probabilities
        return replace(self, letters=letters, _pairs=whole[np.triu_indices(letters, self.separation)].tobytes())

    @property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.triu_indices(self.letters, self.separation)

    @property
    def _values(self) -> NDArray[np.float32]:
        return np.frombuffer(self._pairs, np.float32)

    def __repr__(self) -> str:
        found = self.contacts
        shown = ", ".join(f"({one.i}, {one.j}, {one.probability:.4g})" for one in found[:4])
        return f"Prediction(contacts=({shown}{f', and {len(found) - 4:,} more' if len(found) > 4 else ''}))"


@final
@dataclass(frozen=True, kw_only=True)
class Learned(Checked):
    """What training data decided.

    Attributes:
        odds: logarithms of how often a pair is a contact beside how often it is none, by how far apart its letters
            are: half a power of two a band, the last one for all that are further.
    """

    odds: tuple[float, ...]

    def problems(self) -> Iterable[Problem]:
        if not isinstance(self.odds, tuple) or not self.odds or not all(map(is_number, self.odds)):
            yield f"odds={self.odds!r:.60}: expected a list of numbers"


class Truth(NamedTuple):
    """What is known of a row.

    Attributes:
        contacts: (M, 2) pairs i < j of known letters, far enough apart.
        known: (L,) 1 of each letter of which it is known what it touches, else 0.
    """

    contacts: NDArray[np.int32]
    known: NDArray[np.int8]


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class ContactPrediction(Task):
    """Which letters of a sequence touch each other, by binary cross-entropy over all pairs that count.

    A pair i < j counts where ``j - i`` is at least ``separation`` and both letters are known: observed in the
    structure, or 1 in the mask. The head is a linear layer that gives each letter two vectors and a number; the score
    of a pair is ``u_i v_j + u_j v_i + b_i + b_j``, the form of a score of attention, beside the log odds of its
    distance in the training data. Of a sequence that is too long the end is cut off, and nothing is probable there.

    Args:
        separation: letters from i to j, at least, for a pair to be learned, predicted and scored.
        distance: what two residues of a structure must be nearer than, C-beta to C-beta, in Angstrom.
        rank: numbers in each vector of the head.
        threshold: what a probability must exceed to be among ``contacts``; never looked at in evaluation.
        learned: how often pairs are contacts; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> data = TaskDataset({"sequence": ["GCAAAAGC"], "contacts": [[[0, 7]]]})
        >>> data.task, ContactPrediction().learned_from(data).head.outputs
        ('contact-prediction', 65)
    """

    name = "contact-prediction"
    usual_metrics = ("precision_at_l5", "precision_at_l2", "precision_at_l")
    auto_class = "AutoModelForTokenClassification"
    inputs = SequenceInputs
    family = Contacts
    nothing_left = (
        "no two letters that count are far enough apart; raise max_length, lower "
        "ContactPrediction(separation=...), or drop these rows"
    )

    separation: int = 6
    distance: float = 8.0
    rank: int = 32
    threshold: float = 0.5
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        return [
            whole_number("separation", self.separation, at_least=1),
            above_zero("distance", self.distance),
            whole_number("rank", self.rank, at_least=1, at_most=1024),
            real_number("threshold", self.threshold, 0, 1, expected="a number from 0 to 1"),
        ]

    def learned_from(self, data: TaskDataset) -> Self:
        pairs, contacts = np.zeros(1), np.zeros(1)
        for truth in self._truths(data):
            pairs = _added(pairs, _bands(np.arange(len(truth.known))), _apart(truth.known, self.separation))
            contacts = _added(contacts, _bands(truth.contacts[:, 1] - truth.contacts[:, 0]), 1.0)
        contacts = np.pad(contacts, (0, len(pairs) - len(contacts)))
        share = contacts.sum() / max(pairs.sum(), 1.0)
        if not 0 < share < 1:
            column = data.roles.get("contacts") or data.roles["structure"]
            found = "all are contacts" if share else "none is a contact"
            raise LabelError(
                f"column {column!r}: of {int(pairs.sum()):,} pairs of letters at least {self.separation} apart "
                f"{found}; there is nothing to learn (ContactPrediction(separation=...) says how far apart)"
            )
        shares = (contacts + _AS_MANY * share) / (pairs + _AS_MANY)
        return replace(self, learned=Learned(odds=tuple(np.log(shares / (1 - shares)).tolist())))

    @property
    def head(self) -> Head:
        return Head(auto_class=self.auto_class, outputs=2 * self.rank + 1)

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sequence",)

    def write(self, data: TaskDataset, encoder: SequenceEncoder, writer: Writer) -> None:
        require_letters(encoder, "contacts")
        sequences = data.view("sequence")
        encoder.checked(sequences)
        frame, first = encoder.frame(), 0
        room = window_room(encoder.max_length - frame.size, encoder.max_length, None)
        for texts in encoder.texts(sequences):
            rows = letters_of(encoder, texts, sequences[first : first + len(texts)], first=first)
            writer.extend(_framed(rows, room, frame, first))
            first += len(rows)

    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found
        marks = found.notes["letters"]
        assert isinstance(marks, Ragged)
        seen = [int(marks[row].sum()) for row in range(len(marks))]
        truths = [
            Truth(contacts[contacts[:, 1] < count], known[:count])
            for (contacts, known), count in zip(self._truths(data), seen, strict=True)
        ]
        contacts = [np.empty((0, 2), np.int32), *(truth.contacts for truth in truths)]
        known = [np.empty(0, np.int8), *(truth.known for truth in truths)]
        return found.with_targets({"contacts": _ragged(contacts), "known": _ragged(known)})

    def _truths(self, data: TaskDataset) -> Iterator[Truth]:
        return (self.truth(data, row) for row in range(len(data)))

    def truth(self, data: TaskDataset, row: int) -> Truth:
        """What is known of a labelled row, as its columns say, or its structure."""
        sequence = data.view("sequence")[row]
        if "structure" in data.roles:
            kind = data.kinds["structure"]
            assert isinstance(kind, StructureRole)
            places = kind.places(data.view("structure")[row], sequence)
            there = (~np.isnan(places[:, 0])).astype(np.int8)
            return Truth(contacts_of(places, distance=self.distance, separation=self.separation), there)
        mask = data.view("residue_mask")[row] if "residue_mask" in data.roles else "1" * len(sequence)
        known = np.array([mark == "1" for mark in mask], np.int8)
        contacts = np.array(data.view("contacts")[row], np.int32).reshape(-1, 2)
        counts = (contacts[:, 1] - contacts[:, 0] >= self.separation) & known[contacts].astype(bool).all(axis=1)
        return Truth(contacts[counts], known)

    def units(self, data: TaskDataset) -> float:
        return float(sum(_apart(truth.known, self.separation).sum() for truth in self._truths(data)))

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        known = encoded.targets["known"]
        assert isinstance(known, Ragged)
        there = [np.flatnonzero(known[row]) for row in range(len(known))]
        return np.array([row for row, at in enumerate(there) if not len(at) or at[-1] - at[0] < self.separation], int)

    def shortened(self, encoded: Encoded) -> NDArray[np.int64]:
        return encoded.truncated  # all pairs with a letter that was cut off

    # What the model says.

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed binary cross-entropy; the count is the number of pairs that count."""
        scores, hand = self._scores(outputs, batch), batch.at_hand.targets["contacts"]
        total, count = scores.new_zeros(()), scores.new_zeros(())
        for row, (start, letters) in enumerate(_letters(batch)):
            pairs = self._pairs(scores[row, start : start + letters])  # (L, L)
            contacts = batch.targets["contacts"][row, : int((hand[row, :, 0] != IGNORED).sum())]
            known = batch.targets["known"][row, :letters] > 0
            counts = (known[:, None] & known).triu(self.separation)
            true = torch.zeros_like(pairs)
            true[contacts[:, 0], contacts[:, 1]] = 1.0
            errors = functional.binary_cross_entropy_with_logits(pairs, true, reduction="none")
            total, count = total + (errors * counts).sum(), count + counts.sum()
        return LossSum(total, count)

    def decode(self, outputs: Any, batch: Batch) -> list[ContactMap]:
        scores, found = self._scores(outputs, batch), []
        for row, (start, letters) in enumerate(_letters(batch)):
            pairs = self._pairs(scores[row, start : start + letters]).sigmoid().float().cpu().numpy()
            far = pairs[np.triu_indices(letters, self.separation)]
            options = {"threshold": self.threshold, "separation": self.separation, "letters": letters}
            found.append(ContactMap.of(far, **options))  # type: ignore[arg-type]
        return found

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[ContactMap]) -> ContactMap:
        (found,), letters = pieces, len(data.view("sequence")[row])
        return found if found.letters == letters else found.reaching(letters)

    def _scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, T, 2 R + 1) outputs of the model, checked against what the task needs.

        Raises:
            OptionError: a model whose output has another shape.
        """
        try:
            found = logits(outputs)
        except (TypeError, IndexError):
            raise OptionError(
                f"the model returned {type(outputs).__name__}; expected scores: a tensor (rows, tokens, numbers), or "
                "something that has one as .logits or 'logits', or first in a tuple"
            ) from None
        expected = (*batch.inputs["input_ids"].shape, 2 * self.rank + 1)
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} with rank={self.rank} needs "
                f"{tuple(expected)}: rows times tokens times twice the rank and one"
            )
        return found

    def _pairs(self, letters: Tensor) -> Tensor:
        """(L, L) the score of each two letters, from what the model says of each (L, 2 R + 1)."""
        rank = self.rank
        left, right, own = letters[:, :rank], letters[:, rank : 2 * rank], letters[:, 2 * rank :]
        products = left @ right.T / math.sqrt(rank)
        return products + products.T + (own + own.T) + self._odds(len(letters), letters)

    def _odds(self, letters: int, like: Tensor) -> Tensor:
        """(L, L) the log odds of a contact at the distance of each two letters."""
        odds, at = np.array(self.known.odds), np.arange(letters)
        by_distance = odds[np.minimum(_bands(at), len(odds) - 1)]
        found = torch.from_numpy(by_distance[np.abs(at[:, None] - at)]).to(like.dtype)
        return sent(found, like.device)

    def references(self, data: TaskDataset) -> Sequence[NDArray[np.int8]]:
        return _Maps(data, self)

    def inputs_of(self, example: object) -> dict[str, Any]:
        return one_sequence(example)

    def examples(self) -> list[object]:
        return list(ANYWHERE)


@final
class _Maps(Sequence[NDArray[np.int8]]):
    """(L, L) of each row: 1 of a contact, 0 of none, -1 of pairs that do not count; made when they are asked for."""

    def __init__(self, data: TaskDataset, task: ContactPrediction) -> None:
        self._data = data
        self._task = task

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, row: int) -> NDArray[np.int8]: ...
    @overload
    def __getitem__(self, row: slice) -> list[NDArray[np.int8]]: ...
    def __getitem__(self, row: int | slice) -> NDArray[np.int8] | list[NDArray[np.int8]]:
        if isinstance(row, slice):
            return [self[one] for one in range(len(self))[row]]
        truth = self._task.truth(self._data, range(len(self))[row])
        found = np.where(np.outer(truth.known, truth.known), 0, -1).astype(np.int8)
        found[truth.contacts[:, 0], truth.contacts[:, 1]] = 1
        found[np.tril_indices(len(found), self._task.separation - 1)] = -1
        return np.maximum(found, found.T)


def _framed(rows: Sequence[Sequence[int]], room: int, frame: Frame, first: int) -> Encoded:
    """As many tokens of each row as there is room for, between control tokens, and marks on those that are letters."""
    bodies = Ragged.from_lists([row[:room] for row in rows])
    inputs = framed(bodies, frame.before, frame.after)
    silent = np.zeros(frame.size, np.int8)
    before = len(frame.before)
    marks = framed(bodies.alike(np.ones(len(bodies.values), np.int8)), silent[:before], silent[before:])
    types = {name: inputs.alike(np.full(len(inputs.values), kinds[1], np.int8)) for name, kinds in frame.types.items()}
    cut = np.array([len(row) for row in rows], np.int64) - bodies.lengths
    owners = first + np.arange(len(rows))
    return Encoded({"input_ids": inputs, **types}, {}, cut=cut, owners=owners, notes={"letters": marks})


def _ragged(rows: Sequence[NDArray[Any]]) -> Ragged:
    """All rows but the first, which says what they are made of where there is none."""
    return Ragged(np.concatenate(rows), offsets_of(np.array([len(row) for row in rows[1:]], np.int64)))


def _letters(batch: Batch) -> list[tuple[int, int]]:
    """The position of the first letter of each row, and how many there are."""
    marks = batch.at_hand.notes["letters"].numpy()  # (B, T)
    return list(zip(marks.argmax(axis=1).tolist(), marks.sum(axis=1).tolist(), strict=True))


def _bands(distances: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The band of each distance between two letters: 1, 2, 3, 4 to 5, 6 to 7, 8 to 11, ..."""
    found: NDArray[np.int64] = (_BANDS_OF_TWO * np.log2(np.maximum(distances, 1))).astype(np.int64)
    return found


def _apart(known: NDArray[np.int8], separation: int) -> NDArray[np.float64]:
    """(L,) how many pairs of known letters are so far apart; 0 below the separation."""
    there = known.astype(np.float64)
    counts = np.correlate(there, there, "full")[len(there) - 1 :]
    counts[:separation] = 0.0
    return counts


def _added(sums: NDArray[np.float64], bands: NDArray[np.int64], values: Any) -> NDArray[np.float64]:
    """Sums of bands with these values added, each to its own."""
    found = np.pad(sums, (0, max(0, int(bands.max(initial=0)) + 1 - len(sums))))
    np.add.at(found, bands, values)
    return found
