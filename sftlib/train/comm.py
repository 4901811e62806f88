"""Several processes that train one model: what they say to each other, and the only import of `torch.distributed`.

``torchrun --nproc-per-node 4 script.py`` starts the same program four times. Each process computes its share of the
rows of every effective batch; sums of losses, counts and gradients are added up over all; the loop divides, once, and
every process makes the same step. Evaluation and prediction are shared out and put together again, so that every
process has the whole result. The first process alone prints and writes.

One process is the null object `Alone`: it shares nothing out and adds nothing up.
"""

from __future__ import annotations

import functools
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, final

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from sftlib.errors import OptionError, ProcessError
from sftlib.tasks.base import LossSum
from sftlib.train.callbacks import Callback
from sftlib.train.state import Training
from sftlib.train.wire import dump, load

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

_ILL = 2.0**20  # what a process says that is not well; more than all together say otherwise
_BUCKET = 2**23  # gradients that are added up together
_SAID = 1000  # bytes of an error that the other processes hear of
_TOLD = "The other processes of this run were told, and ended too."


class Comm(ABC):
    """The processes of a run, as one of them sees them; a context in which an error of one ends all.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @abstractmethod
    def share(self, rows: NDArray[np.int64], costs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that this process computes: each row is one process's, of like cost in all.

        Args:
            rows: (B,) row numbers, the same in all processes.
            costs: (N,) of every row of the data set.
        """

    @abstractmethod
    def add_up(self, sums: Sequence[LossSum], parameters: Sequence[Tensor]) -> tuple[float, float]:
        """Loss and count summed over all micro-batches and processes, in double precision; gradients in place."""

    @abstractmethod
    def exchange(self, items: Iterable[T]) -> Iterator[T]:
        """The items of all processes, in an order that is the same in all."""

    def collect(self, values: Tensor) -> list[Tensor]:
        """The values of all processes, in the order of their numbers, on the device of this one's own."""
        own = values.detach().cpu().numpy()
        return [torch.from_numpy(part).to(values.device) for part in self.exchange([own])]

    @abstractmethod
    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""

    @abstractmethod
    def on_first(self, function: Callable[[], object]) -> None:
        """Call a function in the first process while the others wait; its error ends all."""

    @abstractmethod
    def watchers(self) -> Sequence[Callback]:
        """Callbacks that keep the processes together; they come after a user's own."""

    @abstractmethod
    def require_alone(self, use: str) -> None:
        """Refuse what cannot be shared out.

        Raises:
            OptionError: there are several processes.
        """

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all, and tell or hear of an error."""


@final
class Alone(Comm):
    """One process.

    Example:
        >>> Alone().share(np.array([3, 1]), np.array([1, 1, 1, 9])).tolist(), list(Alone().exchange("ab"))
        ([3, 1], ['a', 'b'])
    """

    def share(self, rows: NDArray[np.int64], costs: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows

    def add_up(self, sums: Sequence[LossSum], parameters: Sequence[Tensor]) -> tuple[float, float]:
        return _total([part.total for part in sums]), _total([part.count for part in sums])

    def exchange(self, items: Iterable[T]) -> Iterator[T]:
        return iter(items)

    def any(self, flag: bool) -> bool:
        return flag

    def on_first(self, function: Callable[[], object]) -> None:
        function()

    def watchers(self) -> Sequence[Callback]:
        return ()

    def require_alone(self, use: str) -> None:
        """There is nobody else."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nobody to tell."""


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

    def gather(self, values: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return parts


@final
class Many(Comm):
    """Several processes.

    Before anything is exchanged, all say whether they are well: so an error, wherever it happens, meets the others at
    their next exchange, and none waits for ever.

    Args:
        channel: carries what they exchange.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.rank, self.size = channel.rank, channel.size

    def share(self, rows: NDArray[np.int64], costs: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[np.argsort(-costs[rows], kind="stable")][self.rank :: self.size]

    def add_up(self, sums: Sequence[LossSum], parameters: Sequence[Tensor]) -> tuple[float, float]:
        own = [_total([part.total for part in sums]), _total([part.count for part in sums])]
        has = [parameter.grad is not None for parameter in parameters]
        values = torch.tensor([*own, *has], dtype=torch.float64)
        self._agree(None)
        self._reduce(values)
        for bucket in _buckets([p for p, having in zip(parameters, values[2:].tolist(), strict=True) if having]):
            self._add_gradients(bucket)
        return float(values[0]), float(values[1])

    def _add_gradients(self, parameters: Sequence[Tensor]) -> None:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for parameter, gradient, part in zip(parameters, gradients, parts, strict=True):
            parameter.grad = gradient.copy_(part.view(gradient.shape))

    def exchange(self, items: Iterable[T]) -> Iterator[T]:
        waiting = iter(items)
        while True:
            own = [list(itertools.islice(waiting, 1))]
            found = [item for part in self._gather(dump(own)) for one in load(part) for item in one]
            if not found:
                return
            yield from found

    def any(self, flag: bool) -> bool:
        return self._agree(None, flag)

    def on_first(self, function: Callable[[], object]) -> None:
        self._agree(None)
        if self.rank == 0:
            function()
        self._agree(None)

    def watchers(self) -> Sequence[Callback]:
        return (_StopTogether(self),)

    def require_alone(self, use: str) -> None:
        raise OptionError(f"{use} takes one process, and this is one of {self.size}: call it without torchrun")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._agree(None)
        elif not isinstance(error, ProcessError) and _TOLD not in getattr(error, "__notes__", ()):
            error.add_note(_TOLD)
            self._agree(f"process {self.rank} of {self.size} ended with {type(error).__name__}: {error}")

    def _agree(self, failure: str | None, flag: bool = False) -> bool:
        """Say whether this process is well, and hear of the others; in the same number, whether a flag is set in any.

        Raises:
            ProcessError: this one is well and another is not.
        """
        said_by_all = torch.tensor([float(flag) if failure is None else _ILL])
        self._reduce(said_by_all)
        if said_by_all < _ILL:
            return bool(said_by_all)
        said = [part.decode(errors="ignore") for part in self._carry((failure or "").encode()[:_SAID]) if part]
        if failure is None:
            raise ProcessError("; ".join(said))
        return flag

    def _gather(self, own: bytes) -> list[bytes]:
        self._agree(None)
        return self._carry(own)

    def _carry(self, own: bytes) -> list[bytes]:
        """The bytes of every process, in the order of their numbers."""
        with _lost():
            sizes = self._channel.gather(torch.tensor([len(own)]))
        longest = max(int(size) for size in sizes)
        if not longest:
            return [b""] * self.size
        padded = torch.frombuffer(bytearray(own.ljust(longest, b"\0")), dtype=torch.uint8)
        with _lost():
            parts = self._channel.gather(padded)
        return [part.numpy().tobytes()[: int(size)] for part, size in zip(parts, sizes, strict=True)]

    def _reduce(self, values: Tensor) -> None:
        with _lost():
            self._channel.add(values)


@final
class _StopTogether(Callback):
    """A run that one process ends early ends in all after the same step."""

    def __init__(self, comm: Comm) -> None:
        self._comm = comm

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        if not self._comm.any(training.stop_reason is not None):
            return  # as after nearly every step: reasons are long, and one number is short
        reasons = [reason for reason in self._comm.exchange([training.stop_reason]) if reason is not None]
        training.stop_reason = reasons[0] if reasons else None

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        self.on_step_end(training, {})


class _lost:  # noqa: N801 - a context, named as it reads
    """Turn what the library raises when a process is gone into an error that says so."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, ProcessError):
            raise ProcessError(f"another process of this run is gone: {error!s:.300}") from error


def _launched() -> Comm:
    launched = dist.is_available() and dist.is_torchelastic_launched()
    return Many(Torchrun()) if launched and int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()


_OPENING: ContextVar[Callable[[], Comm]] = ContextVar("how the processes of a run are found", default=_launched)


def open_comm() -> Comm:
    """The processes of this run: those that ``torchrun`` started, or this one alone; or what `found_by` says."""
    return _OPENING.get()()


@contextmanager
def found_by(opening: Callable[[], Comm]) -> Iterator[None]:
    """Within this context, and in no other thread, the processes of a run are found by a function.

    Args:
        opening: returns them, as `open_comm` does.

    Example:
        >>> alone = Alone()
        >>> with found_by(lambda: alone):
        ...     open_comm() is alone
        True
    """
    before = _OPENING.set(opening)
    try:
        yield
    finally:
        _OPENING.reset(before)


def together(function: Callable[P, R]) -> Callable[P, R]:
    """Let an error that a call meets in one process end it in all."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with open_comm():
            return function(*args, **kwargs)

    return wrapper


def _total(parts: Sequence[Tensor]) -> float:
    """The sum of scalars, added in double precision; where the loop waits for the device."""
    return float(torch.stack(list(parts)).sum(dtype=torch.float64)) if parts else 0.0


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one number format, some megabytes together."""
    for _, alike in itertools.groupby(parameters, key=lambda p: (p.dtype, p.device)):
        bucket: list[Tensor] = []
        for parameter in alike:
            bucket.append(parameter)
            if sum(p.numel() for p in bucket) >= _BUCKET:
                yield bucket
                bucket = []
        if bucket:
            yield bucket
