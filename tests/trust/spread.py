"""10: what each process does that ``torchrun`` starts: ``python -m tests.trust.spread FOLDER``.

The same functions run in one process, for comparison. Each process writes down what it saw, under its number.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sftlib import Callback, FineTuner
from sftlib.run.identity import digest_of_weights
from sftlib.train.backward import Separate
from sftlib.train.comm import open_comm
from sftlib.train.loop import Loop
from tests.contracts.cases import NAMES, case_of, task_class, tuner_for

OPTIONS: dict[str, Any] = {"batch_size": 13, "micro_batch_size": 3, "epochs": 2, "seed": 3}  # 13 + 13 + 6 of 32 rows
LONELY = {"batch_size": 3, "max_steps": 2}  # fewer rows than processes
#: `Seen` looks at rows that have losses of their own; coupled batches are compared in tests/train/test_coupled.py.
TASKS = [name for name in NAMES if not task_class(name).couples_rows]


class Seen(Callback):
    """What a process computed itself, and the gradient that all of them stepped by first."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.gradient: list[float] = []

    @contextmanager
    def looking(self) -> Iterator[None]:
        backward, run = Separate._backward, Loop.run

        def noted(parts: Separate, batch: Any, step: int) -> Any:
            self.rows += [[] for _ in range(step + 1 - len(self.rows))]
            self.rows[step] += batch.rows.tolist()
            return backward(parts, batch, step)

        def looked_at(loop: Loop, training: Any, optimizer: torch.optim.Optimizer) -> None:
            optimizer.register_step_pre_hook(self._keep)
            run(loop, training, optimizer)

        Separate._backward, Loop.run = noted, looked_at  # type: ignore[method-assign]
        try:
            yield
        finally:
            Separate._backward, Loop.run = backward, run  # type: ignore[method-assign]

    def _keep(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self.gradient:
            found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self.gradient = torch.cat([gradient.flatten() for gradient in found]).tolist()


def trained(name: str, **options: Any) -> dict[str, Any]:
    """A short run with dropout, shuffling and evaluation."""
    seen, data = Seen(), case_of(name).data()
    tuner = tuner_for(name, max_grad_norm=None, **{**OPTIONS, **options})
    with seen.looking():
        tuner.fit(data, data, progress=False)
    return {
        "rows": seen.rows,
        "gradient": seen.gradient,
        "losses": [record["loss"] for record in tuner.history.steps],
        "valid": [dict(record) for record in tuner.history if "valid_loss" in record],
        "weights": digest_of_weights(tuner.model),
    }


def used(name: str, folder: Path) -> dict[str, Any]:
    """A saved model, evaluated and asked."""
    tuner, data = FineTuner.load(folder / name), case_of(name).data()
    return {
        "metrics": dict(tuner.evaluate(data, batch_size=4)),
        "numbers": [case_of(name).numbers(one) for one in tuner.predict(data, batch_size=4)],
        "shown": [str(one) for one in tuner.predict(data.select([3, 1]))],
    }


class StopOne(Callback):
    """One process wants to end, and fails when told to."""

    def __init__(self, step: int, error: Exception | None = None) -> None:
        self.step = step
        self.error = error

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        if training.step == self.step and open_comm().rank == open_comm().size - 1:
            if self.error is not None:
                raise self.error
            training.stop_reason = "one of us has had enough"


def resumed(folder: Path) -> dict[str, Any]:
    """A run with checkpoints that goes on after an end in its middle, beside one that was left alone."""
    data = case_of(NAMES[0]).data()
    whole = tuner_for(NAMES[0], **OPTIONS).fit(data, progress=False)
    cut = tuner_for(NAMES[0], **OPTIONS)
    errors = []
    try:
        cut.fit(data, output_dir=folder, save_every=1, progress=False, callbacks=[StopOne(4, ValueError("no"))])
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}")
    cut.fit(data, output_dir=folder, save_every=1, resume=True, progress=False, callbacks=[StopOne(99)])
    early = tuner_for(NAMES[0], **OPTIONS).fit(data, progress=False, callbacks=[StopOne(2)])
    return {
        "errors": errors,
        "weights": [digest_of_weights(whole.model), digest_of_weights(cut.model)],
        "early": len(early.history.steps),
        "checkpoints": sorted(path.name for path in folder.iterdir()),
    }


def refused(folder: Path) -> list[str]:
    """Errors that arise in the first process alone, or in all."""
    data, errors = case_of(NAMES[0]).data(), []
    calls = [
        lambda: tuner_for(NAMES[0], **OPTIONS).fit(data, output_dir=folder / "a file", progress=False),
        lambda: tuner_for(NAMES[0], **OPTIONS).fit(data.select([]), progress=False),
        lambda: tuner_for(NAMES[0]).self_check(data),
        lambda: tuner_for(NAMES[0], max_steps=1).fit(data, progress=False).save(folder / "a file"),
    ]
    for call in calls:
        try:
            call()
            errors.append("")
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


def everything(folder: Path) -> dict[str, Any]:
    return {
        "trained": {name: trained(name) for name in TASKS},
        "lonely": trained(NAMES[0], **LONELY),
        "used": {name: used(name, folder) for name in TASKS},
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    comm = open_comm()
    with tempfile.TemporaryDirectory() as own:
        shared, *_ = comm.exchange([own])  # the first one's
        found = everything(folder)
        found["resumed"] = resumed(Path(shared) / "run")
        (Path(own) / "a file").touch()
        found["refused"] = refused(Path(shared))
        tuner_for(NAMES[0], max_steps=2).fit(case_of(NAMES[0]).data()).save(folder / f"by {comm.size}")
        comm.any(False)  # nobody leaves while others are at work
    (folder / f"{comm.size}-{comm.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
