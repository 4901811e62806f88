"""Trust 4, 5 and 8: kills and errors at any moment of a save leave a checkpoint that a run can go on from."""

from __future__ import annotations

import errno
import mmap
import os
import random
import resource
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import Callback
from sftlib.errors import CheckpointError
from sftlib.support.storage import verify
from sftlib.train.disk.checkpoint import Checkpoints
from tests.trust.conftest import Figure
from tests.trust.faults import count_calls, fail_at, intercepted, kill_at
from tests.trust.runs import (
    EPOCH,
    BreakAt,
    Interrupted,
    assert_same,
    fit,
    hidden,
    in_child,
    newest_step,
    raising,
    undisturbed,
)

CHANGING = ("write", "fsync", "rename")


def state(step: int) -> dict[str, Any]:
    """A small state that differs from step to step."""
    weights = {f"layer.{i}.weight": torch.full((64, 8), float(step + i)) for i in range(6)}
    return {
        "position": {"step": step},
        "model": weights,
        "optimizer": {"state": {i: {"exp_avg": weight * 0.1} for i, weight in enumerate(weights.values())}},
        "callbacks": [{"weights": {name: weight + 1 for name, weight in weights.items()}}],
    }


def opened(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    checkpoints.open()
    return checkpoints


def with_three(folder: Path) -> Checkpoints:
    """Two newest and the best: the next save will have one to delete."""
    checkpoints = opened(folder)
    for step in (10, 20, 30):
        checkpoints.save(state(step), step=step, best_step=10)
    return checkpoints


def assert_complete(checkpoints: Checkpoints, *, at_least: int) -> int:
    """The newest verifies, is not older than this, and holds what was saved."""
    found = checkpoints.newest()
    assert found.folder is not None
    assert found.step >= at_least
    for step in checkpoints.steps():  # a name is given last and taken first, so whatever has one is whole
        verify(checkpoints.folder / f"step-{step:08}", kind="sftlib checkpoint")
    read = checkpoints.read(found.folder)
    assert read["position"] == {"step": found.step}
    for name, weight in state(found.step)["model"].items():
        assert torch.equal(read["model"][name], weight)
    return found.step


def test_04_sigkill_at_every_call_of_a_save(tmp_path: Path, figure: Figure) -> None:
    """Every write (half done), fsync, rename, mkdir, open, chmod and deletion of one save with rotation."""
    template = tmp_path / "template"
    with_three(template)

    def save(folder: Path) -> None:
        Checkpoints(folder).save(state(40), step=40, best_step=20)

    shutil.copytree(template, tmp_path / "counted")
    total = count_calls(lambda: save(tmp_path / "counted"))
    shutil.copytree(template, tmp_path / "changing")
    changing = count_calls(lambda: save(tmp_path / "changing"), calls=CHANGING)
    assert changing >= 30

    steps = []
    for point in range(1, total + 1):
        folder = tmp_path / f"at-{point}"
        shutil.copytree(template, folder)

        def work(folder: Path = folder, point: int = point) -> None:
            with intercepted(kill_at(point)):
                save(folder)

        assert in_child(work) == -signal.SIGKILL
        checkpoints = opened(folder)
        assert hidden(folder) == [], "leftovers are removed at the start"
        steps.append(assert_complete(checkpoints, at_least=30))
        assert 20 in checkpoints.steps(), "the best is there"
        checkpoints.save(state(50), step=50, best_step=20)
        assert assert_complete(checkpoints, at_least=50) == 50
    assert set(steps) == {30, 40}
    assert steps == sorted(steps), "from the rename on it is the new one"
    figure("points of a save killed at (of them write, fsync, rename)", f"{total} ({changing})")


def large(step: int) -> dict[str, Any]:
    """A state that is hashed and flushed on other threads while it is written."""
    return {**state(step), "large": {"weight": torch.full((3, 400_000), float(step))}}


def test_04_sigkill_while_other_threads_hash_and_flush(tmp_path: Path) -> None:
    opened(tmp_path / "template").save(large(10), step=10)
    shutil.copytree(tmp_path / "template", tmp_path / "counted")
    total = count_calls(lambda: Checkpoints(tmp_path / "counted").save(large(20), step=20))
    for point in range(2, total, 6):
        folder = tmp_path / f"at-{point}"
        shutil.copytree(tmp_path / "template", folder)

        def work(folder: Path = folder, point: int = point) -> None:
            with intercepted(kill_at(point)):
                Checkpoints(folder).save(large(20), step=20)

        assert in_child(work) == -signal.SIGKILL
        checkpoints = opened(folder)
        assert assert_complete(checkpoints, at_least=10) in (10, 20)
        checkpoints.save(large(30), step=30)
        assert assert_complete(checkpoints, at_least=30) == 30


class Tally(Callback):
    """Counts the steps of a run where the parent of a killed process can read them."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 8)

    def on_step_end(self, training: Any, record: Any) -> None:
        self.shared[0] = training.step

    @property
    def step(self) -> int:
        return self.shared[0]


def test_04_sigkill_during_the_saves_of_a_run(tmp_path: Path, figure: Figure) -> None:
    """Kills spread over all saves of a real run, in a process of its own: it resumes, and ends as if nothing was."""
    undisturbed()
    save_every = 4
    total = count_calls(lambda: fit(tmp_path / "counted", callbacks=[Tally()], save_every=save_every), calls=CHANGING)
    points = [round(1 + i * (total - 1) / 29) for i in range(30)]
    lost = []
    for point in points:
        folder, tally = tmp_path / str(point), Tally()

        def work(folder: Path = folder, tally: Tally = tally, point: int = point) -> None:
            with intercepted(kill_at(point), calls=CHANGING):
                fit(folder, callbacks=[tally], save_every=save_every)

        assert in_child(work) == -signal.SIGKILL
        lost.append(tally.step - newest_step(folder))
        assert_same(fit(folder, callbacks=[Tally()], save_every=save_every, resume=True))
    assert max(lost) <= save_every
    figure("points of a run killed at during its saves, bit-equal after resuming", f"{len(points)} of {len(points)}")


@pytest.mark.slow
def test_04_sigkill_at_random_moments_of_a_run(tmp_path: Path, figure: Figure) -> None:
    """A kill from outside, at any moment; runs that had ended before it do not count."""
    generator, counted, lost = random.Random(0), 0, []
    started = time.monotonic()
    fit(tmp_path / "timed", callbacks=[Tally()], save_every=1)
    lasts = time.monotonic() - started

    for attempt in range(400):
        folder, tally = tmp_path / str(attempt), Tally()
        delay = generator.uniform(0, 1.1 * lasts)

        def kill(process: int, delay: float = delay) -> None:
            time.sleep(delay)
            os.kill(process, signal.SIGKILL)

        code = in_child(lambda folder=folder, tally=tally: fit(folder, callbacks=[tally], save_every=1), then=kill)
        if code != -signal.SIGKILL:
            lasts *= 0.9  # it had ended: the machine is faster than it was
        if code != -signal.SIGKILL or tally.step == 0:
            continue
        counted += 1
        lost.append(tally.step - newest_step(folder))
        assert_same(fit(folder, callbacks=[Tally()], save_every=1, resume=True))
        shutil.rmtree(folder)
        if counted == 50:
            break
    assert counted == 50
    assert max(lost) <= 1
    figure("random moments of a run killed at, bit-equal after resuming", f"{counted} of {counted}")


ERRORS = {"disk full": errno.ENOSPC, "no permission": errno.EACCES, "read-only": errno.EROFS, "I/O": errno.EIO}


@pytest.mark.parametrize("point", range(1, 9))
def test_05_an_error_on_another_thread_counts_too(point: int, tmp_path: Path) -> None:
    checkpoints = opened(tmp_path / "run")
    checkpoints.save(large(10), step=10)
    with pytest.raises(CheckpointError, match="Input/output"), intercepted(fail_at(point, errno.EIO), calls=("fsync",)):
        checkpoints.save(large(20), step=20)
    assert hidden(tmp_path / "run") == []
    assert_complete(checkpoints, at_least=10)


@pytest.mark.parametrize("kind", ERRORS)
def test_05_errors_at_every_call_of_a_save(kind: str, tmp_path: Path, figure: Figure) -> None:
    template = tmp_path / "template"
    with_three(template)
    calls = ("mkdir", "open", "write", "fsync", "chmod", "rename")
    shutil.copytree(template, tmp_path / "counted")
    total = count_calls(lambda: Checkpoints(tmp_path / "counted").save(state(40), step=40, best_step=20), calls=calls)
    for point in range(2, total + 1):  # the first asks for the folder above, which is there
        folder = tmp_path / f"at-{point}"
        shutil.copytree(template, folder)
        checkpoints = opened(folder)
        action = fail_at(point, ERRORS[kind], for_good=kind == "disk full")
        said = pytest.raises(CheckpointError, match="output_dir=.*" + os.strerror(ERRORS[kind]))
        with said as caught, intercepted(action, calls=calls):
            checkpoints.save(state(40), step=40, best_step=20)
        assert isinstance(caught.value.__cause__, OSError)
        assert not [name for name in hidden(folder) if ".tmp-" in name], "nothing partial is left"
        opened(folder)
        assert hidden(folder) == []
        assert_complete(checkpoints, at_least=30)
        checkpoints.save(state(50), step=50, best_step=20)
        assert assert_complete(checkpoints, at_least=50) == 50
    figure(f"points of a save failed at ({kind})", total - 1)


def test_05_a_disk_that_fills_up_during_a_run(tmp_path: Path) -> None:
    """A real limit of the system on the size of files, in a process of its own: the fourth save does not fit."""

    class Narrow(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            if training.step == 4:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    class Wide(Callback):
        pass

    Wide.__module__, Wide.__qualname__ = Narrow.__module__, Narrow.__qualname__

    def work() -> None:
        with raising(CheckpointError) as caught:
            fit(tmp_path / "run", callbacks=[Narrow()], save_every=1)
        assert isinstance(caught[0].__cause__, OSError)
        assert caught[0].__cause__.errno == errno.EFBIG

    assert in_child(work) == 0
    assert newest_step(tmp_path / "run") == 3
    assert hidden(tmp_path / "run") == []
    assert_same(fit(tmp_path / "run", callbacks=[Wide()], save_every=1, resume=True))


def test_05_a_folder_that_cannot_be_written_is_refused_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match="output_dir="):
            fit(path, callbacks=[BreakAt(1)])

    def as_nobody() -> None:
        os.setuid(65534)
        with raising(CheckpointError):
            opened(tmp_path / "of-root" / "run")

    (tmp_path / "of-root").mkdir(mode=0o755)
    if os.getuid() == 0:
        assert in_child(as_nobody) == 0
    else:
        (tmp_path / "of-root").chmod(0o500)
        with raising(CheckpointError):
            opened(tmp_path / "of-root" / "run")


def test_05_folders_and_files_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with raising(Interrupted):
            fit(tmp_path / "run", callbacks=[BreakAt(3)], save_every=1)
    finally:
        os.umask(before)
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_05_leftovers_of_a_living_process_are_left_alone(tmp_path: Path) -> None:
    opened(tmp_path / "run")
    parent = tmp_path / "run" / f".step-00000001.tmp-{os.getppid()}"
    dead = tmp_path / "run" / f".step-00000002.tmp-{in_child_number()}"
    parent.mkdir()
    dead.mkdir()
    opened(tmp_path / "run")
    assert hidden(tmp_path / "run") == [parent.name]


def in_child_number() -> int:
    """The number of a process that has ended."""
    numbers: list[int] = []
    in_child(lambda: None, then=numbers.append)
    return numbers[0]


def test_08_fifty_saves_with_crashes_between_save_and_delete(tmp_path: Path, figure: Figure) -> None:
    """At every moment one is complete and the best is there, whatever was killed while it rotated."""
    generator, crashes, best, most = random.Random(8), 0, 1, 0
    folder = tmp_path / "run"
    for step in range(1, 51):
        best = step if generator.random() < 0.2 else best
        checkpoints = opened(folder)
        shutil.copytree(folder, tmp_path / "copy")
        after_rename = count_calls(
            lambda: Checkpoints(tmp_path / "copy").save(state(step), step=step, best_step=best),  # noqa: B023
            calls=("rename", "unlink", "rmdir"),
        )
        shutil.rmtree(tmp_path / "copy")
        crash = generator.randint(2, max(2, after_rename)) if generator.random() < 0.6 else None

        def work(step: int = step, best: int = best, crash: int | None = crash) -> None:
            with intercepted(kill_at(crash or 10**9), calls=("rename", "unlink", "rmdir")):
                Checkpoints(folder).save(state(step), step=step, best_step=best)

        crashes += in_child(work) == -signal.SIGKILL
        assert assert_complete(checkpoints, at_least=step) == step
        assert best in checkpoints.steps()
        most = max(most, len(checkpoints.steps()))
    checkpoints = opened(folder)
    checkpoints.save(state(51), step=51, best_step=best)
    assert checkpoints.steps() == sorted({best, 50, 51})
    assert crashes >= 15
    assert most <= 6
    figure("saves (crashed while rotating); most checkpoints at a time", f"50 ({crashes}); {most}")


class Spoil(Callback):
    """Makes the weights worse and worse after the first epoch."""

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step > EPOCH:
            with torch.no_grad():
                for weight in training.model.parameters():
                    weight.mul_(1.5)


def test_08_a_run_keeps_the_last_two_and_the_best(tmp_path: Path) -> None:
    tuned = fit(tmp_path / "run", keep_best="loss", epochs=4, callbacks=[Spoil()])
    losses = [record["valid_loss"] for record in tuned.history.evaluations]
    assert losses.index(min(losses)) == 0
    assert Checkpoints(tmp_path / "run").steps() == [5, 15, 20]


@pytest.mark.parametrize("order", ["files before their folder", "folder before its name", "name before deleting"])
def test_08_everything_is_on_disk_before_it_counts(order: str, tmp_path: Path) -> None:
    """What a power cut would leave cannot be tried here, so the order of the calls is what is tested."""
    events: list[tuple[str, str]] = []
    checkpoints = with_three(tmp_path / "run")
    paths: dict[int, str] = {}
    original = os.open

    def noted(path: Any, *args: Any, **kwargs: Any) -> int:
        descriptor = original(path, *args, **kwargs)
        paths[descriptor] = str(path)
        return descriptor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", noted)
        for name in ("fsync", "rename", "unlink", "write"):
            patch.setattr(os, name, _noting(events, name, getattr(os, name), paths))
        checkpoints.save(state(40), step=40, best_step=20)

    renamed = events.index(("rename", str(tmp_path / "run" / f".step-00000040.tmp-{os.getpid()}")))
    synced = [path for name, path in events[:renamed] if name == "fsync"]
    written = {path for name, path in events if name == "write"}
    if order == "files before their folder":
        assert len(written) >= 4
        assert written <= set(synced)
        assert all(
            events.index(("fsync", path)) > max(i for i, event in enumerate(events) if event == ("write", path))
            for path in written
        )
    elif order == "folder before its name":
        assert synced[-1].endswith(f".step-00000040.tmp-{os.getpid()}")
    else:
        after = events[renamed + 1 :]
        assert after[0] == ("fsync", str(tmp_path / "run"))
        assert "unlink" in {name for name, _ in after}
        assert "unlink" not in {name for name, _ in events[:renamed]}


def _noting(
    events: list[tuple[str, str]], name: str, original: Callable[..., Any], paths: dict[int, str]
) -> Callable[..., Any]:
    def call(first: Any, *args: Any, **kwargs: Any) -> Any:
        events.append((name, paths.get(first, "?") if isinstance(first, int) else str(first)))
        return original(first, *args, **kwargs)

    return call


def test_08_a_step_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    checkpoints = with_three(tmp_path / "run")
    before = (tmp_path / "run" / "step-00000030" / "state.json").stat().st_mtime_ns
    checkpoints.save(state(31), step=30)
    assert (tmp_path / "run" / "step-00000030" / "state.json").stat().st_mtime_ns == before
