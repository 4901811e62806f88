"""One small run with everything in it, and ways to end it early: shared by the tests of checkpoints.

Twenty rows in batches of four over two epochs: ten optimizer steps, dropout and shuffling on, early stopping that does
not stop, the best weights kept.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sftlib import Callback, EarlyStopping, FineTuner, TaskDataset
from sftlib.testing import tiny_model, tiny_tokenizer
from sftlib.train.disk.checkpoint import Checkpoints
from tests.contracts.cases import case_of

STEPS = 10
EPOCH = 5

Weights = dict[str, Tensor]


class Interrupted(Exception):  # noqa: N818
    """Ends a run in a test."""


class BreakAt(Callback):
    """Raises in the middle of a run, before its step is saved: the last checkpoint is that of the step before."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == self.step:
            raise Interrupted


class SignalAt(Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGINT, *, event: str = "on_step_end", times: int = 1) -> None:
        self.step = step
        self.number = number
        self.event = event
        self.times = times

    def on_step_end(self, training: Any, record: Any) -> None:
        self._send(training, "on_step_end")

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        self._send(training, "on_epoch_end")

    def _send(self, training: Any, event: str) -> None:
        if training.step == self.step and event == self.event:
            for _ in range(self.times):
                signal.raise_signal(self.number)


@functools.cache
def data() -> tuple[TaskDataset, TaskDataset]:
    """Rows to train on and to evaluate on."""
    rows = case_of("text-classification").data()
    return rows[:20], rows[20:]


def tuner(**options: Any) -> FineTuner:
    """A tuner of a tiny BERT for the run of this page."""
    defaults: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "early_stopping": EarlyStopping("loss", patience=5),
        "precision": "fp32",
        "device": "cpu",
    }
    return FineTuner(tiny_model("bert", 3), tokenizer=tiny_tokenizer(), **{**defaults, **options})


def fit(
    output_dir: Path | None = None, *, callbacks: Sequence[Callback] = (), resume: bool = False, **options: Any
) -> FineTuner:
    """The run; ``save_every`` and ``progress`` are taken out of the options."""
    saving = {name: options.pop(name) for name in ("save_every", "progress") if name in options}
    train, valid = options.pop("train", data()[0]), options.pop("valid", data()[1])
    saving = {"progress": False, **saving}
    return tuner(**options).fit(train, valid, callbacks=callbacks, output_dir=output_dir, resume=resume, **saving)


@functools.cache
def undisturbed() -> tuple[Weights, list[dict[str, Any]]]:
    """Weights and history of the run that nobody saved or interrupted."""
    return result(fit())


def result(fitted: FineTuner) -> tuple[Weights, list[dict[str, Any]]]:
    """A copy of the weights, and the history."""
    return {name: value.detach().clone() for name, value in fitted.model.state_dict().items()}, list(fitted.history)


def assert_same(fitted: FineTuner, expected: tuple[Weights, list[dict[str, Any]]] | None = None) -> None:
    """Weights and history equal to the bit those of the undisturbed run."""
    weights, history = expected or undisturbed()
    found, records = result(fitted)
    assert records == history
    assert found.keys() == weights.keys()
    different = [name for name in weights if not torch.equal(found[name], weights[name])]
    assert not different, f"weights differ: {different}"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a checkpoint: weights, moments, callbacks, generators, history, manifest."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint that verifies; 0 without any."""
    return Checkpoints(folder).newest().step if folder.is_dir() else 0


def hidden(folder: Path) -> list[str]:
    """Names of what is half written or half deleted."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@contextmanager
def raising(*kinds: type[BaseException]) -> Iterator[list[BaseException]]:
    """Expects one of these; yields a list that will hold it."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    assert caught, f"expected {', '.join(kind.__name__ for kind in kinds)}"


def in_child(work: Callable[[], object], *, then: Callable[[int], object] = lambda process: None) -> int:
    """Run in a fork of this process, which has imported everything already.

    Args:
        work: done by the child, which then leaves at once without any cleaning up.
        then: done by the parent meanwhile, with the child's number.

    Returns:
        The exit code; minus the number of a signal that killed it.
    """
    process = os.fork()
    if process == 0:
        code = 70
        try:
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    then(process)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
