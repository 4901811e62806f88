"""``fit(..., baseline=True)``: what the body does as it came, under a head of its own, beside the tuned model.

On few rows a careless run loses to it, and nobody who sees one number alone can know. The body is computed once for
each row; of one label a row the head is the logistic regression of `sftlib.run.few_shot`, of other tasks it learns in
steps, as with ``freeze="backbone"``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from tqdm.auto import tqdm

from sftlib.errors import OptionError
from sftlib.metrics.directions import higher_is_better
from sftlib.models.frozen.freezing import BACKBONE
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.run.choose import watchers
from sftlib.run.few_shot import with_head
from sftlib.run.fitted import Fitted
from sftlib.run.on_disk import RunInMemory
from sftlib.run.prepare import Call, prepare
from sftlib.support.display import counted
from sftlib.tasks.single_label import OneLabelTask
from sftlib.train.callbacks import EarlyStopping, KeepBest

_REGRESSION, _STEPS = "logistic regression", "a head trained alone"


@final
@dataclass(frozen=True)
class Baseline:
    """What the body does as it came.

    Attributes:
        head: what is on it.
        metrics: on the validation rows.
        seconds: that it took.
    """

    head: str
    metrics: Mapping[str, float]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """Plain values, under the name that they have in `FineTuner.decided`."""
        return {"baseline": {"head": self.head, "metrics": dict(self.metrics), "seconds": self.seconds}}

    def tell(self, call: Call, tuned: Fitted) -> None:
        """Both beside one another; also where nothing is printed, if the tuned model is the worse one."""
        metric = _compared(call, self.metrics)
        before, after = self.metrics[metric], (tuned.metrics or {}).get(metric, float("nan"))
        good = after >= before if higher_is_better(metric) else after <= before
        worse = not (good or math.isnan(before))  # a tuned model without a number is worse than one with it
        rows = counted(len(call.valid or ()), "validation row")
        line = f"baseline: {metric} {before:.4f} with the body as it came under {self.head}, tuned {after:.4f} ({rows})"
        if worse:
            line += "; tuning did not help: freeze='backbone' or few_shot='head-first' may, or a lower learning_rate"
        if call.progress:
            tqdm.write(line)
        elif worse and call.comm.rank == 0:
            logging.getLogger("sftlib").warning("%s", line)


def baseline(call: Call) -> Baseline:
    """What a call is to be compared with.

    Raises:
        OptionError: a model without a body and a head that can be told apart.
    """
    started = time.monotonic()
    arguments = replace(
        call.arguments, freeze=BACKBONE, adapter=None, few_shot=None, learning_rate=None, layer_decay=1.0
    )
    # With a store of its own: what the run computes must not depend on whether it was compared.
    alone = replace(call, arguments=arguments, callbacks=(), progress=False, deadline=None, store=PrefixStore())
    try:
        if isinstance(call.task, OneLabelTask):
            head, fitted = _REGRESSION, with_head(alone)
        else:
            head, fitted = _STEPS, _frozen(alone)
    except OptionError as error:
        raise OptionError(f"baseline=True: {error}") from error
    return Baseline(head, fitted.metrics or {}, time.monotonic() - started)


def _frozen(call: Call) -> Fitted:
    fitting = prepare(call, RunInMemory())
    fitting.go()
    return fitting.fitted


def _compared(call: Call, metrics: Mapping[str, Any]) -> str:
    """The metric that the run is watched by; else the first of the task's."""
    watching = [one for one in watchers(call.arguments) if isinstance(one, EarlyStopping | KeepBest)]
    names = [*(one.metric for one in watching), *map(str, call.metric_names)]
    return next((name for name in names if name in metrics), "loss")
