"""How often a step waits for its device, told without one: torch's "meta" device stands for one that is elsewhere.

Whatever the host can only know when the device has come so far is a wait: a number that is read, a tensor that is
copied back, a result whose shape hangs on values, and a copy there that does not return before it is done. Numbers that
are read are made up, since nothing is computed there.
"""

from __future__ import annotations

import dataclasses
import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sftlib.models.layouts.layout import Layout
from sftlib.run.assemble import assemble
from sftlib.run.settle import settled
from sftlib.train.backward import Separate
from sftlib.train.callbacks import Callback
from sftlib.train.comm import Alone
from sftlib.train.coupled import Coupled
from sftlib.train.history import History
from sftlib.train.loop import Loop
from sftlib.train.nonfinite import SkipNonFinite
from sftlib.train.optimizer import make_optimizer
from sftlib.train.plan import Budget, ShuffledPlan
from sftlib.train.schedules import SCHEDULES
from sftlib.train.state import Training
from tests.contracts.cases import case_of, task_class, tuner_for

ELSEWHERE = torch.device("meta")
_FITTING = 3  # results that hang on values: so many, whatever they are


class Waits(TorchDispatchMode):
    """Within this context every wait for the device is noted, by where in the library it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        name, first = str(operation), args[0] if args and isinstance(args[0], Tensor) else None
        away = first is not None and first.device == ELSEWHERE
        if name == "aten._local_scalar_dense.default" and away:
            return self._told(1 if first is not None and not first.is_floating_point() else 1.0)
        if name == "aten._to_copy.default" and first is not None:
            target = torch.device(given.get("device") or first.device)
            if away and target != ELSEWHERE:
                return self._told(torch.ones(first.shape, dtype=given.get("dtype") or first.dtype))
            if not away and target == ELSEWHERE and not given.get("non_blocking"):
                self._told(None)
        if name.startswith("aten.nonzero") and away:
            assert first is not None
            return self._told(torch.empty(_FITTING, first.dim(), dtype=torch.int64, device=ELSEWHERE))
        if name == "aten.masked_select.default" and away:
            assert first is not None
            return self._told(first.new_empty(_FITTING))
        if name == "aten.equal.default" and away:
            return self._told(True)
        if name == "aten.index.Tensor" and any(
            isinstance(part, Tensor) and part.device == ELSEWHERE and part.dtype in (torch.bool, torch.uint8)
            for part in args[1]
        ):
            places = [self._places(part) for part in args[1]]
            return self._told(operation(args[0], [place for several in places for place in several], **given))
        return operation(*args, **given)

    def _places(self, part: Tensor | None) -> list[Tensor | None]:
        if part is None or part.dtype not in (torch.bool, torch.uint8):
            return [part]
        return [torch.empty(_FITTING, dtype=torch.int64, device=ELSEWHERE) for _ in range(part.dim())]

    def note(self) -> None:
        """Note a wait, by the innermost function of the library that it is made in."""
        self._told(None)

    def _told(self, value: Any) -> Any:
        frames = [frame for frame in traceback.extract_stack() if "/sftlib/" in frame.filename]
        where = frames[-1] if frames else None
        self.found.append("outside" if where is None else f"{where.filename.split('/sftlib/')[-1]}: {where.name}")
        return value


class Made(TorchFunctionMode):
    """Within this context tensors that are made there of numbers here are noted too: they are copied, and waited for.

    Args:
        waits: where to.
    """

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if function in _MAKING and isinstance(found, Tensor) and found.device == ELSEWHERE:
            self._waits.note()
        return found


_MAKING = (Tensor.new_tensor, torch.tensor, torch.as_tensor)


class Noting(Callback):
    """How many waits there were at the end of each step."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self.ends: list[int] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.ends.append(len(self._waits.found))


def waits_of_a_step(
    name: str, layout: Callable[[], Layout] | None = None, *, family: str | None = None, rows: int = 4, **options: Any
) -> list[str]:
    """Where the second step of a run waits for a device that is elsewhere.

    Args:
        name: of a task, whose contract case is trained.
        layout: of rows inside the model; the one that a trial here chooses where None.
        family: of the model.
        rows: of a micro-batch; a step has eight.
        options: of the tuner.
    """
    tuner = tuner_for(name, family, padding_free=False, **options)
    data = case_of(name).data(16)
    arguments = tuner._arguments
    fitted = assemble(arguments, tuner._source, arguments.learning(task_class(name)).learned_from(data))
    encoded = fitted.encode(data)
    fitted = settled(fitted, encoded)
    fitted = dataclasses.replace(fitted, device=ELSEWHERE, layout=layout() if layout else fitted.layout)
    fitted.model.to(ELSEWHERE)
    plan = fitted.task.plan(encoded, batch_size=8, seed=0) or ShuffledPlan(len(encoded), batch_size=8, seed=0)
    forward = fitted.forward()
    feed = fitted.feed(encoded, Budget(rows, 2**62), plan=plan)
    coupled = fitted.task.couples_rows
    waits = Waits()
    noting = Noting(waits)
    loop = Loop(
        forward=forward,
        backward=Coupled(forward, fitted.task, feed, Alone()) if coupled else Separate(forward, fitted.task, feed),
        plan=plan,
        feed=feed,
        learning_rate=1e-3,
        schedule=SCHEDULES["constant"](2, 0),
        max_grad_norm=math.inf,
        evaluate=lambda: None,
        on_nonfinite=SkipNonFinite(),
        callbacks=noting,
        comm=Alone(),
    )
    optimizer = make_optimizer(fitted.model, learning_rate=1e-3, weight_decay=0.01)
    with forward.prepared(), waits, Made(waits):
        loop.run(Training(fitted.model, History(), 2, plan.steps_per_epoch), optimizer)
    return waits.found[noting.ends[0] : noting.ends[1]]
