"""The probes of what is on disk: kills, lack of space and rights, flipped bits, signals, planted pickles."""

from __future__ import annotations

import io
import itertools
import mmap
import os
import pickle
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.trust_peers.child import Ended, in_child
from tests.trust_peers.probes import Cell, distance, interrupted
from tests.trust_peers.work import EPOCH, Peer, Run

EPOCHS = 3
SAVED = 2 * EPOCH  # the newest checkpoint of a run broken off after it
KILLS = 10
FLIPS = 20


def run(folder: Path, **options: Any) -> Run:
    """Fifteen steps, a checkpoint after each fifth."""
    return Run(folder=folder, save_every=EPOCH, epochs=EPOCHS, **options)


def resumed(peer: Peer, folder: Path, expected: dict[str, Tensor] | None = None, **options: Any) -> Ended:
    """Resume in a child; notes: the step gone on from, and how far off the weights are at the end."""

    def work(notes: dict[str, Any]) -> None:
        steps: list[int] = []
        found = peer.fit(run(folder, resume=True, on_step=lambda step, model: steps.append(step), **options))
        notes["from"] = steps[0] - 1 if steps else EPOCHS * EPOCH
        if expected is not None:
            notes["off"] = distance(expected, found)

    return in_child(work)


def snapshot(folder: Path) -> frozenset[tuple[str, int]]:
    """Every name under a folder with its size."""
    found = set()
    stack = [str(folder)]
    while stack:
        try:
            for entry in os.scandir(stack.pop()):
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                found.add((entry.path, entry.stat(follow_symlinks=False).st_size))
        except OSError:
            continue  # gone since it was listed
    return frozenset(found)


def killed_in_save(peer: Peer, folder: Path, change: int) -> bool:
    """A run killed from outside when the n-th change is seen on disk during its second save; whether it was in time."""
    at = mmap.mmap(-1, 8)

    def tell(step: int, model: nn.Module) -> None:
        at[0] = step

    def kill(process: int) -> None:
        until = time.monotonic() + 20
        while at[0] < SAVED and time.monotonic() < until:
            time.sleep(0)
        last, seen = snapshot(folder), 0
        while at[0] == SAVED and time.monotonic() < until:
            now = snapshot(folder)
            seen, last = seen + (now != last), now
            if seen >= change:
                break
        os.kill(process, signal.SIGKILL)

    ended = in_child(lambda notes: peer.fit(run(folder, on_step=tell)), then=kill)
    return ended.code == -signal.SIGKILL and at[0] == SAVED


def killing(peer: Peer, folder: Path) -> Cell:
    """4: SIGKILL in the middle of a save, then resumed as documented."""
    counted, works, lost = 0, 0, 0
    errors: set[str] = set()
    for attempt in itertools.count():
        where = folder / str(attempt)
        where.mkdir()
        if killed_in_save(peer, where, 1 + attempt % 7):
            counted += 1
            ended = resumed(peer, where)
            if ended.error:
                errors.add(ended.error)
            else:
                works, lost = works + 1, max(lost, SAVED - ended.notes["from"])
        shutil.rmtree(where)
        if counted == KILLS or attempt == 6 * KILLS:
            break
    if not counted:
        return Cell(None, "no kill fell into a save")
    figure = f"{works} of {counted} resumed" + (f", {lost} steps lost at most" if works else "")
    if errors:
        figure += f"; else {', '.join(sorted(errors))}"
    return Cell(works == counted and lost <= EPOCH, figure)


def _nobody(folder: Path) -> None:
    """Give up the right to write into a folder."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    else:
        folder.chmod(0o500)


def unwritable(peer: Peer, folder: Path) -> Cell:
    """5: a folder without permission, and a disk that is full from the second save on."""
    steps: list[int] = []

    def without_rights(notes: dict[str, Any]) -> None:
        where = folder / "locked"
        where.mkdir(mode=0o755)
        folder.chmod(0o755)
        _nobody(where)
        try:
            peer.fit(run(where / "run", on_step=lambda step, model: steps.append(step)))
        finally:
            notes["steps"] = len(steps)

    def full(notes: dict[str, Any]) -> None:
        def fill(step: int, model: nn.Module) -> None:
            steps.append(step)
            if step == SAVED - 1:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

        try:
            peer.fit(run(folder / "full", on_step=fill))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            notes["steps"] = len(steps)

    found = [in_child(without_rights), in_child(full)]
    after = resumed(peer, folder / "full")
    goes_on = not after.error and after.notes["from"] >= EPOCH
    lines = [
        f"{name}: " + (f"{ended.error} at step {ended.notes.get('steps')}" if ended.error else "silence")
        for name, ended in zip(("no permission", "disk full"), found, strict=True)
    ]
    lines.append(f"then resumes from step {after.notes['from']}" if not after.error else f"then {after.error}")
    return Cell(all(ended.error for ended in found) and goes_on, "; ".join(lines))


def newest(peer: Peer, folder: Path) -> list[Path]:
    """The files of the newest checkpoint."""
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    last = max(names, key=lambda path: path.stat().st_mtime_ns)
    if last.is_dir():
        return sorted(path for path in last.iterdir() if path.is_file())
    if (folder / "last.ckpt").exists():
        return [folder / "last.ckpt"]
    return sorted(names)


def flipping(peer: Peer, folder: Path) -> Cell:
    """6: one bit of the newest checkpoint flipped, file after file."""
    whole = folder / "whole"
    interrupted(peer, whole, SAVED + 2, save_every=EPOCH, epochs=EPOCHS)
    shutil.copytree(whole, folder / "plain")
    plain: list[dict[str, Tensor]] = [peer.fit(run(folder / "plain", resume=True))]
    generator = random.Random(6)
    noticed = moved = 0
    for number in range(FLIPS):
        where = folder / "flipped"
        shutil.copytree(whole, where)
        files = newest(peer, where)
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        ended = resumed(peer, where, plain[0])
        fell_back = not ended.error and ended.notes["from"] < SAVED
        noticed += bool(ended.error) or fell_back
        moved += not ended.error and not fell_back and ended.notes["off"] != 0
        shutil.rmtree(where)
    accepted = FLIPS - noticed
    figure = f"{noticed} of {FLIPS} noticed" + (
        f"; {accepted} accepted, {moved} of them with other weights at the end" if accepted else ""
    )
    return Cell(noticed == FLIPS, figure)


def terminating(peer: Peer, folder: Path) -> Cell:
    """7: SIGTERM during step 7, no checkpoint due: with defaults, and with the switch for it."""

    def one(guard: str) -> tuple[bool, str]:
        where = folder / (guard or "plain")

        def tell(step: int, model: nn.Module) -> None:
            if step == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            if step > 7 and guard:
                time.sleep(0.3)  # one library waits three seconds before it acts

        def work(notes: dict[str, Any]) -> None:
            peer.fit(Run(folder=where, save_every=1000, epochs=6, on_step=tell, guard=guard))

        in_child(work)
        after = in_child(lambda notes: notes.update({"from": _continued(peer, where)}))
        saved = 0 if after.error else after.notes["from"]
        later = f"step {saved} saved, {saved - 7} after the signal" if saved > 7 else f"step {saved} saved"
        return saved == 7, f"step {saved} of 7 saved" if 0 < saved < 7 else later if saved else "nothing saved"

    holds, figure = one("")
    if not holds and "signal" in peer.guards:
        holds, guarded = one("signal")
        figure += f"; with `{peer.guards['signal']}` {guarded}"
    return Cell(holds, figure)


def _continued(peer: Peer, folder: Path) -> int:
    """The step that a run goes on from."""
    steps: list[int] = []
    peer.fit(Run(folder=folder, save_every=1000, epochs=6, resume=True, on_step=lambda step, model: steps.append(step)))
    return steps[0] - 1


class Planted:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.close, (_opened(self.mark),)


def _opened(mark: Path) -> Any:
    return _Open(str(mark))


class _Open:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.open, (self.mark, os.O_CREAT | os.O_WRONLY)


def _planted(mark: Path) -> Iterator[bytes]:
    """The same object pickled, and inside of an archive of torch."""
    yield pickle.dumps(Planted(mark))
    archive = io.BytesIO()
    torch.save(Planted(mark), archive)
    yield archive.getvalue()


def planting(peer: Peer, folder: Path) -> Cell:
    """24: each file of the newest checkpoint, and the usual names beside them, replaced by a pickle with a payload."""
    whole = folder / "whole"
    interrupted(peer, whole, SAVED + 2, save_every=EPOCH, epochs=EPOCHS)
    mark = folder / "mark"
    pickle.loads(next(_planted(mark)))
    if not mark.exists():
        raise RuntimeError("the payload does not work")
    mark.unlink()
    names = [path.relative_to(whole) for path in newest(peer, whole)]
    usual = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "params.pt")
    places = list(dict.fromkeys([*names, *(names[0].parent / name for name in usual)]))
    tried = executed = 0
    for place in places:
        for kind in range(2):
            where = folder / "planted"
            shutil.copytree(whole, where)
            if place.name == "pytorch_model.bin":
                (where / place.parent / "model.safetensors").unlink(missing_ok=True)  # it is read only without these
            (where / place).write_bytes(list(_planted(mark))[kind])
            resumed(peer, where)
            tried, executed = tried + 1, executed + mark.exists()
            mark.unlink(missing_ok=True)
            shutil.rmtree(where)
    return Cell(executed == 0, f"{executed} of {tried} executed on resuming")
