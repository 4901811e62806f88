"""Trust 7: SIGTERM and SIGINT end a run that has an output_dir after its step, saved; everything is as before then."""

from __future__ import annotations

import functools
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
from tests.trust.runs import (
    EPOCH,
    STEPS,
    SignalAt,
    assert_same,
    fit,
    hidden,
    in_child,
    newest_step,
    raising,
    undisturbed,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("step", [1, 3, EPOCH, STEPS])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_07_the_current_step_is_saved(name: str, step: int, tmp_path: Path) -> None:
    number = signal.Signals[name]
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with raising(KeyboardInterrupt if name == "SIGINT" else SystemExit) as caught:
        fit(tmp_path / "run", callbacks=[SignalAt(step, number)])
    if name == "SIGTERM":
        assert caught[0].code == 143  # type: ignore[attr-defined]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert newest_step(tmp_path / "run") == step
    assert hidden(tmp_path / "run") == []
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(0)], resume=True))


def test_07_a_notebook_survives(tmp_path: Path) -> None:
    """After the KeyboardInterrupt the tuner holds the weights of the saved step and can be used."""
    from tests.trust.runs import data, tuner

    tuned = tuner()
    with raising(KeyboardInterrupt):
        tuned.fit(*data(), callbacks=[SignalAt(3)], output_dir=tmp_path / "run", progress=False)
    assert len(tuned.history.steps) == 3
    assert tuned.predict("A fine film.").probability > 0
    tuned.save(tmp_path / "model")


def test_07_the_handler_from_before_has_its_say(tmp_path: Path) -> None:
    heard: list[int] = []

    def own(number: int, frame: object) -> None:
        heard.append(newest_step(tmp_path / "run"))
        raise RuntimeError("own way to end")

    signal.signal(signal.SIGTERM, own)
    with raising(RuntimeError):
        fit(tmp_path / "run", callbacks=[SignalAt(3, signal.SIGTERM)])
    assert heard == [3], "called once, when the step was saved"
    assert signal.getsignal(signal.SIGTERM) is own


def test_07_a_handler_that_returns_lets_the_run_go_on(tmp_path: Path) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(3, signal.SIGTERM)]))
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_07_a_second_signal_ends_at_once(name: str, tmp_path: Path) -> None:
    with raising(KeyboardInterrupt if name == "SIGINT" else SystemExit):
        fit(tmp_path / "run", callbacks=[SignalAt(3, signal.Signals[name], times=2)], save_every=1)
    assert newest_step(tmp_path / "run") == 2, "the step was not even finished"
    assert hidden(tmp_path / "run") == []
    assert_same(fit(tmp_path / "run", callbacks=[SignalAt(0)], save_every=1, resume=True))


def test_07_a_second_signal_ends_a_handler_that_returns_too(tmp_path: Path) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with raising(SystemExit):
        fit(tmp_path / "run", callbacks=[SignalAt(3, signal.SIGTERM, times=2)])


def test_07_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert_same(fit(tmp_path / "run", callbacks=[SignalAt(3)]))
    except KeyboardInterrupt:
        pytest.fail("it was caught")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_07_without_output_dir_nothing_is_caught() -> None:
    class Handlers(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) == before

    before = signal.getsignal(signal.SIGTERM)
    fit(callbacks=[Handlers()])


def test_07_outside_the_main_thread_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undisturbed()
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(fit(tmp_path / "run", progress=True)))
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    while thread.is_alive():
        assert signal.getsignal(signal.SIGTERM) == before
        time.sleep(0.01)
    thread.join()
    assert_same(done[0])
    assert "not in the main thread, so SIGTERM and SIGINT are not caught" in capsys.readouterr().out


def test_07_it_says_where_the_run_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(3)], progress=True)
    assert "SIGINT: step 3 is saved; fit(..., output_dir=" in capsys.readouterr().out


class Slow(Callback):
    """Tells when it has begun, and gives a signal time to come."""

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def on_step_end(self, training: Any, record: Any) -> None:
        self.begun.touch()
        time.sleep(0.02)


def test_07_sigterm_from_outside(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def terminate(process: int) -> None:
        while not begun.exists():
            time.sleep(0.005)
        time.sleep(0.05)
        os.kill(process, signal.SIGTERM)

    code = in_child(lambda: fit(tmp_path / "run", callbacks=[Slow(begun)]), then=terminate)
    assert code == 143
    assert 1 <= newest_step(tmp_path / "run") < STEPS
    assert_same(fit(tmp_path / "run", callbacks=[Slow(begun)], resume=True))


@functools.cache
def code_of_an_interrupted_script() -> int:
    """What Python makes of a KeyboardInterrupt that nobody catches, with torch alone.

    Minus the signal's number, but 1 where ``tabulate`` is installed: torch imports it at the very end, for a log, and
    that makes Python 3.11 forget why it is ending.
    """
    script = "import torch._dynamo\nraise KeyboardInterrupt"
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode


def script(folder: Path) -> list[str]:
    """A program that trains into a folder, slowly enough to be signalled."""
    run, begun = str(folder / "run"), str(folder / "begun")
    return [
        sys.executable,
        "-c",
        "import pathlib; from tests.trust.runs import fit; from tests.trust.test_signals import Slow\n"
        f"fit(pathlib.Path({run!r}), callbacks=[Slow(pathlib.Path({begun!r}))])",
    ]


def begun(folder: Path) -> subprocess.Popen[bytes]:
    """The program, in its first steps."""
    process = subprocess.Popen(script(folder), cwd=ROOT)  # inherits no ignored signals: see conftest
    while not (folder / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_07_a_script_ends_as_shells_expect(name: str, tmp_path: Path) -> None:
    process = begun(tmp_path)
    process.send_signal(signal.Signals[name])
    assert process.wait() == (143 if name == "SIGTERM" else code_of_an_interrupted_script())
    assert 1 <= newest_step(tmp_path / "run") < STEPS
    assert_same(fit(tmp_path / "run", callbacks=[Slow(tmp_path / "begun")], resume=True))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 0), ("SIGTERM", 143)])
def test_07_a_script_started_with_sigint_ignored_keeps_ignoring_it(name: str, code: int, tmp_path: Path) -> None:
    """As shells start what goes on in the background, so that Ctrl-C in the foreground does not reach it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a child inherits; `usual_handlers` puts it back
    process = begun(tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.Signals[name])
    assert process.wait() == code
    assert (newest_step(tmp_path / "run") == STEPS) == (name == "SIGINT")
