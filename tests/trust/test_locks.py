"""Trust 8, continued: two living runs never write into one folder, and a dead one's lock stands in nobody's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sftlib import Callback
from sftlib.errors import CheckpointError
from sftlib.train.disk.locking import LOCK, FolderLock
from tests.trust.conftest import Figure
from tests.trust.runs import BreakAt, Interrupted, assert_same, fit, in_child, raising

_PATIENCE = 60.0  # seconds until a process that should say something counts as lost


class Linger(Callback):
    """Says that a run is at its second step, and keeps it there until it is told to go on."""

    def __init__(self, said: Path, go: Path) -> None:
        self.said, self.go = said, go

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == 2:
            self.said.touch()
            until(self.go.exists)


def until(condition: Any) -> None:
    ends = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < ends, "lost"
        time.sleep(0.01)


class Idle(Callback):
    """Stands in for `Linger` in the run that goes on."""


Idle.__qualname__ = Linger.__qualname__


def test_08_a_living_run_keeps_others_out(tmp_path: Path) -> None:
    folder, said, go = tmp_path / "run", tmp_path / "said", tmp_path / "go"

    def while_it_lives(process: int) -> None:
        until(said.exists)
        before = sorted(path.name for path in folder.iterdir())
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=f"in use: process {process} on .* is training into it"):
                fit(folder, callbacks=[Idle()], save_every=1, resume=resume)
        assert sorted(path.name for path in folder.iterdir()) == before, "a refusal changes nothing"
        go.touch()

    assert in_child(lambda: fit(folder, callbacks=[Linger(said, go)], save_every=1), then=while_it_lives) == 0
    assert LOCK not in os.listdir(folder)
    assert_same(fit(folder, callbacks=[Idle()], save_every=1, resume=True))


def test_08_a_killed_run_keeps_nobody_out(tmp_path: Path, figure: Figure) -> None:
    folder, said = tmp_path / "run", tmp_path / "said"

    def kill(process: int) -> None:
        until(said.exists)
        os.kill(process, signal.SIGKILL)

    killed = in_child(lambda: fit(folder, callbacks=[Linger(said, tmp_path / "never")], save_every=1), then=kill)
    assert killed == -signal.SIGKILL
    assert LOCK in os.listdir(folder)
    assert_same(fit(folder, callbacks=[Idle()], save_every=1, resume=True))
    assert LOCK not in os.listdir(folder)
    figure("living runs that kept a second one out; killed ones that did not", "2; 1")


def test_08_what_is_left_of_a_killed_run_is_no_content(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text('{"process": 1, "host": "here"}')
    assert_same(fit(tmp_path, save_every=5))


def test_08_a_run_that_fails_lets_go(tmp_path: Path) -> None:
    with raising(Interrupted) as caught:
        fit(tmp_path / "run", callbacks=[BreakAt(3)], save_every=1)
    assert caught[0].__traceback__ is not None  # holds the frames of the run, as a notebook does
    with raising(CheckpointError):
        fit(tmp_path / "run", callbacks=[BreakAt(0)], save_every=1)  # not empty: refused after it was locked
    assert_same(fit(tmp_path / "run", callbacks=[BreakAt(0)], save_every=1, resume=True))


def test_08_two_threads_are_two_runs(tmp_path: Path) -> None:
    said, go, errors = tmp_path / "said", tmp_path / "go", []

    def work() -> None:
        try:
            fit(tmp_path / "run", callbacks=[Linger(said, go)], save_every=1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: said.exists() or errors)
    with pytest.raises(CheckpointError, match=f"in use: process {os.getpid()}"):
        FolderLock(tmp_path / "run").take()
    go.touch()
    thread.join()
    assert not errors


def test_08_of_many_that_ask_at_once_one_gets_it(tmp_path: Path) -> None:
    """Processes that take and release in a row, with the removal of the file in between: never two at a time."""
    script = (
        "import sys, os, pathlib\n"
        "from sftlib.errors import CheckpointError\n"
        "from sftlib.train.disk.locking import FolderLock\n"
        "folder, held = pathlib.Path(sys.argv[1]), 0\n"
        "while held < 200:\n"
        "    lock = FolderLock(folder)\n"
        "    try: lock.take()\n"
        "    except CheckpointError: continue\n"
        "    os.mkdir(folder / 'alone')\n"
        "    os.rmdir(folder / 'alone')\n"
        "    lock.release()\n"
        "    held += 1\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=_PATIENCE) for process in processes] == [0, 0, 0]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 5000, b"\xff\xfe", b'{"process": {"a": 1}}'])
def test_08_a_lock_that_says_nothing(content: bytes, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.take()
    (tmp_path / LOCK).write_bytes(content)
    with pytest.raises(CheckpointError, match="in use: another run"):
        FolderLock(tmp_path).take()
    lock.release()


def test_08_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="cannot be locked"):
        fit(tmp_path / "run")
    assert (tmp_path / "elsewhere").read_text() == "mine"
