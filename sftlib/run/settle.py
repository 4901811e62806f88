"""What is found out about a model once rows are at hand: how they lie inside it, what need not be computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.models.frozen.freezing import Frozen
from sftlib.models.frozen.prefix_cache import Recalling
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.layouts.layout import Layout
from sftlib.models.outputs import logits
from sftlib.models.precision import Fp32
from sftlib.models.seeds import seeded
from sftlib.models.tried import Tried
from sftlib.run.fitted import Fitted
from sftlib.train.forward import Forward
from sftlib.train.recall import Recall, freeze_layout, try_recall

_BEGINS = ("task", "seed", "dropout", "freeze", "adapter", "padding_free", "checkpointing")
_SEVERAL = "several heads ask for them, each in a call of its own"


def settled(fitted: Fitted, encoded: Encoded, tried: Tried | None = None) -> Fitted:
    """The same with a layout: the leanest in which the model gives its own answers on these rows.

    Args:
        fitted: with a layout or without.
        encoded: rows of the kind that will follow; a few of them are tried, the largest among them, beside examples of
            the task, since the data may be one small row.
        tried: what was found of models that began as this one; to be given of a model that did not learn yet.
    """
    if fitted.layout is not None:
        return fitted
    tried, key, largest = tried or Tried(), _beginning(fitted, "layout"), int(encoded.cost.max(initial=0))
    layout = tried.find(key, largest)
    if layout is None:
        layout = _layout_for(fitted, encoded)
        tried.keep(key, largest, layout)
    return replace(fitted, layout=layout, settings={**fitted.settings, "layout": layout.name})


def _layout_for(fitted: Fitted, encoded: Encoded) -> Layout:
    asked = fitted.settings["padding_free"]
    batches = [batch for rows in (fitted.examples(), encoded) for batch in fitted.feed(rows).probes()]
    return fitting_layout(
        fitted.encoder,
        fitted.model,
        batches,
        lambda layout: fitted.forward(layout, Fp32()),
        padding_free=None if asked == "auto" else asked,
    )


def _beginning(fitted: Fitted, what: str) -> str:
    """A key: what is tried, and all that decides how a model of one source begins."""
    chosen = {name: fitted.settings.get(name) for name in _BEGINS}
    facts = [what, repr(fitted.task), repr(fitted.task.head), fitted.encoder.facts, str(fitted.device)]
    return json.dumps([*facts, type(fitted.model).__qualname__, chosen], default=repr, sort_keys=True)


def fitting_layout(
    encoder: Encoder,
    model: nn.Module,
    batches: Sequence[Batch],
    make: Callable[[Layout], Forward],
    *,
    padding_free: bool | None,
) -> Layout:
    """The leanest layout in which the model gives its own answers on these batches.

    Args:
        encoder: knows the layouts, and which scores mean something.
        model: on its device.
        batches: a few rows of different cost each, the largest of the data among them.
        make: a forward pass in a layout, in fp32.
        padding_free: whether to try rows end to end; None to decide by the model.
    """

    def run(layout: Layout) -> Tensor:
        forward = make(layout)
        with torch.no_grad(), forward.prepared():
            found = [encoder.visible(logits(forward(batch)), batch.inputs).flatten() for batch in batches]
        if not forward.works():
            raise ValueError(f"{type(model).__name__} does not hand keywords on to its attention")
        return torch.cat(found)

    was_training = model.training
    model.eval()
    layout, refused = encoder.layout(model, run, padding_free=padding_free)
    layout.refused = refused
    model.train(was_training)
    return layout


def holding_frozen(
    fitted: Fitted, encoded: Encoded, store: PrefixStore, tried: Tried | None = None
) -> tuple[Fitted, str]:
    """The same after a part of the model was frozen: what is constant runs as in evaluation, and once for each row.

    Args:
        fitted: settled.
        encoded: rows of the kind that will follow.
        store: where to keep outputs.
        tried: what was found of models that began as this one.

    Returns:
        It, and what to say of that before the first step.
    """
    tried, key, largest = tried or Tried(), _beginning(fitted, "frozen"), int(encoded.cost.max(initial=0))
    ways = tried.find(key, largest)
    if ways is None:
        frozen, found = _ways_to_hold(fitted, encoded)
        ways = frozen, found.of(nn.Identity()) if isinstance(found, Recalling) else found  # without its model
        tried.keep(key, largest, ways)
    frozen, found = ways
    held = replace(fitted, layout=frozen)
    if not isinstance(found, Recalling):
        return held, f"frozen layers are computed anew in every step: {found}"
    found = found.of(fitted.model)  # with a shelf of its own
    if found.prefix.layers is None:  # nothing but the head is computed then: worth more than a drawn row now and then
        held = replace(held, encoder=held.encoder.still())
    recall = Recall(found, held.forward(), partial(held.feed, identified=True), store=store)
    return replace(held, recall=recall), f"frozen layers are computed once for each row{_drawn(fitted, held)}"


def _ways_to_hold(fitted: Fitted, encoded: Encoded) -> tuple[Frozen, Recalling | str]:
    """The layout in which what is constant runs as in evaluation, and how it is computed once, or why not."""
    assert fitted.layout is not None
    constant = not fitted.task.shows_more
    plain, batches = fitted.layout, fitted.feed(encoded, identified=constant).probes()
    unread = fitted.feed(encoded, identified=constant, knows=lambda _: True).probes()[0]
    with seeded(fitted.settings["seed"]):
        frozen = freeze_layout(lambda layout: fitted.forward(layout, Fp32()), plain, batches)
        found: Recalling | str = "every step shows the model other rows"
        if constant:
            make = partial(fitted.forward, precision=Fp32())
            found = _SEVERAL if len(batches) > 1 else try_recall(make, frozen, batches[0], unread, fitted.encoder)
    return frozen, found


def _drawn(before: Fitted, held: Fitted) -> str:
    """What is to be said of rows that are drawn, or are no more."""
    if held.encoder.draws:
        return " that is judged; rows to learn from are drawn anew in every epoch"
    return ", and shown as it is" if before.encoder.draws else ""
