"""What may watch a run: progress, early stopping, keeping the best. A callback never touches the loop's arithmetic."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor

from sftlib.errors import OptionError
from sftlib.metrics.directions import higher_is_better
from sftlib.support.checking import checked, raise_together, real_number, whole_number
from sftlib.train.held import Part
from sftlib.train.state import Training


class Callback:
    """Inherit and override what you need; every event gets the run.

    The order of events: ``on_fit_start``, then for every optimizer step ``on_step_end``, after the last step of an
    epoch (or of the run) ``on_epoch_end``, at last ``on_fit_end``.

    Example:
        >>> class StopAfter(Callback):
        ...     def __init__(self, steps):
        ...         self.steps = steps
        ...
        ...     def on_step_end(self, training, record):
        ...         if training.step >= self.steps:
        ...             training.stop_reason = "enough"
    """

    def on_fit_start(self, training: Training) -> None:
        """Before the first step."""

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        """After an optimizer step; ``record`` is the history's newest."""

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        """After an epoch, with the metrics on the validation data if there are any."""

    def on_fit_end(self, training: Training) -> None:
        """After the last step."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


@final
class KeepBest(Callback):
    """Remembers the weights of the best evaluation and puts them back when the run ends.

    Args:
        metric: name of a metric, such as ``"f1_macro"`` or ``"loss"``.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.best: float | None = None
        self.best_step = 0
        self._weights: dict[str, Tensor | Part] = {}

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        value = _watched(training, self.metric, metrics)
        if is_better(self.metric, value, self.best):
            self.best, self.best_step = value, training.step
            self._weights = training.held.copied(training.model)

    def on_fit_end(self, training: Training) -> None:
        if self._weights:
            training.held.put_back(training.model, self._weights)
            training.weights_of = self.best_step
        elif any(math.isnan(record.get(f"valid_{self.metric}", 0.0)) for record in training.history.evaluations):
            training.tell(f"{self.metric} was never a number, so the weights are those of the last step")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_step = _number(state["best"]), int(state["best_step"])
        self._weights = dict(state["weights"])


@final
class EarlyStopping(Callback):
    """Ends the run when a metric has not improved for a number of evaluations.

    The weights of the best evaluation come back, as with ``keep_best``.

    Args:
        metric: name of a metric, such as ``"f1_macro"`` or ``"loss"``.
        patience: evaluations without improvement that are tolerated.
        min_delta: how much better counts as better.

    Raises:
        OptionError: a metric that is no name, a patience below 1 or a negative ``min_delta``.
    """

    @checked
    def __init__(self, metric: str = "loss", *, patience: int = 2, min_delta: float = 0.0) -> None:
        named = isinstance(metric, str)
        raise_together(
            [
                None
                if named
                else f"metric={metric!r:.60}: expected the name of a metric, such as 'loss' or 'f1_macro'",
                whole_number("patience", patience, at_least=1),
                real_number("min_delta", min_delta, 0, expected="a finite number of at least 0"),
            ]
        )
        self.metric = metric
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited = 0

    def on_fit_start(self, training: Training) -> None:
        self.best, self.waited = None, 0

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        value = _watched(training, self.metric, metrics)
        if is_better(self.metric, value, self.best, self.min_delta):
            self.best, self.waited = value, 0
            return
        if value is not None and math.isnan(value):
            return
        self.waited += 1
        if self.waited >= self.patience:
            training.stop_reason = f"{self.metric} has not improved for {self.waited} evaluations"

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = _number(state["best"]), int(state["waited"])

    def __repr__(self) -> str:
        return f"EarlyStopping({self.metric!r}, patience={self.patience}, min_delta={self.min_delta})"


def _watched(training: Training, metric: str, metrics: Mapping[str, float] | None) -> float | None:
    """The value of a metric that decides something; one that is no number is told."""
    value = None if metrics is None else metrics[metric]
    if value is not None and math.isnan(value):
        training.tell(
            f"{metric} is nan on the validation rows after step {training.step}, and is passed over: neither better "
            "nor worse than before (it is not defined there: predictions or answers that are all equal, one label "
            "alone, or scores that are not finite)"
        )
    return value


def _number(value: Any) -> float | None:
    """A number or None as a checkpoint holds it; another program may have written something else there."""
    return None if value is None else float(value)


def check_callbacks(callbacks: object) -> tuple[Callback, ...]:
    """The callbacks of a run, after a look at each.

    Raises:
        OptionError: naming each that is none, and each event that cannot be called the way the loop does.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise OptionError(f"callbacks={callbacks!r:.60}: expected a list of callbacks; one alone is a list of one")
    raise_together(problem for number, member in enumerate(callbacks) for problem in _problems(number, member))
    return tuple(callbacks)


_EVENTS = {"on_fit_start": 1, "on_step_end": 2, "on_epoch_end": 2, "on_fit_end": 1}  # arguments of each


def _problems(number: int, member: object) -> list[str]:
    where = f"callbacks[{number}]"
    if isinstance(member, type):
        return [f"{where}={member.__name__}: expected an object, found its class: {member.__name__}(...)"]
    if not isinstance(member, Callback):
        return [f"{where}={member!r:.60}: expected an object of a class that inherits sftlib.Callback"]
    return [
        f"{where}: {type(member).__name__}.{event} cannot be called with {count} argument{'s' if count > 1 else ''}; "
        f"sftlib.Callback.{event} shows which"
        for event, count in _EVENTS.items()
        if not _takes(getattr(member, event), count)
    ]


def _takes(method: Any, count: int) -> bool:
    try:
        inspect.signature(method).bind(*range(count))
    except TypeError:
        return False
    return True


def is_better(metric: str, value: float | None, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether ``value`` improves on ``best`` in the direction of the metric; NaN never does."""
    if value is None or value != value:
        return False
    if best is None:
        return True
    return value > best + min_delta if higher_is_better(metric) else value < best - min_delta


@final
class Callbacks(Callback):
    """Several callbacks as one, called in order."""

    def __init__(self, members: Sequence[Callback]) -> None:
        self.members = tuple(members)

    def on_fit_start(self, training: Training) -> None:
        for member in self.members:
            member.on_fit_start(training)

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        for member in self.members:
            member.on_step_end(training, record)

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        for member in self.members:
            member.on_epoch_end(training, metrics)

    def on_fit_end(self, training: Training) -> None:
        for member in self.members:
            member.on_fit_end(training)

    def state_dict(self) -> dict[str, Any]:
        return {str(i): member.state_dict() for i, member in enumerate(self.members)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, member in enumerate(self.members):
            member.load_state_dict(state[str(i)])


__all__ = ["Callback", "Callbacks", "EarlyStopping", "KeepBest", "check_callbacks", "is_better"]
