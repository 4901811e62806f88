"""Several processes that train one model: what they say to each other, over a `sftlib.train.channel.Channel`.

``torchrun --nproc-per-node 4 script.py`` starts the same program four times. Each process computes its share of the
rows of every effective batch; sums of losses, counts and gradients are added up over all; the loop divides, once, and
every process makes the same step. Evaluation and prediction are shared out and put together again, so that every
process has the whole result. The first process alone prints and writes.

One process is the null object `Alone`: it shares nothing out and adds nothing up.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.errors import OptionError, ProcessError
from sftlib.tasks.base import LossSum
from sftlib.train.callbacks import Callback
from sftlib.train.channel import Channel, Torchrun, launched, lost
from sftlib.train.state import Training
from sftlib.train.wire import dump, load

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=BaseException)

BUCKET = 2**23  # gradients that are added up together
ON_THE_WAY = 2  # of these, while the next is packed
_PIECES = 8  # passes whose predictions are handed over together
_SAID = 1000  # bytes of an error that the other processes hear of
_TOLD = "The other processes of this run were told, and ended too."
_UNTOLD = "The other processes of this run wait in the middle of a pass, and end when this one has ended."


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
    def add_up(self, sums: Sequence[LossSum], parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Loss and count summed over all micro-batches and processes, in double precision; gradients in place.

        The two numbers are scalars that need not be there yet: who reads them waits for the device.
        """

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
    def sum(self, value: float) -> float:
        """The sum of a number over all processes."""

    @abstractmethod
    def on_first(self, function: Callable[[], object]) -> None:
        """Call a function in the first process while the others wait; its error ends all."""

    @abstractmethod
    def ask(self, question: Callable[[], bool]) -> Callable[[], bool]:
        """Have all processes answer a question in every step, beside what they exchange anyway.

        Args:
            question: of this process; one for a run.

        Returns:
            A function that tells whether any said yes, when it was last asked.
        """

    @abstractmethod
    def watchers(self, saves: Callable[[int], bool]) -> Sequence[Callback]:
        """Callbacks that keep the processes together; they come after a user's own, and before whoever saves.

        Args:
            saves: whether the run is saved after a step, whatever happens in it.
        """

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

    def add_up(self, sums: Sequence[LossSum], parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return _total([part.total for part in sums]), _total([part.count for part in sums])

    def exchange(self, items: Iterable[T]) -> Iterator[T]:
        return iter(items)

    def any(self, flag: bool) -> bool:
        return flag

    def sum(self, value: float) -> float:
        return value

    def on_first(self, function: Callable[[], object]) -> None:
        function()

    def collect(self, values: Tensor) -> list[Tensor]:
        return [values.detach()]

    def ask(self, question: Callable[[], bool]) -> Callable[[], bool]:
        return question

    def watchers(self, saves: Callable[[int], bool]) -> Sequence[Callback]:
        return ()

    def require_alone(self, use: str) -> None:
        """There is nobody else."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nobody to tell."""


class Status(NamedTuple):
    """What all processes have said together, in one short exchange.

    Attributes:
        ill: how many cannot go on.
        flag: how many said yes to what was asked there.
        left: how many have ended the run after the step before, and say so while the others are at work already.
        answer: how many said yes to the question of every step.
        total: the summed loss.
        count: what it is a sum over.
    """

    ill: float = 0.0
    flag: float = 0.0
    left: float = 0.0
    answer: float = 0.0
    total: float = 0.0
    count: float = 0.0  # type: ignore[assignment]  # `tuple.count` is of no use here


class EndedElsewhere(Exception):  # noqa: N818 - no error
    """Another process has ended the run after the step before; what this one has computed since is not wanted."""


@final
class Many(Comm):
    """Several processes.

    Before anything is exchanged, all say whether they are well: so an error, wherever it happens, meets the others at
    their next exchange, and none waits for ever. In a step that is one exchange of a few numbers, `Status`, with all
    that is said in a step beside the gradients: the sums, whether a process was sent a signal, whether one has ended.

    Args:
        channel: carries what they exchange.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.rank, self.size = channel.rank, channel.size
        self._question: Callable[[], bool] = lambda: False
        self._answer = False

    def share(self, rows: NDArray[np.int64], costs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that this process computes: dealt out, the largest first, to who has the least so far."""
        ordered = rows[np.argsort(-costs[rows], kind="stable")]
        loads = [(0, rank) for rank in range(self.size)]
        own = []
        for place, cost in enumerate(costs[ordered].tolist()):
            load, rank = loads[0]
            heapq.heapreplace(loads, (load + max(cost, 1), rank))
            if rank == self.rank:
                own.append(place)
        return ordered[own]

    def add_up(self, sums: Sequence[LossSum], parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        total, count = (_total([part[i] for part in sums]) for i in range(2))
        said = self._agree(total=float(total), count=float(count), answer=self._question())
        self._answer = said.answer > 0
        on_the_way: deque[_Travelling] = deque()
        for bucket in _buckets(parameters):
            on_the_way.append(self._send(bucket))
            if len(on_the_way) > ON_THE_WAY:
                self._arrive(on_the_way.popleft())
        for travelling in on_the_way:
            self._arrive(travelling)
        return torch.tensor(said.total, dtype=torch.float64), torch.tensor(said.count, dtype=torch.float64)

    def _send(self, parameters: Sequence[Tensor]) -> _Travelling:
        """Begin to add up gradients; behind them is said which of them this process has."""
        has = parameters[0].new_tensor([parameter.grad is not None for parameter in parameters])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), has])
        with lost():
            return _Travelling(parameters, flat, self._channel.begin(flat))

    def _arrive(self, travelling: _Travelling) -> None:
        """Put sums in the place of gradients; a parameter that has none in any process keeps none."""
        parameters, flat, wait = travelling
        with lost():
            wait()
        *parts, has = torch.split(flat, [*(parameter.numel() for parameter in parameters), len(parameters)])
        lacking = any(parameter.grad is None for parameter in parameters)
        having = has.tolist() if lacking else [1.0] * len(parameters)
        for parameter, part, found in zip(parameters, parts, having, strict=True):
            if found:
                gradient = torch.empty_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = gradient.copy_(part.view(parameter.shape))

    def exchange(self, items: Iterable[T]) -> Iterator[T]:
        waiting = iter(items)
        while True:
            own = list(itertools.islice(waiting, _PIECES))
            found = [item for part in self._gather(dump(own)) for item in load(part)]
            if not found:
                return
            yield from found

    def any(self, flag: bool) -> bool:
        return self._agree(flag=flag).flag > 0

    def sum(self, value: float) -> float:
        return self._agree(total=value).total

    def ask(self, question: Callable[[], bool]) -> Callable[[], bool]:
        self._question = question
        return lambda: self._answer

    def leave(self) -> None:
        """Tell the others, who have begun the next step, that this process ended the run after the one before."""
        self._agree(left=True)

    def on_first(self, function: Callable[[], object]) -> None:
        self._agree()
        if self.rank == 0:
            function()
        self._agree()

    def watchers(self, saves: Callable[[int], bool]) -> Sequence[Callback]:
        return (_StopTogether(self, lambda step: self._answer or saves(step)),)

    def require_alone(self, use: str) -> None:
        raise OptionError(f"{use} takes one process, and this is one of {self.size}: call it without torchrun")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._agree()
        elif not isinstance(error, ProcessError) and {_TOLD, _UNTOLD}.isdisjoint(getattr(error, "__notes__", ())):
            error.add_note(_TOLD)
            self._agree(f"process {self.rank} of {self.size} ended with {type(error).__name__}: {error}")

    def _agree(self, failure: str | None = None, **own: float) -> Status:
        """Say whether this process is well, and what `Status` has room for; hear of the others.

        Raises:
            ProcessError: this one is well and another is not.
            EndedElsewhere: another one has ended the run.
        """
        said = torch.tensor(Status(ill=float(failure is not None))._replace(**own), dtype=torch.float64)
        self._reduce(said)
        status = Status(*said.tolist())
        if status.ill:
            told = [part.decode(errors="ignore") for part in self._carry((failure or "").encode()[:_SAID]) if part]
            if failure is None:
                raise ProcessError("; ".join(told))
        elif status.left and not own.get("left"):
            raise EndedElsewhere
        return status

    def _gather(self, own: bytes) -> list[bytes]:
        self._agree()
        return self._carry(own)

    def _carry(self, own: bytes) -> list[bytes]:
        """The bytes of every process, in the order of their numbers."""
        with lost():
            sizes = self._channel.gather(torch.tensor([len(own)]))
        longest = max(int(size) for size in sizes)
        if not longest:
            return [b""] * self.size
        padded = torch.frombuffer(bytearray(own.ljust(longest, b"\0")), dtype=torch.uint8)
        with lost():
            parts = self._channel.gather(padded)
        return [part.numpy().tobytes()[: int(size)] for part, size in zip(parts, sizes, strict=True)]

    def _reduce(self, values: Tensor) -> None:
        with lost():
            self._channel.add(values)


class _Travelling(NamedTuple):
    """Gradients on their way: of which parameters, what will be their sum, and how to wait for it."""

    parameters: Sequence[Tensor]
    flat: Tensor
    wait: Callable[[], object]


@final
class _StopTogether(Callback):
    """A run that one process ends early ends in all after the same step.

    At the end of an epoch, and where the run is saved, all tell each other. After any other step only a process that
    wants to end says so: the others hear it in the next step, which they leave out.

    Args:
        comm: the processes.
        saves: whether the run is saved after a step.
    """

    def __init__(self, comm: Many, saves: Callable[[int], bool]) -> None:
        self._comm = comm
        self._saves = saves

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        if training.ends_epoch:
            return
        if self._saves(training.step):
            self._settle(training)
        elif training.stop_reason is not None:
            self._comm.leave()

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        self._settle(training)

    def _settle(self, training: Training) -> None:
        """Hear of the reasons of all, and take the first."""
        if self._comm.any(training.stop_reason is not None):
            reasons = [reason for reason in self._comm.exchange([training.stop_reason]) if reason is not None]
            training.stop_reason = reasons[0]


def _launched() -> Comm:
    return Many(Torchrun()) if launched() else Alone()


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


def leave_untold(error: E) -> E:
    """Mark an error of which the others cannot be told, since they wait for something else."""
    if _UNTOLD not in getattr(error, "__notes__", ()):
        error.add_note(_UNTOLD)
    return error


def _total(parts: Sequence[Tensor]) -> Tensor:
    """The sum of scalars, added in double precision, where they lie."""
    if not parts:
        return torch.zeros((), dtype=torch.float64)
    found = torch.stack(list(parts))
    return (found.cpu() if found.device.type == "mps" else found).sum(dtype=torch.float64)  # Apple's have no float64


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one number format, some megabytes together."""
    for _, alike in itertools.groupby(parameters, key=lambda p: (p.dtype, p.device)):
        bucket: list[Tensor] = []
        for parameter in alike:
            bucket.append(parameter)
            if sum(p.numel() for p in bucket) >= BUCKET:
                yield bucket
                bucket = []
        if bucket:
            yield bucket
