"""Rows of a head that was trained before: each goes to the label of its name, wherever that stands now.

A head has a row for each label, in the order of its own training. Taken over by position, the rows of a classifier
whose labels stand in another order would get each other's names: every answer wrong, and no error anywhere.

Letters: ``K`` labels.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
import transformers
from torch import Tensor, nn

from sftlib.models.opening import quiet

if TYPE_CHECKING:
    from sftlib.models.sources import Head

Axes = Mapping[str, tuple[int, ...]]  # name of a weight -> its dimensions that count labels

_UNNAMED = re.compile(r"LABEL_\d+")
_SHOWN = 8


@final
@dataclass(frozen=True)
class Seats:
    """Which row of an old head goes where in a new one.

    Attributes:
        labels: of the new head, in order.
        before: of the old one.
        pairs: place in the new head -> place in the old one, for every label that both know.
        reason: why none is taken over although names are the same; or "".
    """

    labels: tuple[str, ...]
    before: tuple[str, ...]
    pairs: Mapping[int, int]
    reason: str = ""

    @classmethod
    def of(cls, labels: Sequence[str], before: Sequence[str], *, stranger: str = "") -> Seats:
        """The seats of rows by the names of their labels.

        Without names (``LABEL_0``) rows keep their places, if they are as many; and numbers from 0 are such places.

        Args:
            labels: of the new head.
            before: of the old one.
            stranger: why the old head cannot become the new one, whatever its labels are.

        Example:
            >>> Seats.of(["bad", "good", "odd"], ["good", "bad"]).pairs
            {0: 1, 1: 0}
            >>> Seats.of(["bad", "good"], ["LABEL_0", "LABEL_1"]).pairs
            {0: 0, 1: 1}
        """
        new, old = tuple(labels), tuple(before)
        number = {name: place for place, name in enumerate(old)}
        pairs = {place: number[name] for place, name in enumerate(new) if name in number}
        if not pairs and unnamed(old):
            counted = new == tuple(str(place) for place in range(len(new)))
            places = min(len(new), len(old)) if counted or len(new) == len(old) else 0
            pairs = {place: place for place in range(places)}
        return cls(new, old, {} if stranger else pairs, stranger)

    @property
    def moves(self) -> bool:
        """Whether any row does not stay where it is, or is new."""
        return len(self.labels) != len(self.before) or any(self.pairs.get(i) != i for i in range(len(self.labels)))

    @property
    def new(self) -> tuple[str, ...]:
        """Labels without an old row."""
        return tuple(name for place, name in enumerate(self.labels) if place not in self.pairs)

    def sentence(self) -> str:
        """What is to be said of them before the first step; "" where every row stays under its own name."""
        if not self.moves:
            if not unnamed(self.before) or unnamed(self.labels) or self._counted:
                return ""
            return (
                f"the rows of the model's head have no names ({_listed(self.before)}): they are taken over in their "
                f"order, for {_listed(self.labels)}"
            )
        if not self.pairs:
            why = self.reason or f"it was trained for {_listed(self.before)}, the data has {_listed(self.labels)}"
            return f"the head is drawn anew: {why}"
        kept = {*self.pairs.values()}
        left = [name for place, name in enumerate(self.before) if place not in kept]
        parts = [
            f"drawn anew for {_listed(self.new)}" if self.new else "",
            f"those of {_listed(left)} are left out" if left else "",
        ]
        more = "; ".join(part for part in parts if part)
        known = _listed([self.labels[place] for place in self.pairs])
        return f"the head keeps the rows of its labels by name: {known}{'; ' if more else ''}{more}"

    @property
    def _counted(self) -> bool:
        return self.labels == tuple(str(place) for place in range(len(self.labels)))

    def seat(self, old: Tensor, fresh: Tensor, axes: tuple[int, ...]) -> Tensor:
        """(..., K, ...) A weight of the new head: its old rows in their new places, ``fresh`` ones elsewhere."""
        found = fresh.clone()
        to, of = (torch.tensor(list(side), dtype=torch.int64) for side in (self.pairs.keys(), self.pairs.values()))
        if len(to):
            rows = old.to(fresh)
            first = tuple(range(len(axes)))
            grids = [torch.meshgrid(*[side] * len(axes), indexing="ij") for side in (to, of)]
            found.movedim(axes, first)[grids[0]] = rows.movedim(axes, first)[grids[1]]
        return found


def unnamed(labels: Sequence[str]) -> bool:
    """Whether these are the names that transformers gives to labels that nobody named."""
    return all(_UNNAMED.fullmatch(name) for name in labels)


def names_in(config: Any) -> tuple[str, ...]:
    """The labels that a config of transformers names, in their order."""
    named = getattr(config, "id2label", None) or {}
    return tuple(str(named[number]) for number in sorted(named, key=int))


def label_axes(auto_class: str, config: Any, count: int) -> dict[str, tuple[int, ...]]:
    """Which dimensions of which weights count labels: found by building the shapes once with one label more.

    Args:
        auto_class: transformers' Auto class of the head.
        config: of the model; not changed.
        count: labels.
    """
    few, more = (_shapes(auto_class, config, size) for size in (count, count + 1))
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(shape, more[name], strict=True)) if a != b)
        for name, shape in few.items()
        if name in more and len(shape) == len(more[name]) and shape != more[name]
    }


def _shapes(auto_class: str, config: Any, count: int) -> dict[str, tuple[int, ...]]:
    asked = copy.deepcopy(config)
    asked.update({"num_labels": count})
    with quiet(), torch.device("meta"):
        model: nn.Module = getattr(transformers, auto_class).from_config(asked)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def seated(
    seats: Seats, axes: Axes, old: Mapping[str, Tensor], fresh: Callable[[], Mapping[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Name -> each weight of the head that counts labels, as it is to be.

    Args:
        seats: which row goes where.
        axes: of these weights.
        old: the weights of the old head, under the names of the new one.
        fresh: draws weights of the new one.
    """
    drawn = fresh()
    for name, dimensions in axes.items():
        yield name, seats.seat(old[name], drawn[name], dimensions) if name in old else drawn[name]


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def follow_labels(
    model: Any,
    head: Head,
    config: Any,
    *,
    held: Collection[str],
    old: Callable[[], Mapping[str, Tensor]],
    fresh: Callable[[], Mapping[str, Tensor]],
) -> tuple[str, Set[str]]:
    """Give the rows of a head that was trained before to the labels of their names; the others are drawn.

    Args:
        model: built for the new head; its head is changed in place.
        head: what the task wants.
        config: of the model as it came.
        held: names of the weights that it came with, whatever their shapes.
        old: their values, under the names of ``model``.
        fresh: draws the weights of ``model`` anew.

    Returns:
        What is to be said of it, or ""; and the names of the weights in which rows are drawn.
    """
    body = f"{model.base_model_prefix}."
    if head.outputs is None or not any(name in held for name in model.state_dict() if not name.startswith(body)):
        return "", frozenset()
    before = names_in(config)
    stranger = _stranger(model, head, config, before)
    if not head.labels and not stranger:
        return "", frozenset()
    seats = Seats.of(head.labels, before, stranger=stranger)
    said = seats.sentence()
    if not said and not seats.moves and not seats.reason:
        return "", frozenset()
    axes = label_axes(head.auto_class, model.config, head.outputs)
    if not axes.keys() & set(held):
        return "", frozenset()
    if seats.moves or seats.reason:
        found = dict(seated(seats, axes, old() if seats.pairs else {}, fresh))
        model.load_state_dict(found, strict=False)
    return said, frozenset(axes) if seats.new or seats.reason else frozenset()


def _stranger(model: Any, head: Head, config: Any, before: Sequence[str]) -> str:
    """Why a head cannot become the one that is wanted, whatever its labels are called; "" where it can."""
    kinds = {name.rpartition("For")[2]: name for name in getattr(config, "architectures", None) or ()}
    if kinds and type(model).__name__.rpartition("For")[2] not in kinds:
        return f"it is that of {next(iter(kinds.values()))}"
    numbers = [kind == "regression" for kind in (getattr(config, "problem_type", None), head.problem_type)]
    if numbers[0] != numbers[1] and (numbers[0] or len(before) != head.outputs):
        return "it was trained for numbers" if numbers[0] else f"it was trained for {_listed(before)}"
    if not head.labels and len(before) != head.outputs:
        return f"it has {len(before)} outputs, {head.outputs} are needed"
    return ""
