"""The run that `FineTuner.fit` is asked for: in memory, or in a folder that is empty or holds what is to go on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from sftlib.errors import CheckpointError
from sftlib.run.identity import differences, libraries
from sftlib.run.on_disk import FORMAT, Run, RunInMemory, RunOnDisk
from sftlib.support.checking import raise_together, user_path
from sftlib.support.display import counted
from sftlib.train.comm import Comm
from sftlib.train.disk.checkpoint import Checkpoints, State
from sftlib.train.disk.locking import LOCK, FolderLock
from sftlib.train.disk.saving import check_state
from sftlib.train.disk.signals import Signals


@final
@dataclass(frozen=True)
class Disk:
    """What a run is to leave on disk, as `FineTuner.fit` was told.

    Attributes:
        output_dir: where checkpoints go; None to write nothing.
        resume: whether to go on from the newest complete checkpoint.
        save_every: optimizer steps between two checkpoints; None for every end of an epoch.
    """

    output_dir: str | os.PathLike[str] | None
    resume: bool
    save_every: int | None

    def of_round(self, number: int) -> Disk:
        """The same for one of several runs: a folder in that folder."""
        folder = None if self.output_dir is None else Path(self.output_dir) / f"round-{number}"
        return replace(self, output_dir=folder)

    def open(self, *, quiet: bool, comm: Comm) -> Run:
        """The run.

        Args:
            quiet: whether nobody reads what is told.
            comm: the processes of the run.

        Raises:
            OptionError: options that need an ``output_dir`` without one, or values they cannot have.
            CheckpointError: a folder that cannot be written, that a living run uses, or that is not empty although
                ``resume`` is False.
        """
        _check(self.output_dir, self.resume, self.save_every)
        if self.output_dir is None:
            return RunInMemory()
        folder = user_path(self.output_dir)
        checkpoints, lock = Checkpoints(folder), FolderLock(folder)
        comm.on_first(checkpoints.open)
        comm.on_first(lock.take)
        try:
            return _open_on_disk(
                checkpoints, lock, resume=self.resume, save_every=self.save_every, quiet=quiet, comm=comm
            )
        except BaseException:
            lock.release()
            raise


def _open_on_disk(
    checkpoints: Checkpoints, lock: FolderLock, *, resume: bool, save_every: int | None, quiet: bool, comm: Comm
) -> RunOnDisk:
    """The run in a folder that is this run's own."""
    if not resume:
        require_empty(checkpoints)
    found = checkpoints.newest()
    state = None if found.folder is None else checkpoints.read(found.folder, rank=comm.rank, size=comm.size)
    if state is not None:
        check_state(state, found.step)
        _require_format(checkpoints, state, found.manifest)
    lines = [f"skipped {name}: {why}" for name, why in found.skipped.items()]
    if quiet and lines:
        logging.getLogger("sftlib").warning("%s", "; ".join(lines))
    if resume:
        lines.append("nothing to resume: starts at step 0" if state is None else f"resumes after step {found.step}")
    return RunOnDisk(
        checkpoints,
        state=state,
        damaged=found.skipped,
        save_every=save_every,
        lines=[*lines, *_lines_on_versions(found.manifest), *_lines_on_processes(state, comm), *_lines_on_signals()],
        quiet=quiet,
        comm=comm,
        lock=lock,
    )


def _check(output_dir: object, resume: object, save_every: object) -> None:
    problems = []
    if not isinstance(output_dir, str | os.PathLike | None):
        problems.append(f"output_dir={output_dir!r}: expected the path of a folder, or None")
    if not isinstance(resume, bool):
        problems.append(f"resume={resume!r}: expected True or False")
    elif resume and output_dir is None:
        problems.append("resume=True: say where the checkpoints are, with output_dir=...")
    if save_every is not None and (not isinstance(save_every, int) or save_every is True or save_every < 1):
        problems.append(f"save_every={save_every!r}: expected a whole number of at least 1")
    elif save_every is not None and output_dir is None:
        problems.append(f"save_every={save_every}: say where to save, with output_dir=...")
    raise_together(problems)


def require_empty(checkpoints: Checkpoints) -> None:
    """Refuse a folder that holds anything but the lock of a run.

    Raises:
        CheckpointError: saying what it holds.
    """
    names = [name for name in checkpoints.names() if name != LOCK]
    if names:
        steps = checkpoints.steps()
        holds = f"checkpoints up to step {steps[-1]}" if steps else f"{', '.join(map(repr, names[:5]))}"
        raise CheckpointError(
            f"output_dir={os.fspath(checkpoints.folder)!r} is not empty (it holds {holds}): pass resume=True to "
            "continue the run in it, or choose another folder"
        )


def _require_format(checkpoints: Checkpoints, state: State, manifest: Mapping[str, Any]) -> None:
    """Refuse a run that knows itself by other facts than runs of this version."""
    if state["run"].get("format") == FORMAT:
        return
    saved = manifest.get("libraries")
    version = saved.get("sftlib", "0.1") if isinstance(saved, dict) else "0.1"
    raise CheckpointError(
        f"output_dir={os.fspath(checkpoints.folder)!r} holds a run of sftlib {version!s:.20}, which this version "
        f"cannot continue (options of tasks and digests of rows are written in another way now): finish it with sftlib "
        f"{version!s:.20}, or begin it again in another folder"
    )


def _lines_on_signals() -> list[str]:
    if Signals.can_be_caught():
        return []
    return [
        "not in the main thread, so SIGTERM and SIGINT are not caught: the steps since the last checkpoint are lost"
    ]


def _lines_on_processes(state: State | None, comm: Comm) -> list[str]:
    before = comm.size if state is None else int(state["run"]["resolved"].get("processes", 1))
    if before == comm.size:
        return []
    return [
        f"begun in {counted(before, 'process', 'processes')} and goes on in {comm.size}: "
        "sums are added up in another order from here"
    ]


def _lines_on_versions(manifest: Mapping[str, Any]) -> list[str]:
    saved = manifest.get("libraries")
    changed = differences(saved, libraries()) if isinstance(saved, dict) else []
    return [f"other versions than when it was saved, so not to the bit: {'; '.join(changed)}"] if changed else []
