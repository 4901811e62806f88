"""``shard=True``: whether the weights of a run can be cut, and what is done another way then."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, NoReturn, final

import numpy as np
import torch
from torch import nn

from sftlib.arguments import Arguments
from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.structure import repeated_layers
from sftlib.run.fitted import Fitted
from sftlib.support.checking import raise_together
from sftlib.support.display import counted
from sftlib.tasks.base import Asked, Task
from sftlib.train.comm import Comm
from sftlib.train.forward import Forward
from sftlib.train.held import Held, Whole

#: What is said of layers that are frozen.
ANEW: Final = "frozen layers are computed anew in every step: with shard=True their weights are in parts"


def held_by(arguments: Arguments, task: Task, comm: Comm) -> Held:
    """How the processes of a run hold its weights.

    Raises:
        OptionError: they are to be cut, and cannot be.
    """
    if not arguments.shard or comm.size == 1:
        return Whole()
    if task.couples_rows:
        raise OptionError(
            f"shard=True: {task.name} compares rows of all processes, each of which computes them twice; that cannot "
            "be done with weights in parts yet: leave shard= out"
        )
    from sftlib.train.sharded import Sharded  # torch's part of it takes a second to import

    return Sharded(comm)


def with_parts(fitted: Fitted, train: Encoded, valid: Encoded | None, names: Any) -> Fitted:
    """The same as a run computes it that holds its weights in parts; as it is where they are whole.

    Args:
        fitted: settled, with whole weights.
        train: training rows.
        valid: validation rows, if there are any.
        names: the metrics to compute on them.

    Raises:
        OptionError: saying what cannot be done with weights in parts, all of it.
    """
    if not fitted.held.parted:
        return fitted
    assert fitted.layout is not None
    raise_together(
        [
            train.apart is not None
            and "shard=True: rows of several kinds, each with layers of its own, would ask different processes for "
            "different weights at the same time: leave shard= out, or learn one kind at a time",
            valid is not None and _writes(fitted, valid, names) and _WRITING,
        ]
    )
    layers = len(repeated_layers(fitted.model))
    said = f"weights in parts, each of {counted(fitted.comm.size, 'process', 'processes')} with one"
    found = f"gathered by layer ({layers:,})" if layers else "gathered as a whole: no layers that repeat were found"
    return replace(fitted, layout=fitted.layout.by_layer(), told=[*fitted.told, f"{said}; {found}"])


_WRITING = (
    "shard=True: these metrics need texts that the model writes, piece by piece, for which its weights would be "
    "gathered anew each time: name others, such as metrics=['loss'], and evaluate after fit"
)


@torch.no_grad()
def _writes(fitted: Fitted, valid: Encoded, names: Any) -> bool:
    """Whether judging a row makes the model write."""
    forward, batch = fitted.forward(), fitted.feed(valid).of(np.array([valid.cost.argmin()]))
    fitted.model.eval()
    noted = _Noted(forward)
    with forward.prepared():
        try:
            fitted.task.judge(noted, batch, fitted.encoder, fitted.task.metrics(names))
        except _WouldWrite:
            return True
    return False


class _WouldWrite(Exception):  # noqa: N818 - no error
    """The model was to be asked to write."""


@final
class _Noted(Asked):
    """A model that is not asked to write."""

    def __init__(self, forward: Forward) -> None:
        self.model = forward.model
        self._forward = forward

    def __call__(self, batch: Any) -> Any:
        return self._forward(batch)

    def plain(self) -> AbstractContextManager[nn.Module]:
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise _WouldWrite
