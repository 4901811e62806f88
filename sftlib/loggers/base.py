"""What all loggers promise: a run is the same with and without them, to the bit, whatever happens to them."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

from sftlib.support.checking import is_number
from sftlib.support.redaction import redacted
from sftlib.train.callbacks import Callback
from sftlib.train.comm import open_comm
from sftlib.train.state import Training

_LOG = logging.getLogger("sftlib")
_NOT_VALUES = ("kind", "step", "epoch")


class Logger(Callback):
    """Tells a tracker the records of a run: numbers of each step, and metrics of each evaluation.

    A tracker that fails is told of once, by the Python logger ``sftlib``, and then left alone; the run goes on. A run
    that is resumed goes on in the same curve and writes no point twice. Of several processes the first one logs. What
    looks like a secret is redacted.

    Args:
        config: values that describe the run, such as ``tuner.get_params()``.
        every: optimizer steps between two points of the training curve.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, *, every: int = 1) -> None:
        self.config: dict[str, Any] = redacted({name: _plain(value) for name, value in (config or {}).items()})
        self.every = every
        self._run: str | None = None  # as the tracker calls it
        self._last = 0  # the last step that was told
        self._is_open = False
        self._quiet = False

    # What a tracker takes.

    @abstractmethod
    def open(self, run: str | None, last: int) -> str:
        """Begin a run, or go on with one; returns what identifies it.

        Args:
            run: that goes on; None for a new one.
            last: the last step that counts of it: later points are to be overwritten or left out.
        """

    @abstractmethod
    def write(self, values: Mapping[str, float], *, step: int) -> None:
        """Add points at a step."""

    def close(self) -> None:
        """End the run."""
        return

    # Events.

    @final
    def on_fit_start(self, training: Training) -> None:
        """A new run; of one that goes on, `load_state_dict` says so right after. It is opened with its first point."""
        self._quiet = open_comm().rank != 0
        self._run, self._last, self._is_open = None, 0, False

    @final
    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        step = int(record["step"])
        if step % self.every == 0 and step > self._last:
            self._write({f"train/{name}": value for name, value in _numbers(record).items()}, step)
            self._last = step

    @final
    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        values = {f"valid/{name}": value for name, value in _numbers(metrics or {}).items()}
        self._write({**values, "epoch": training.epoch}, training.step)

    @final
    def on_fit_end(self, training: Training) -> None:
        if self._is_open:
            self._told(self.close)
        self._is_open = False

    def _write(self, values: Mapping[str, float], step: int) -> None:
        def act() -> None:
            if not self._is_open:
                self._run = self.open(self._run, self._last)
                self._is_open = True
            self.write(values, step=step)

        self._told(act)

    def _told(self, act: Callable[[], None]) -> None:
        """Do something with the tracker; when that fails, say so once and be quiet from then on."""
        if self._quiet:
            return
        try:
            act()
        except Exception as error:  # whatever a tracker raises, a run of hours must not end because of it
            self._quiet = True
            _LOG.warning(
                "%s failed and logs no more; the run goes on: %s: %s", type(self).__name__, type(error).__name__, error
            )

    # Resume.

    @final
    def state_dict(self) -> dict[str, Any]:
        return {"run": self._run, "last": self._last}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._run = None if state["run"] is None else str(state["run"])
        self._last = int(state["last"])


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record that a curve can be drawn of."""
    return {
        name: float(value)
        for name, value in record.items()
        if name not in _NOT_VALUES and is_number(value) and math.isfinite(value)
    }


def _plain(value: Any) -> Any:
    """A value that every tracker takes; objects by their name."""
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)[:200]
