"""What is found out about a model once rows are at hand: how they lie inside it, what need not be computed twice."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sftlib.encoders.encoded import Encoded
from sftlib.models.frozen.prefix_cache import Recalling
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.layouts.layout import Layout
from sftlib.models.outputs import logits
from sftlib.models.precision import Fp32
from sftlib.models.sources import seeded
from sftlib.run.fitted import Fitted
from sftlib.train.recall import Recall, freeze_layout, try_recall


def settled(fitted: Fitted, encoded: Encoded) -> Fitted:
    """The same with a layout: the leanest in which the model gives its own answers on these rows.

    Args:
        fitted: with a layout or without.
        encoded: rows of the kind that will follow; a few of them are tried, the largest among them, beside examples of
            the task, since the data may be one small row.
    """
    if fitted.layout is not None:
        return fitted
    asked = fitted.settings["padding_free"]
    batches = [fitted.feed(rows).probe() for rows in (fitted.examples(), encoded)]

    def run(layout: Layout) -> Tensor:
        forward = fitted.forward(layout, Fp32())
        with torch.inference_mode(), forward.prepared():
            found = [fitted.encoder.visible(logits(forward(batch)), batch.inputs).flatten() for batch in batches]
        if not forward.works():
            raise ValueError(f"{type(fitted.model).__name__} does not hand keywords on to its attention")
        return torch.cat(found)

    was_training = fitted.model.training
    fitted.model.eval()
    layout = fitted.encoder.layout(fitted.model, run, padding_free=None if asked == "auto" else asked)
    fitted.model.train(was_training)
    return replace(fitted, layout=layout, settings={**fitted.settings, "layout": layout.name})


def holding_frozen(fitted: Fitted, encoded: Encoded, store: PrefixStore) -> tuple[Fitted, str]:
    """The same after a part of the model was frozen: what is constant runs as in evaluation, and once for each row.

    Args:
        fitted: settled.
        encoded: rows of the kind that will follow.
        store: where to keep outputs.

    Returns:
        It, and what to say of that before the first step.
    """
    assert fitted.layout is not None
    plain, batch = fitted.layout, fitted.feed(encoded).probe()
    with seeded(fitted.settings["seed"]):
        frozen = freeze_layout(lambda layout: fitted.forward(layout, Fp32()), plain, batch)
        found: Recalling | str = "every step shows the model other rows"
        if not fitted.task.shows_more:
            found = try_recall(lambda layout: fitted.forward(layout, Fp32()), frozen, batch, fitted.encoder)
    held = replace(fitted, layout=frozen)
    if not isinstance(found, Recalling):
        return held, f"frozen layers are computed anew in every step: {found}"
    recall = Recall(found, held.forward(), held.feed, store=store)
    return replace(held, recall=recall), "frozen layers are computed once for each row"
