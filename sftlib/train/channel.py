"""What carries numbers between the processes of a run, and the only import of `torch.distributed`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from sftlib.errors import ProcessError


class Channel(ABC):
    """What carries numbers between the processes of a run, as one of them holds it.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    @abstractmethod
    def add(self, values: Tensor) -> None:
        """Replace the values by their sum over all processes.

        Raises:
            RuntimeError: a process is gone.
        """

    def begin(self, values: Tensor) -> Callable[[], object]:
        """As `add`, which need not be done before what is returned was called."""
        self.add(values)
        return lambda: None

    @abstractmethod
    def gather(self, values: Tensor) -> list[Tensor]:
        """The values of all processes, as many in each, in the order of their numbers.

        Raises:
            RuntimeError: a process is gone.
        """


@final
class Torchrun(Channel):
    """Between the processes that ``torchrun`` started: gloo carries what lies in memory, NCCL what lies on a GPU."""

    def __init__(self) -> None:
        if not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # "cuda" means this one from now on
            dist.init_process_group()
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def add(self, values: Tensor) -> None:
        dist.all_reduce(values)

    def begin(self, values: Tensor) -> Callable[[], object]:
        work: Any = dist.all_reduce(values, async_op=True)
        wait: Callable[[], object] = work.wait
        return wait

    def gather(self, values: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return parts


class lost:  # noqa: N801 - a context, named as it reads
    """Turn what the library raises when a process is gone into an error that says so."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, ProcessError):
            raise ProcessError(f"another process of this run is gone: {error!s:.300}") from error


def launched() -> bool:
    """Whether ``torchrun`` started this process among others."""
    found = dist.is_available() and dist.is_torchelastic_launched()
    return found and int(os.environ.get("WORLD_SIZE", "1")) > 1
