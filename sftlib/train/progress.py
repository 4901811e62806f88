"""What a person sees while a run lasts: a start-up line, a bar, one aligned line per epoch; or warnings alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, final

from tqdm.auto import tqdm

from sftlib.support.display import cell
from sftlib.train.callbacks import Callback
from sftlib.train.state import Training


@final
class Progress(Callback):
    """Prints to the terminal or the notebook.

    Args:
        opening: lines to print before the first step.
    """

    def __init__(self, opening: Sequence[str]) -> None:
        self._opening = opening
        self._bar: Any = None
        self._names: list[str] = []
        self._started = 0.0
        self._loss, self._rows, self._all_rows = 0.0, 0, 0
        self._told = 0

    def on_fit_start(self, training: Training) -> None:
        for line in self._opening:
            tqdm.write(line)
        self._started = time.monotonic()
        self._bar = tqdm(total=training.steps, initial=training.step, unit="step", desc="training", leave=False)

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        self._all_rows += record["rows"]
        self._rows += record["rows"]
        self._loss += (record["loss"] - self._loss) * record["rows"] / self._rows
        rate = self._all_rows / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix(loss=f"{record['loss']:.4f}", rows_per_s=f"{rate:.0f}", refresh=False)
        self._bar.update()

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        values: dict[str, Any] = {"epoch": str(round(training.epoch, 2)).removesuffix(".0"), "loss": self._loss}
        values.update({"valid_loss" if name == "loss" else name: value for name, value in (metrics or {}).items()})
        values["seconds"] = f"{time.monotonic() - self._started:.1f}"
        if list(values) != self._names:
            self._names = list(values)
            tqdm.write("  ".join(name.rjust(max(8, len(name))) for name in values))
        tqdm.write("  ".join(cell(value).rjust(max(8, len(name))) for name, value in values.items()))
        self._loss, self._rows = 0.0, 0
        self._tell(training)

    def on_fit_end(self, training: Training) -> None:
        self._bar.close()
        self._tell(training)
        if training.stop_reason is not None:
            tqdm.write(f"stopped after step {training.step}: {training.stop_reason}")

    def _tell(self, training: Training) -> None:
        for line in training.told[self._told :]:
            tqdm.write(line)
        self._told = len(training.told)

    def close(self) -> None:
        """Take the bar away when the run ended in an error."""
        if self._bar is not None:
            self._bar.close()


@final
class Unshown(Callback):
    """A run of which nothing is printed: what would change its meaning goes to the log of this package, as a warning.

    Args:
        opening: lines for before the first step.
    """

    def __init__(self, opening: Sequence[str]) -> None:
        self._opening = opening
        self._told = 0

    def on_fit_start(self, training: Training) -> None:
        for line in self._opening:
            logging.getLogger("sftlib").warning("%s", line)

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        self._tell(training)

    def on_fit_end(self, training: Training) -> None:
        self._tell(training)

    def _tell(self, training: Training) -> None:
        for line in training.told[self._told :]:
            logging.getLogger("sftlib").warning("%s", line)
        self._told = len(training.told)

    def close(self) -> None:
        """There is nothing to take away."""
