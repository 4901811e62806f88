"""The callback that saves a run, and puts it back where it stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch

from sftlib.train.callbacks import Callback, KeepBest
from sftlib.train.checkpoint import Checkpoints, Parts
from sftlib.train.generators import generator_states, set_generator_states
from sftlib.train.signals import Signals
from sftlib.train.state import Training


@final
class Saver(Callback):
    """Saves a run and reads nothing but what is there: a saved run and one that is not are the same to the bit.

    It must be the last of the callbacks: it saves what the others have made of an event, and its `on_fit_start` puts
    back what they have made of the start.

    Args:
        checkpoints: where to.
        members: the callbacks whose state belongs to the run.
        run: what identifies the run, and the values it was resolved to; JSON values.
        facts: what the manifest says beside.
        save_every: optimizer steps between two checkpoints; None for every end of an epoch.
        signals: asked after each step.
        resumed: the state to go on from, or None.
        tell: hears of a run that a signal ends.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        members: Sequence[Callback],
        run: Mapping[str, Any],
        facts: Mapping[str, Any],
        save_every: int | None,
        signals: Signals,
        resumed: Parts | None,
        tell: Callable[[str], None],
    ) -> None:
        self._checkpoints = checkpoints
        self._members = tuple(members)
        self._run = run
        self._facts = facts
        self._save_every = save_every
        self._signals = signals
        self._resumed = resumed
        self._tell = tell
        self._optimizer: torch.optim.Optimizer | None = None

    @contextmanager
    def running(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """While the run lasts, this is its optimizer, and signals are noted."""
        self._optimizer = optimizer
        try:
            with self._signals:
                yield
        finally:
            self._optimizer = None

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the run in progress."""
        assert self._optimizer is not None
        return self._optimizer

    def on_fit_start(self, training: Training) -> None:
        state, self._resumed = self._resumed, None  # not held twice in memory for longer than it takes
        if state is None:
            return
        training.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        training.epoch_end_due = state["position"]["epoch_end_due"]
        for member, saved in zip(self._members, state["callbacks"], strict=True):
            member.load_state_dict(saved)
        training.stop_reason = state["position"]["stop_reason"]
        set_generator_states(state["generators"])

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        # The end of an epoch is saved after its evaluation. A signal does not wait that long: it is saved that the
        # evaluation is due, and the resumed run begins with it.
        due = self._ends_epoch(training)
        wanted = not due and self._save_every is not None and training.step % self._save_every == 0
        if wanted or self._signals.received is not None:
            self._save(training, epoch_end_due=due)
            self._heed(training)

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        ended = training.step == training.steps or training.stop_reason is not None
        wanted = self._save_every is None or training.step % self._save_every == 0
        if ended or wanted or self._signals.received is not None:
            self._save(training)
            self._heed(training)

    def _ends_epoch(self, training: Training) -> bool:
        last = training.step % training.steps_per_epoch == 0 or training.step == training.steps
        return last or training.stop_reason is not None

    def _heed(self, training: Training) -> None:
        """End as a signal asks to, now that the step is saved."""
        if self._signals.received is not None:
            self._tell(
                f"{self._signals.received.name}: step {training.step} is saved; "
                f"fit(..., output_dir={str(self._checkpoints.folder)!r}, resume=True) goes on from there"
            )
            self._signals.deliver()

    def _save(self, training: Training, *, epoch_end_due: bool = False) -> None:
        best = [m.best_step for m in self._members if isinstance(m, KeepBest) and m.best is not None]
        self._checkpoints.save(
            {
                "position": {
                    "step": training.step,
                    "epoch_end_due": epoch_end_due,
                    "stop_reason": training.stop_reason,
                },
                "run": dict(self._run),
                "history": list(training.history),
                "model": training.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "callbacks": [member.state_dict() for member in self._members],
                "generators": generator_states(),
            },
            step=training.step,
            best_step=best[-1] if best else None,
            facts=self._facts,
        )


__all__ = ["Saver"]
