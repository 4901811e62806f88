"""The head first, then body and head together (Kumar et al., 2022, "Fine-tuning can distort pretrained features").

A head that begins at nothing sends large gradients of no meaning through the body in its first steps, and bends what
the body knew. Fitted on the body as it came, it begins where there is little left to bend: better at home by a little
and on other domains by much, in their experiments. The steps themselves are those of the plain run.
"""

from __future__ import annotations

from dataclasses import replace

from sftlib.models.sources import AdaptedSource
from sftlib.run.few_shot import HEAD_FIRST, with_head
from sftlib.run.fitted import Fitted
from sftlib.run.on_disk import Run
from sftlib.run.prepare import Call, prepare


def head_first(call: Call, run: Run) -> Fitted:
    """The tuned model.

    Args:
        call: what is asked for: one label a row.
        run: what it leaves on disk.

    Raises:
        OptionError: a model without an output layer that can be told.
    """
    begun = with_head(replace(call, valid=None))
    fitting = prepare(replace(call, source=AdaptedSource(call.source, begun.model)), run)
    fitting.go()
    return replace(fitting.fitted, decided={"few_shot": {"kept": HEAD_FIRST}})
