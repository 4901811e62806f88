"""What a run will take, measured in a few steps before hours are spent.

Built on `FineTuner`'s public methods alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import nn

from sftlib.arguments import without_recipes
from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.models.adapters import described
from sftlib.models.pretrained import Pretrained
from sftlib.preflight.sharing import Shared, Work, both_ways, check_sharing, shown, table_of, unit_of
from sftlib.support.display import counted, html_table, text_table
from sftlib.train.callbacks import Callback
from sftlib.train.state import Training

if TYPE_CHECKING:
    from sftlib.encoders.report import TrainingReport
    from sftlib.finetuner import FineTuner

_STEPS = 4  # measured; the first is left out


@final
@dataclass(frozen=True)
class Way:
    """One way to train, measured.

    Attributes:
        name: what is trained.
        parameters: how many are trained.
        step_seconds: median of a few steps on rows drawn at random.
        once_seconds: spent once, on computing frozen layers for every row.
        longest_step_seconds: of a step on the longest rows.
        peak_bytes: highest memory of the process during the steps on the longest rows; 0 where it cannot be told.
        total_seconds: of the whole run.
        work: of a step, for what it takes when several processes share it.
    """

    name: str
    parameters: int
    step_seconds: float
    once_seconds: float
    longest_step_seconds: float
    peak_bytes: int
    total_seconds: float
    work: Work


@final
@dataclass(frozen=True)
class Plan:
    """What a run will take; prints as a table.

    Attributes:
        report: what was found in the data: rows, what they take, truncation, padding.
        steps: optimizer steps of the run.
        ways: what is trained -> what it takes.
        shared: what is trained, and a step of it shared by several processes, in two ways; empty where nobody asked.
    """

    report: TrainingReport
    steps: int
    ways: tuple[Way, ...]
    shared: tuple[tuple[str, Shared], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "report": self.report.to_dict(),
            "steps": self.steps,
            "ways": [asdict(way) for way in self.ways],
            "shared": [{"trained": name, **asdict(shared)} for name, shared in self.shared],
        }

    def _rows(self) -> list[list[object]]:
        now = datetime.now()
        return [
            [
                way.name,
                way.parameters,
                f"{way.step_seconds:.3f}",
                f"{way.longest_step_seconds:.3f}",
                f"{way.peak_bytes / 2**30:.2f}" if way.peak_bytes else "",
                str(timedelta(seconds=round(way.total_seconds))),
                f"{now + timedelta(seconds=way.total_seconds):%a %H:%M}",
            ]
            for way in self.ways
        ]

    def __str__(self) -> str:
        steps = counted(self.steps, "step")
        alone = f"{self.report}\n\n{steps}, evaluation not counted:\n{text_table(_HEADER, self._rows())}"
        return f"{alone}\n\n{_SHARED}:\n{shown(self.shared)}" if self.shared else alone

    def _repr_html_(self) -> str:
        alone = self.report._repr_html_() + html_table(_HEADER, self._rows(), caption=counted(self.steps, "step"))
        return alone + html_table(*table_of(self.shared), caption=_SHARED) if self.shared else alone


_HEADER = ["trained", "parameters", "s a step", "s, longest rows", "peak GiB", "in all", "done by"]
_SHARED = "a step shared by several processes, computed from the above and not measured"


@final
class _Clock(Callback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.started = 0.0
        self.stamps: list[float] = []

    def on_fit_start(self, training: Training) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        self.stamps.append(time.perf_counter())

    def step(self) -> float:
        """The median time of a step, the first left out."""
        return statistics.median(b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False))


def plan(tuner: FineTuner, train: TaskDataset, *, processes: int | None = None, link: str | None = None) -> Plan:
    """Measure every way to train on a few batches.

    Args:
        tuner: its options are used; it is not changed.
        train: labelled rows.
        processes: how many are to share a step; None to leave that out.
        link: between two of them.

    Raises:
        OptionError: one of both without the other, or values that they cannot have.
    """
    if processes is not None or link is not None:
        check_sharing(processes, link)
    options = tuner.get_params()
    batch, seed = options["batch_size"], options["seed"]
    report = tuner.report(train)
    order = np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(len(train))
    some = _with_every_label(train, order[: batch * _STEPS])
    sizes = [sum(len(str(row[role])) for role in train.inputs) for row in train]
    longest = _with_every_label(train, np.argsort(-np.asarray(sizes), kind="stable")[:batch])
    ways = []
    for name, changes in _choices(options):
        try:
            ways.append(_measure(tuner.clone().set_params(**changes), name, some, longest, len(train), report.steps))
        except OptionError:
            if all(options[option] == value for option, value in changes.items()):
                raise  # what was asked for; the others are offered where the model has them
    if processes is None or link is None:
        return Plan(report, report.steps, tuple(ways))
    found = [(way.name, shared) for way in ways for shared in both_ways(way.work, processes=processes, link=link)]
    return Plan(report, report.steps, tuple(ways), tuple(found))


def _choices(options: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What could be trained, and the options that say so; what was asked for among it."""
    chosen, adapter = options["freeze"], options["adapter"]
    plain: dict[str, Any] = {"adapter": None}
    if isinstance(options["model"], Pretrained) and options["model"].quantize is not None:
        plain["model"] = replace(options["model"], quantize=None)
    frozen = "" if chosen is None else f", freeze={chosen!r}"
    asked = [(f"adapter: {described(adapter):.60}{frozen}", {"freeze": chosen, "adapter": adapter})] if adapter else []
    if not adapter and chosen not in (None, "backbone"):
        asked = [(f"as asked: freeze={chosen!r}", {"freeze": chosen, "adapter": None})]
    return [
        ("everything", {"freeze": None, **plain}),
        *asked,
        ("head only: freeze='backbone'", {"freeze": "backbone", **plain}),
    ]


def _measure(tuner: FineTuner, name: str, some: TaskDataset, longest: TaskDataset, rows: int, steps: int) -> Way:
    plain = {"keep_best": None, "early_stopping": None, "warmup": 0}
    plain |= without_recipes(tuner.get_params(deep=False))
    usual, long = _Clock(), _Clock()
    tuner.set_params(**plain, max_steps=2)
    _forget_peak(tuner.device)
    tuner.clone().fit(longest, callbacks=[long], progress=False)
    peak = _peak(tuner.device)
    tuner.set_params(max_steps=_STEPS)
    # What frozen layers cost once: the start of a run that computes them, less that of one that finds them computed.
    before = [_start(tuner, some, _Clock()) for _ in range(2 if tuner.get_params()["freeze"] is not None else 0)]
    once = max(0.0, before[0] - before[1]) / len(some) * rows if before else 0.0
    tuned = tuner.fit(some, callbacks=[usual], progress=False)
    work = _work(tuned.model, rows=min(len(some), tuner.get_params()["batch_size"]), seconds=usual.step(), peak=peak)
    return Way(name, work.trained, usual.step(), once, long.step(), peak, once + steps * usual.step(), work)


def _work(model: nn.Module, *, rows: int, seconds: float, peak: int) -> Work:
    """What a step takes in one process; what of its memory is no weight, gradient or moment passes."""
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    weights = sum(p.numel() for p in model.parameters())
    work = Work(rows, seconds, weights, sum(trained), len(trained), unit_of(model))
    kept = work.weight_bytes + work.gradient_bytes + work.optimizer_bytes
    return replace(work, passing_bytes=max(0, peak - kept))


def _start(tuner: FineTuner, rows: TaskDataset, clock: _Clock) -> float:
    """Seconds from the call of ``fit`` to its first step."""
    begun = time.perf_counter()
    tuner.fit(rows, callbacks=[clock], progress=False)
    return clock.started - begun


def _with_every_label(train: TaskDataset, rows: np.ndarray[Any, Any]) -> TaskDataset:
    """These rows, and one of each target that they lack as far as a task needs two."""
    chosen = [int(row) for row in rows]
    if train.label_names is not None and train.targets:
        target = train.column(train.targets[0])
        seen = {repr(target[row]) for row in chosen}
        missing = next((row for row, value in enumerate(target) if repr(value) not in seen), None)
        chosen += [missing] if len(seen) < 2 and missing is not None else []
    return train.select(chosen)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # Linux: the high-water mark starts again from what is in use


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
