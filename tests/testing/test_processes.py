"""Fake processes: a fit in one, two and four is the same, every exchange is counted, and nothing is left behind."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.errors import OptionError, ProcessError
from sftlib.run.identity import digest_of_weights
from sftlib.testing import SENTENCES, Exchange, FakeProcesses, tiny_model, tiny_tokenizer
from sftlib.train.comm import Alone, Many, found_by, open_comm

BOUND = 1e-6
MOST = 2  # exchanges of a step: one of a few numbers, and one of gradients
OPTIONS = {"batch_size": 6, "micro_batch_size": 2, "max_steps": 6, "learning_rate": 1e-3, "seed": 3}


def rows() -> TaskDataset:
    return TaskDataset([{"text": text, "label": ("good", "bad")[i % 2]} for i, text in enumerate(SENTENCES)])


class Counting(Callback):
    """How many exchanges there were at the end of each step."""

    def __init__(self, processes: FakeProcesses) -> None:
        self._processes = processes
        self.counts: list[int] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.counts.append(len(self._processes.exchanges))

    def per_step(self) -> list[int]:
        """Of every step that was followed by another of the same epoch: an evaluation exchanges more."""
        found = np.diff(self.counts).tolist()
        return [count for step, count in enumerate(found, 2) if step % 3 != 1]  # 16 rows are 3 steps


def tuner(**options: Any) -> FineTuner:
    return FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), **{**OPTIONS, **options})


def everything(processes: FakeProcesses, output_dir: Path | None = None) -> dict[str, Any]:
    """What one process sees of a fit with dropout, shuffling and validation, and of the tuned model."""
    counting, fitted = Counting(processes), tuner()
    fitted.fit(rows(), rows(), progress=False, callbacks=[counting], output_dir=output_dir)
    return {
        "losses": [record["loss"] for record in fitted.history.steps],
        "weights": digest_of_weights(fitted.model),
        "valid": [record["valid_loss"] for record in fitted.history if "valid_loss" in record],
        "predictions": [(one.label, one.probability) for one in fitted.predict(list(SENTENCES))],
        "metrics": dict(fitted.evaluate(rows())),
        "per_step": counting.per_step(),
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return everything(FakeProcesses(1))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_fit_is_the_same_in_any_number(alone: dict[str, Any], size: int) -> None:
    processes = FakeProcesses(size)
    found = processes.run(lambda: everything(processes))
    assert len(found) == size
    assert all(one == found[0] for one in found), "the processes saw different things"
    assert found[0]["losses"] == pytest.approx(alone["losses"], abs=BOUND, rel=BOUND)
    assert found[0]["valid"] == pytest.approx(alone["valid"], abs=BOUND, rel=BOUND)
    assert found[0]["metrics"] == pytest.approx(alone["metrics"], abs=BOUND, rel=BOUND)
    for (label, probability), (expected, near) in zip(found[0]["predictions"], alone["predictions"], strict=True):
        assert label == expected
        assert probability == pytest.approx(near, abs=BOUND)
    steps = set(found[0]["per_step"])
    sys.stdout.write(f"{size} processes: {steps} exchanges a step, {processes.bytes} bytes in all\n")
    assert len(steps) == 1
    assert max(steps) <= (MOST if size > 1 else 0)
    assert processes.sums + processes.gathers == len(processes.exchanges)


def test_it_repeats_itself_to_the_bit() -> None:
    processes = FakeProcesses(3)
    first, logged = processes.run(lambda: everything(processes)), list(processes.exchanges)
    torch.rand(7)
    assert processes.run(lambda: everything(processes)) == first
    assert processes.exchanges == logged


def test_a_run_on_disk_exchanges_a_little_more_and_goes_on_in_another_number(tmp_path: Path) -> None:
    processes = FakeProcesses(2)
    found = processes.run(lambda: everything(processes, tmp_path / "whole"))
    steps = set(found[0]["per_step"])
    sys.stdout.write(f"2 processes with output_dir: {steps} exchanges a step\n")
    assert max(steps) <= MOST

    def begin() -> None:
        tuner().fit(rows(), rows(), progress=False, output_dir=tmp_path / "cut", save_every=1, callbacks=[Fail(4)])

    def go_on() -> list[float]:
        fitted = tuner()
        fitted.fit(
            rows(), rows(), progress=False, output_dir=tmp_path / "cut", resume=True, save_every=1, callbacks=[Fail(99)]
        )
        return [record["loss"] for record in fitted.history.steps]

    with pytest.raises(ValueError, match="enough"):
        processes.run(begin)
    assert FakeProcesses(4).run(go_on)[3] == pytest.approx(found[0]["losses"], abs=BOUND, rel=BOUND)


class Fail(Callback):
    """The last process ends with an error after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        if training.step == self._step and open_comm().rank == open_comm().size - 1:
            raise ValueError("enough")


def test_an_error_of_one_ends_all() -> None:
    processes = FakeProcesses(3)
    with pytest.raises(ValueError, match="enough"):
        processes.run(lambda: tuner().fit(rows(), progress=False, callbacks=[Fail(2)]))
    assert [type(error) for error in processes.errors] == [ProcessError, ProcessError, ValueError]
    assert str(processes.errors[0]) == "process 2 of 3 ended with ValueError: enough"
    assert isinstance(open_comm(), Alone)
    assert processes.run(lambda: open_comm().any(open_comm().rank == 1)) == [True] * 3
    assert processes.errors == [None] * 3


def test_calls_that_do_not_go_together_are_told() -> None:
    processes = FakeProcesses(2)

    def apart() -> None:
        comm = open_comm()
        if comm.rank == 0:
            comm.any(False)
            comm.any(False)
        else:
            list(comm.exchange(["a long word"]))
            list(comm.exchange(["a long word"]))

    with pytest.raises(ProcessError, match="do not make the same calls; exchange 2 is to be process 0: sum of 6"):
        processes.run(apart)
    with pytest.raises(ProcessError, match="process 1 ended before exchange 1"):
        processes.run(lambda: open_comm().rank == 0 and open_comm().any(True))
    with pytest.raises(ProcessError, match="process 0 and 1 ended before exchange 1"):
        FakeProcesses(3).run(lambda: open_comm().rank == 2 and open_comm().any(True))


def test_exchanges_are_counted() -> None:
    processes = FakeProcesses(2)
    assert processes.run(lambda: open_comm().any(False)) == [False, False]
    assert processes.exchanges == [Exchange("sum", 6, 48)]  # are all well, and is it so?
    assert (processes.sums, processes.gathers, processes.bytes) == (1, 0, 48)
    assert FakeProcesses(1).run(lambda: isinstance(open_comm(), Alone)) == [True]
    assert FakeProcesses(2).run(lambda: isinstance(open_comm(), Many)) == [True, True]


def drawn() -> list[float]:
    """From every generator that threads share, and with an exchange between any two draws."""
    found: list[float] = []
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    for _ in range(3):
        found += [torch.rand(()).item(), np.random.random(), random.random()]
        open_comm().any(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(open_comm().rank)
            open_comm().any(False)
            torch.rand(3)
    return found


def test_each_has_its_own_generators() -> None:
    expected = drawn()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert FakeProcesses(3).run(drawn) == [expected] * 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_each_has_its_own_warnings_and_notices() -> None:
    from sftlib.models.opening import quiet

    def silent() -> int:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            open_comm().any(False)
            if open_comm().rank == 1:  # leaves later than the others
                open_comm().any(False)
        if open_comm().rank != 1:
            open_comm().any(False)
        return len(warnings.filters)

    from transformers.utils import logging

    before = warnings.filters, logging.get_verbosity()
    assert FakeProcesses(3).run(silent) == [len(before[0])] * 3
    assert (warnings.filters, logging.get_verbosity()) == before


def test_ctrl_c_reaches_all() -> None:
    ended = []

    def work() -> None:
        try:
            if open_comm().rank == 1:  # while process 0 waits for its turn
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                until = time.monotonic() + 20
                while not ended and time.monotonic() < until:  # it hears the signal when the machine lets it
                    time.sleep(0.01)
            open_comm().any(False)
        finally:
            ended.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        FakeProcesses(2).run(work)
    assert len(ended) == 2
    assert [thread for thread in ended if thread.is_alive()] == [threading.main_thread()]


def test_what_is_refused() -> None:
    with pytest.raises(OptionError, match="size=0"):
        FakeProcesses(0)
    processes = FakeProcesses(2)
    with pytest.raises(OptionError, match="one of the processes"):
        processes.run(lambda: processes.run(lambda: None))


def test_processes_are_found_by_a_function_in_this_context_alone() -> None:
    own, seen = Alone(), []
    with found_by(lambda: own):
        assert open_comm() is own
        thread = threading.Thread(target=lambda: seen.append(open_comm() is own))
        thread.start()
        thread.join()
    assert seen == [False]
    assert open_comm() is not own
