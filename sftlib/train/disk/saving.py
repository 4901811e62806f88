"""The callback that saves a run, and puts it back where it stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from sftlib.errors import CheckpointError
from sftlib.train.callbacks import Callback, KeepBest
from sftlib.train.comm import Comm
from sftlib.train.disk.checkpoint import Checkpoints, State
from sftlib.train.disk.generators import generator_states, set_generator_states
from sftlib.train.disk.signals import Signals
from sftlib.train.held import Part
from sftlib.train.state import Training

_MOST_THREADS = 4096


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
        comm: the processes of the run: the first writes, and a signal to one ends all after the same step.
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
        comm: Comm,
        resumed: State | None,
        tell: Callable[[str], None],
    ) -> None:
        self._checkpoints = checkpoints
        self._members = tuple(members)
        self._run = run
        self._facts = facts
        self._save_every = save_every
        self._signals = signals
        self._comm = comm
        self._is_signalled = comm.ask(lambda: signals.received is not None)
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
        try:
            self._put_back(state, training)
        except Exception as error:  # sums verify, so this was written by another program, or by hand
            raise CheckpointError(
                f"the checkpoint of step {training.step} does not fit this run: {type(error).__name__}: {error!s:.500}"
            ) from error

    def _put_back(self, state: State, training: Training) -> None:
        training.held.put_back(training.model, state["model"])
        self._check_settings(state["optimizer"])
        state = {**state, "optimizer": training.held.for_optimizer(self.optimizer, state["optimizer"])}
        self._check_moments(state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        training.epoch_end_due = state["position"]["epoch_end_due"]
        for member, saved in zip(self._members, state["callbacks"], strict=True):
            member.load_state_dict(saved)
        training.stop_reason = state["position"]["stop_reason"]
        set_generator_states(state["generators"])

    def _check_settings(self, state: Mapping[str, Any]) -> None:
        """The optimizer was just made from the run's own options: beside the rate nothing in it can be another."""
        own = self.optimizer.state_dict()["param_groups"]
        for mine, saved in zip(own, state["param_groups"], strict=True):
            if not isinstance(saved.get("lr"), float) or {**saved, "lr": None} != {**mine, "lr": None}:
                raise ValueError("its optimizer has other settings than the options say")

    def _check_moments(self, state: Mapping[str, Any]) -> None:
        """Torch takes moments of any shape, and adds them up wrongly or fails in the middle of a step."""
        parameters = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for number, moments in state["state"].items():
            for name, moment in moments.items():
                if isinstance(moment, Tensor) and moment.dim() and moment.shape != parameters[number].shape:
                    raise ValueError(f"{name} of weight {number} has the shape {tuple(moment.shape)}")

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        # The end of an epoch is saved after its evaluation. A signal does not wait that long: it is saved that the
        # evaluation is due, and the resumed run begins with it.
        due = self._ends_epoch(training)
        wanted = not due and self._save_every is not None and training.step % self._save_every == 0
        if self._is_signalled() or wanted:
            self._save(training, epoch_end_due=due)
            self._heed(training)

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        ended = training.step == training.steps or training.stop_reason is not None
        wanted = self._save_every is None or training.step % self._save_every == 0
        if self._comm.any(self._signals.received is not None) or ended or wanted:
            self._save(training)
            self._heed(training)

    def _ends_epoch(self, training: Training) -> bool:
        return training.ends_epoch or training.stop_reason is not None

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
        facts: dict[str, Any] = {"step": training.step, "best_step": best[-1] if best else None, "facts": self._facts}
        if training.held.parted:
            self._checkpoints.save_together(self._state(training, epoch_end_due), self._comm, **facts)
        else:
            self._comm.on_first(lambda: self._checkpoints.save(self._state(training, epoch_end_due), **facts))

    def _state(self, training: Training, epoch_end_due: bool) -> State:
        return {
            "position": {
                "step": training.step,
                "epoch_end_due": epoch_end_due,
                "stop_reason": training.stop_reason,
            },
            "run": dict(self._run),
            "history": list(training.history),
            "model": training.held.changing(training.model),
            "optimizer": training.held.of_optimizer(self.optimizer),
            "callbacks": [member.state_dict() for member in self._members],
            "generators": generator_states(),
        }


def check_state(state: State, step: int) -> None:
    """Refuse a state that does not have the parts that a `Saver` writes, each of its type.

    Args:
        state: as read.
        step: of the checkpoint, by its name.

    Raises:
        CheckpointError: naming what is wrong.
    """
    kinds = {"position": dict, "run": dict, "history": list, "model": dict, "optimizer": dict, "callbacks": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(state.get(name), kind)]
    if not wrong:
        position, run = state["position"], state["run"]
        resolved = run.get("resolved")
        checks = {
            "position": position.get("step") == step
            and isinstance(position.get("epoch_end_due"), bool)
            and isinstance(position.get("stop_reason", 0), str | None),
            "run": all(isinstance(run.get(part), dict) for part in ("options", "data", "start", "resolved"))
            and {"precision", "device", "micro_batch_size"} <= run["options"].keys(),
            "resolved": isinstance(resolved, dict)
            and resolved.get("precision") in ("fp32", "bf16", "fp16")
            and _is_device(resolved.get("device"))
            and isinstance(resolved.get("threads"), int)
            and 1 <= resolved["threads"] <= _MOST_THREADS
            and isinstance(resolved.get("processes", 1), int),
            "history": all(_is_record(record) for record in state["history"]),
            "model": all(isinstance(value, Tensor | Part) for value in state["model"].values()),
        }
        wrong = [name for name, good in checks.items() if not good]
    if wrong:
        raise CheckpointError(f"the checkpoint of step {step} verifies but is none of a run: {', '.join(wrong)}")


def _is_record(value: object) -> bool:
    """Whether it is one of a step, an evaluation or a plan, with numbers wherever those have numbers."""
    needed = {
        "step": ("step", "epoch", "loss", "learning_rate", "grad_norm", "rows"),
        "evaluation": ("step", "epoch"),
        "plan": ("step", "steps"),
    }
    if not isinstance(value, dict) or value.get("kind") not in list(needed):
        return False
    numbers = {name: number for name, number in value.items() if name != "kind"}
    return set(needed[value["kind"]]) <= numbers.keys() and all(isinstance(n, int | float) for n in numbers.values())


def _is_device(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(torch.device(value).type)
    except RuntimeError:
        return False


__all__ = ["Saver", "check_state"]
