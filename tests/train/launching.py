"""Processes of a run: started by ``torchrun``, or by a fork of this one, which has imported everything already."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def start(
    count: int, *arguments: str, module: str = "tests.train.shards", restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """Start processes by torchrun, and wait for their end.

    Args:
        count: how many.
        arguments: of the program.
        module: the program.
        restarts: how often all are started again when one of them has failed.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    # Otherwise addresses of the start before are found in the store, and sometimes called (pytorch#135712).
    anew = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if restarts else {}
    return subprocess.run(
        [*command, "--max-restarts", str(restarts), "-m", module, *arguments],
        env={**os.environ, **anew, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


class Forked:
    """Several processes that find each other as those do that ``torchrun`` started, but start in milliseconds.

    This process must not have found others itself, nor have made a product in more than one thread.

    Args:
        size: how many.
        work: what each does, told its rank; it leaves at once afterwards, without any cleaning up.
        logs: a folder for what each of them prints.
    """

    def __init__(self, size: int, work: Callable[[int], object], logs: Path) -> None:
        self.logs = [logs / f"{rank}-of-{size}.txt" for rank in range(size)]
        environment = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "TORCHELASTIC_RUN_ID": "forked",
            "WORLD_SIZE": str(size),
        }
        self._numbers = [self._fork(rank, work, environment) for rank in range(size)]
        self._codes: dict[int, int] = {}

    def _fork(self, rank: int, work: Callable[[int], object], environment: dict[str, str]) -> int:
        number = os.fork()
        if number:
            return number
        code = 70
        try:
            log = os.open(self.logs[rank], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
            work(rank)
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    @property
    def running(self) -> bool:
        """Whether none of them has ended."""
        self._note()
        return not self._codes

    def kill(self, ranks: Iterable[int]) -> None:
        """SIGKILL to those that still live."""
        for rank in ranks:
            if rank not in self._codes:
                os.kill(self._numbers[rank], signal.SIGKILL)

    def ended(self, seconds: float = 120.0) -> list[int]:
        """Wait until all have ended: their exit codes; minus the number of a signal that killed one.

        Raises:
            TimeoutError: some have not; they are killed.
        """
        until = time.monotonic() + seconds
        while len(self._codes) < len(self._numbers) and time.monotonic() < until:
            time.sleep(0.005)
            self._note()
        late = [rank for rank in range(len(self._numbers)) if rank not in self._codes]
        self.kill(late)
        if late:
            raise TimeoutError(f"processes {late} have not ended in {seconds:g} s")
        return [self._codes[rank] for rank in range(len(self._numbers))]

    def said(self) -> str:
        """All that they printed."""
        return "\n".join(log.read_text() for log in self.logs if log.is_file())

    def _note(self) -> None:
        for rank, number in enumerate(self._numbers):
            if rank not in self._codes:
                found, status = os.waitpid(number, os.WNOHANG)
                if found:
                    self._codes[rank] = os.waitstatus_to_exitcode(status)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
