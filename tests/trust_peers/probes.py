"""The probes that train: resume, accumulation, evaluation, observers, seeds, poison, truncation, memory."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.trust_peers.child import in_child
from tests.trust_peers.work import EPOCH, Interrupted, Job, Peer, Run, job

STEPS = 2 * EPOCH


@dataclass(frozen=True)
class Cell:
    """One field of the table.

    Attributes:
        holds: whether the library passes; None where the probe does not apply.
        figure: what was seen.
    """

    holds: bool | None
    figure: str

    def __str__(self) -> str:
        word = {True: "**holds**", False: "fails", None: "n/a"}[self.holds]
        return f"{word}: {self.figure}"


Probe = Callable[[Peer, Path], Cell]


def distance(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    """The largest difference of two sets of weights; NaN counts as infinite."""
    found = max(float((left[name] - right[name]).abs().max()) for name in left)
    return math.inf if math.isnan(found) else found


def stopping_at(step: int) -> Callable[[int, nn.Module], None]:
    """A hook that breaks the run off before the checkpoint of a step."""

    def stop(done: int, model: nn.Module) -> None:
        if done == step:
            raise Interrupted

    return stop


def interrupted(peer: Peer, folder: Path, step: int, **options: Any) -> None:
    """A run that is broken off at a step."""
    try:
        peer.fit(Run(folder=folder, on_step=stopping_at(step), **options))
    except Interrupted:
        return
    raise RuntimeError(f"{peer.name}: the run was not interrupted")


def resuming(peer: Peer, folder: Path) -> Cell:
    """1: resumed from the checkpoint of every step (of every epoch, where a library saves no oftener)."""
    expected = peer.fit(Run())
    points = range(1, STEPS) if peer.saves_inside_epochs else [EPOCH]
    equal, inside, worst = 0, 0, 0.0
    for step in points:
        where = folder / str(step)
        interrupted(peer, where, step + 1, save_every=1 if peer.saves_inside_epochs else EPOCH)
        found = peer.fit(Run(folder=where, save_every=1, resume=True))
        difference = distance(expected, found)
        equal, worst = equal + (difference == 0), max(worst, difference)
        inside += difference == 0 and step % EPOCH != 0
    figure = f"{equal} of {len(points)} bit-equal" + ("" if worst == 0 else f", weights up to {worst:.1e} off")
    if not peer.saves_inside_epochs:
        figure += "; saves at the end of epochs only"
    return Cell(equal == len(points), figure)


def first_gradient(peer: Peer, work: Job, batch: int, parts: int) -> Tensor:
    """All gradients at the first optimizer step, unclipped, dropout off, every row in it."""
    found: list[Tensor] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        found.append(torch.cat(parts).clone())

    handle = register_optimizer_step_post_hook(note)
    try:
        peer.fit(Run(work, batch=batch, parts=parts, epochs=1, dropout=0.0, clip=False))
    finally:
        handle.remove()
    return found[0] if found else torch.zeros(1)


def accumulating(peer: Peer, folder: Path) -> Cell:
    """9: the gradient of one batch of 32 against four of 8; and 29 rows, the last part smaller; and per token."""
    lines, holds = [], True
    for name, work in (
        ("32 rows", job(rows=32)),
        ("29 rows", job(rows=29)),
        ("tokens", job("token-classification", 32)),
    ):
        whole, cut = first_gradient(peer, work, 32, 1), first_gradient(peer, work, 8, 4)
        off = float((whole - cut).norm() / whole.norm()) if whole.shape == cut.shape else math.inf
        holds = holds and off <= 1e-5
        times = float(cut.norm() / whole.norm()) if off > 0.5 else 0
        lines.append(f"{name} {off:.1e}" + (f" (gradient x{times:.2f})" if times else ""))
    return Cell(holds, "; ".join(lines))


def evaluating(peer: Peer, folder: Path) -> Cell:
    """11: the evaluation loss at batch sizes 1, 8 and 64."""
    lines, holds = [], True
    for name, work in (("rows", job(rows=32)), ("tokens", job("token-classification", 32))):
        losses = [peer.loss(work, batch) for batch in (1, 8, 64)]
        off = (max(losses) - min(losses)) / losses[-1]
        holds = holds and off <= 1e-6
        lines.append(f"{name} {off:.1e}")
    return Cell(holds, "; ".join(lines))


def ordering(peer: Peer, folder: Path) -> Cell:
    """11: whether predictions come in the order of the rows, grouped by length where a library can."""
    work = job(rows=32)
    model, padding, rows = work.model(0.0), work.collator(), work.theirs()
    with torch.inference_mode():
        alone = torch.cat([model(**padding([rows[i]])).logits.softmax(-1) for i in range(len(rows))])
    found = peer.predict(work)
    right = int(((found - alone).abs().amax(-1) < 1e-5).sum())
    return Cell(right == len(rows), f"{right} of {len(rows)} rows in their place")


def observing(peer: Peer, folder: Path) -> Cell:
    """16: evaluation, saving and logging on, one at a time and together, against all off."""
    expected = peer.fit(Run())
    ways: dict[str, dict[str, Any]] = {
        "evaluating": {"evaluating": True},
        "saving": {"folder": folder / "saving", "save_every": 1},
        "logging": {"logging": True},
        "all": {"evaluating": True, "folder": folder / "all", "save_every": 1, "logging": True},
    }
    off = {name: distance(expected, peer.fit(Run(**options))) for name, options in ways.items()}
    moved = [f"{name} moves weights by {value:.1e}" for name, value in off.items() if value]
    return Cell(not moved, "; ".join(moved) or f"{len(ways)} of {len(ways)} bit-equal")


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of all weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def repeating(peer: Peer, folder: Path) -> Cell:
    """17: two fresh processes with other hash seeds, and this one."""
    import os

    found = {fingerprint(peer.fit(Run()))}
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.trust_peers.run", "--fingerprint", peer.name]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout.split()[-1])
    return Cell(len(found) == 1, "3 processes bit-equal" if len(found) == 1 else f"{len(found)} results of 3")


def finite(model: nn.Module) -> bool:
    """Whether all weights are numbers."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def _poisoned(peer: Peer, guard: str) -> tuple[bool, str]:
    """A NaN in one gradient of step 4."""
    models: list[nn.Module] = []

    def work(notes: dict[str, Any]) -> None:
        def poison(step: int, model: nn.Module) -> None:
            models[:] = [model]
            if step == 3:
                last = list(model.parameters())[-1]
                last.register_hook(lambda gradient: gradient * math.nan)

        log: list[float] = []
        try:
            peer.fit(Run(on_step=poison, logging=True, log=log, guard=guard))
        finally:
            notes.update(finite=finite(models[0]), log=[str(loss) for loss in log[3:]])

    ended = in_child(work)
    kept = "kept" if ended.notes["finite"] else "NaN"
    return ended.notes["finite"] and bool(ended.error), f"NaN gradient: weights {kept}, {_told(ended)}"


def _told(ended: Any) -> str:
    if ended.error:
        return f"{ended.error}"
    log = ended.notes.get("log", [])
    return f"no error, log ends {float(log[-1]):.3g}" if log else "no error"


def _nan_row(peer: Peer, guard: str) -> tuple[bool, str]:
    """A NaN target in row 7 of a regression."""
    columns = {role: list(values) for role, values in job("text-regression").columns.items()}
    columns["target"][7] = math.nan

    def work(notes: dict[str, Any]) -> None:
        models: list[nn.Module] = []
        log: list[float] = []
        try:
            run = Run(
                Job("text-regression", columns),
                prepare=models.append,
                on_step=lambda step, model: models.append(model),
                logging=True,
                log=log,
                guard=guard,
            )
            peer.fit(run)
        finally:
            notes.update(finite=not models or finite(models[-1]), log=[str(loss) for loss in log])

    ended = in_child(work)
    kept = "kept" if ended.notes["finite"] else "NaN"
    return ended.notes["finite"] and bool(ended.error), f"NaN row: weights {kept}, {_told(ended)}"


def poisoned(peer: Peer, folder: Path) -> Cell:
    """19: a NaN target, and a NaN in one gradient: are the weights kept, and what does the log say."""
    found = [_nan_row(peer, ""), _poisoned(peer, "")]
    figure = "; ".join(text for _, text in found)
    if "nan" in peer.guards:
        guarded = [_nan_row(peer, "nan"), _poisoned(peer, "nan")]
        figure += f". With `{peer.guards['nan']}`: " + "; ".join(text for _, text in guarded)
        found = guarded
    return Cell(all(holds for holds, _ in found), figure)


def truncated(peer: Peer, folder: Path) -> Cell:
    """20: a language model whose prompts are longer than the limit: one row of four, then every row."""
    if peer.name == "skorch":
        return Cell(None, "no recipe for language models")
    short = [f"film {i} " for i in range(16)]
    long = [f"film {i} " * 20 for i in range(16)]
    some = [long[i] if i % 4 == 0 else short[i] for i in range(16)]
    lines, holds = [], True
    for name, prompts in (("4 of 16 rows", some), ("all rows", long)):

        def work(notes: dict[str, Any], prompts: list[str] = prompts) -> None:
            log: list[float] = []
            columns = {"prompt": prompts, "completion": ["good"] * 16}
            models: list[nn.Module] = []
            run = Run(
                Job("causal-lm", columns, max_length=24),
                epochs=1,
                logging=True,
                log=log,
                on_step=lambda step, model: models.append(model),
            )
            try:
                peer.fit(run)
            finally:
                notes.update(log=[str(loss) for loss in log], finite=not models or finite(models[-1]))

        ended = in_child(work)
        said = bool(re.search(r"supervision|nothing is left to learn|truncat|\bcut\b", ended.said + ended.message))
        holds = holds and said and (name != "all rows" or bool(ended.error))
        weights = "" if ended.notes["finite"] else ", weights NaN"
        lines.append(f"{name}: {_told(ended)}{weights}, {'said' if said else 'nothing said'}")
    return Cell(holds, "; ".join(lines))


def hungry(peer: Peer, folder: Path) -> Cell:
    """23: more than four rows of eight do not fit."""
    most, refused = 4, [0]

    def refuse(module: nn.Module, inputs: Any) -> None:  # of any module: some libraries train a copy of the model
        if type(module).__name__ == "BertLayer" and module.training and len(inputs[0]) > most:
            refused[0] += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    def trained(steps: list[int]) -> dict[str, Tensor]:
        return peer.fit(
            Run(job(rows=32), batch=8, dropout=0.0, guard="memory", on_step=lambda step, model: steps.append(step))
        )

    def work(notes: dict[str, Any]) -> None:
        steps: list[int] = []
        expected = trained([])
        handle = register_module_forward_pre_hook(refuse)
        try:
            notes["off"] = distance(expected, trained(steps))
        finally:
            handle.remove()
            notes.update(steps=len(steps), refused=refused[0])

    ended = in_child(work)
    switch = f" with `{peer.guards['memory']}`" if "memory" in peer.guards else ""
    if not ended.notes["refused"]:
        return Cell(None, "memory never ran out in the probe")
    if ended.error:
        return Cell(False, f"ends in {ended.error}, not retried{switch}")
    off, steps = ended.notes["off"], ended.notes["steps"]
    return Cell(off < 1e-4 and steps == 8, f"goes on{switch}: {steps} steps of 8, weights {off:.1e} off")
