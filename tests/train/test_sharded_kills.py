"""Weights in parts, and processes killed at any moment: the run goes on, in any number of processes, and loses nothing.

Each run here is killed again and again, and begun again each time, until it has come to its end.
"""

from __future__ import annotations

import json
import mmap
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from sftlib import Callback
from sftlib.support.storage import verify
from sftlib.train.comm import open_comm
from sftlib.train.disk.checkpoint import Checkpoints
from sftlib.train.sharded import _SUMS
from tests.contracts.cases import case_of, tuner_for
from tests.train import restarted
from tests.train.launching import Forked, start
from tests.train.shards import BOUND, TEXTS, require_same_weights
from tests.trust.faults import intercepted, kill_at
from tests.trust.runs import hidden

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(FSDPModule, _SUMS), reason=f"torch {torch.__version__} cannot add up over parts"),
]

STEPS, SAVE_EVERY = 18, 2
#: 13 + 13 + 6 of 32 rows, so that shares and passes differ; dropout, shuffling, an evaluation after each third step.
OPTIONS: dict[str, Any] = {
    "batch_size": 13,
    "micro_batch_size": 7,
    "epochs": 6,
    "seed": 3,
    "shard": True,
    "keep_best": "loss",
}
CHANGING = ("write", "fsync", "rename")
#: How many of these calls a save makes at least, in the first process and in another.
CALLS = (24, 6)
Outcome = tuple[dict[str, Any], list[dict[str, Any]]]


class Watched(Callback):
    """Says how far a process is where its parent can read it; from a step on it may be killed within a save.

    Args:
        shared: a byte for each process.
        within: the step, and which of the calls after it that change the disk is the last.
    """

    def __init__(self, shared: mmap.mmap, within: tuple[int, int] | None = None) -> None:
        self._shared = shared
        self._within = within

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self._shared[open_comm().rank] = training.step
        if self._within is not None and training.step >= self._within[0]:
            self._killing = intercepted(kill_at(self._within[1]), calls=CHANGING)  # kept, or it would be undone
            self._killing.__enter__()
            self._within = None


@dataclass(frozen=True)
class Kill:
    """When a run is killed, and who.

    Attributes:
        step: not before this one is done.
        victims: the ranks that are killed from outside; of one that is killed within a save, itself.
        delay: seconds after the step, from outside.
        call: the call of a save at which the victim is killed; None from outside.
    """

    step: int
    victims: Sequence[int]
    delay: float
    call: int | None


def drawn(generator: random.Random, *, size: int, at: int, last: int, seconds: float) -> Kill:
    """One of all, or all of them; from outside at any moment of a step, its save included, or at a call of a save.

    Args:
        generator: draws.
        size: of processes.
        at: the step that they go on from. Before the one after it, whoever waits for the others to begin does not
            notice that one is gone, but is ended by ``torchrun``: so all are killed.
        last: the latest step.
        seconds: of a step.
    """
    step, rank = generator.randint(at, max(at, last)), generator.randrange(size)
    within = step > at and generator.random() < 0.4
    victims = [rank] if within or (step > at and generator.random() < 0.5) else list(range(size))
    call = generator.randint(1, CALLS[min(rank, 1)]) if within else None
    most = 1.5 * seconds if step > at else 6 * seconds  # what comes before the first step takes longer than one
    return Kill(step, victims, generator.uniform(0, most), call)


def begun(size: int, folder: Path, shared: mmap.mmap, kill: Kill | None = None) -> Forked:
    """The run of a folder, from where it stands, in so many processes; the first leaves its outcome beside."""

    def work(rank: int) -> None:
        torch.set_num_threads(1)
        within = (kill.step, kill.call) if kill and kill.call is not None and rank in kill.victims else None
        data, tuner = case_of(TEXTS).data(), tuner_for(TEXTS, **OPTIONS)
        where: dict[str, Any] = {"output_dir": folder / "run", "save_every": SAVE_EVERY, "resume": True}
        tuner.fit(data, data, progress=False, callbacks=[Watched(shared, within)], **where)
        if rank == 0:
            np.savez(folder / "weights.npz", **{name: p.numpy() for name, p in tuner.model.state_dict().items()})
            (folder / "history.json").write_text(json.dumps(list(tuner.history)))
        open_comm().any(False)  # nobody leaves while others are at work

    return Forked(size, work, folder)


def outcome(folder: Path) -> Outcome:
    return dict(np.load(folder / "weights.npz")), json.loads((folder / "history.json").read_text())


def ended_well(size: int, folder: Path) -> Outcome:
    """The run of a folder, to its end."""
    processes = begun(size, folder, mmap.mmap(-1, size))
    assert processes.ended() == [0] * size, processes.said()[-4000:]
    assert hidden(folder / "run") == [], "what killed ones left behind is gone"
    return outcome(folder)


def killed(size: int, folder: Path, kill: Kill, at: int) -> dict[str, Any]:
    """What became of a run that was killed so.

    Args:
        size: of processes.
        folder: of the run.
        kill: how.
        at: the step that it goes on from.
    """
    shared = mmap.mmap(-1, size)
    shared[:] = bytes([at] * size)
    processes = begun(size, folder, shared, kill)
    if kill.call is None:
        while processes.running and max(shared[:]) < kill.step:
            time.sleep(0.001)
        time.sleep(kill.delay)
        processes.kill(kill.victims)
    codes = processes.ended()  # the others by themselves
    assert all(codes[rank] == -signal.SIGKILL for rank in kill.victims), (kill, codes, processes.said()[-4000:])
    assert all(code == 70 for rank, code in enumerate(codes) if rank not in kill.victims), "they must not go on"
    said = processes.said()
    assert said.count("ProcessError") >= size - len(kill.victims), said[-4000:]
    left = hidden(folder / "run") if (folder / "run").is_dir() else []
    return {"lost": max(shared[:]) - require_whole(folder / "run"), "left": left, **vars(kill)}


def require_whole(folder: Path) -> int:
    """Whatever has the name of a checkpoint is one; the newest of them."""
    checkpoints = Checkpoints(folder)
    steps = checkpoints.steps() if folder.is_dir() else []
    for step in steps:
        verify(folder / f"step-{step:08}", kind="sftlib checkpoint")
    return max(steps, default=0)


def killed_until_done(counts: Sequence[int], folder: Path, generator: random.Random, seconds: float) -> list[Any]:
    """A run that is killed in each of these numbers of processes in turn, at moments spread over all of it.

    Args:
        counts: of processes.
        folder: of the run.
        generator: draws the moments.
        seconds: of a step.

    Returns:
        What became of each kill.
    """
    folder.mkdir()
    latest = np.linspace(0, STEPS - 4, len(counts) + 1).astype(int)[1:]  # a save follows each, whatever was lost
    found = []
    for size, last in zip(counts, latest, strict=True):
        at = require_whole(folder / "run")
        kill = drawn(generator, size=size, at=at, last=int(last), seconds=seconds)
        found.append({"size": size, "from": at, **killed(size, folder, kill, at)})
        sys.stdout.write(f"{found[-1]}\n")
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Outcome, float]]:
    """Runs that nobody killed: what came of them, and how long a step took with all that belongs to it."""
    made: dict[int, tuple[Outcome, float]] = {}

    def run(size: int) -> tuple[Outcome, float]:
        if size not in made:
            began = time.monotonic()
            found = ended_well(size, tmp_path_factory.mktemp(f"whole-{size}"))
            made[size] = found, (time.monotonic() - began) / STEPS
        return made[size]

    return run


@pytest.mark.parametrize("seed", range(5))
def test_killed_and_gone_on_with_in_other_numbers(seed: int, tmp_path: Path, undisturbed: Any) -> None:
    """Each is killed four times in two or four processes, and once in one."""
    turns = [2, 1, 4, 2, 4]
    counts = [*turns[seed:], *turns[:seed]]
    kills = killed_until_done(counts, tmp_path / "killed", random.Random(seed), undisturbed(2)[1])
    assert max(kill["lost"] for kill in kills) <= SAVE_EVERY
    weights, history = ended_well({1: 2, 2: 4, 4: 1}[counts[-1]], tmp_path / "killed")
    expected, records = undisturbed(1)[0]
    require_same_weights(weights, expected, "killed")
    for name in ("step", "loss", "valid_loss"):
        found, other = ([record[name] for record in part if name in record] for part in (history, records))
        assert found == pytest.approx(other, rel=BOUND, abs=BOUND), name


@pytest.mark.parametrize("size", [2, 4])
def test_killed_and_gone_on_with_to_the_bit(size: int, tmp_path: Path, undisturbed: Any) -> None:
    (expected, records), seconds = undisturbed(size)
    kills = killed_until_done([size] * 5, tmp_path / "killed", random.Random(size), seconds)
    assert max(kill["lost"] for kill in kills) <= SAVE_EVERY
    weights, history = ended_well(size, tmp_path / "killed")
    assert history == records
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)


def test_torchrun_starts_again_what_was_killed(tmp_path: Path) -> None:
    """One is killed before a save, another within one; ``torchrun --max-restarts`` alone brings the run to its end."""
    ended = start(2, str(tmp_path), module="tests.train.restarted", restarts=restarted.RESTARTS)
    assert ended.returncode == 0, ended.stderr[-4000:]
    processes = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for process in processes:
        assert process["start"] == restarted.RESTARTS == len(restarted.KILLED), "as often as one was killed"
        disturbed, undisturbed = process["disturbed"], process["undisturbed"]
        assert disturbed["steps"] == [4, 5, 6], "of the last start: what was saved is not computed again"
        assert disturbed["weights"] == undisturbed["weights"] == processes[0]["undisturbed"]["weights"]
        assert disturbed["history"] == undisturbed["history"]
    assert hidden(tmp_path / "run") == []
    assert require_whole(tmp_path / "run") == 6
