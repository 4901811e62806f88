"""Several processes inside this one, in threads that take turns: what `torchrun` starts, without starting anything.

Each process calls the very code that real ones call, `sftlib.train.comm.Many`; only what carries numbers between them
is another. One of them runs at a time, from one exchange to the next, in the order of their numbers: so a run repeats
itself to the bit, and generators and settings that threads share can be given to each as its own.
"""

from __future__ import annotations

import contextvars
import functools
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, final

import numpy as np
import torch
import transformers
from torch import Tensor

from sftlib.errors import OptionError, ProcessError
from sftlib.support.checking import checked, raise_together, whole_number
from sftlib.train.channel import Channel
from sftlib.train.comm import Alone, Comm, Many, found_by

R = TypeVar("R")


@final
@dataclass(frozen=True)
class Exchange:
    """Something that all processes said to each other.

    Attributes:
        kind: ``"sum"``, or ``"gather"`` when each wants to know what each said.
        numbers: how many each process said.
        bytes: how many they take.
    """

    kind: str
    numbers: int
    bytes: int


@final
class FakeProcesses:
    """Several processes inside this one; each sees the others through `sftlib.train.comm.open_comm`.

    Args:
        size: how many; one is `sftlib.train.comm.Alone`, which exchanges nothing.

    Attributes:
        exchanges: all that were made since `run` was last called, in order. A callback may look at any time.
        errors: what ended each process, None where nothing did.

    Raises:
        OptionError: a size that cannot be.

    Example:
        >>> from sftlib.train.comm import open_comm
        >>> processes = FakeProcesses(3)
        >>> processes.run(lambda: (open_comm().rank, list(open_comm().exchange([open_comm().rank ** 2]))))
        [(0, [0, 1, 4]), (1, [0, 1, 4]), (2, [0, 1, 4])]
        >>> processes.sums, processes.gathers, open_comm()
        (2, 4, <sftlib.train.comm.Alone object at ...>)
    """

    @checked
    def __init__(self, size: int) -> None:
        raise_together([whole_number("size", size, at_least=1)])
        self.size = size
        self.exchanges: list[Exchange] = []
        self.errors: list[BaseException | None] = [None] * size
        self._turns: _Turns | None = None

    @property
    def sums(self) -> int:
        """Exchanges that added something up."""
        return sum(exchange.kind == "sum" for exchange in self.exchanges)

    @property
    def gathers(self) -> int:
        """Exchanges in which each heard what each said."""
        return sum(exchange.kind == "gather" for exchange in self.exchanges)

    @property
    def bytes(self) -> int:
        """What each process said, in all."""
        return sum(exchange.bytes for exchange in self.exchanges)

    def run(self, function: Callable[[], R]) -> list[R]:
        """Call a function in every process, as a script would be started in each.

        Process 0 is the calling thread, which alone hears signals. Objects that the function does not make itself are
        one and the same in all, as they never are in real processes: make models and tuners inside.

        Args:
            function: called without arguments.

        Returns:
            What each process returned, in the order of their numbers.

        Raises:
            OptionError: called by one of these processes.
            ProcessError: they did not make the same calls.
            Exception: whatever ended a process first; see `errors` for those of the others.
        """
        if self._turns is not None:
            raise OptionError("run() was called by one of the processes that it runs")
        self.exchanges, self.errors = [], [None] * self.size
        self._turns = turns = _Turns(self.size, self.exchanges)
        found: list[_Outcome[R]] = [_Outcome() for _ in range(self.size)]
        before = _taken()
        others = [
            threading.Thread(target=contextvars.copy_context().run, args=(_live, turns, rank, function, found[rank]))
            for rank in range(1, self.size)
        ]
        try:
            for thread in others:
                thread.start()
            _live(turns, 0, function, found[0])
            for thread in others:
                thread.join()
        finally:
            self._turns = None
            _put_back(before)
        self.errors = [outcome.error for outcome in found]
        _raise_first(self.errors)
        return [value for outcome in found for value in outcome.value]


@dataclass
class _Outcome(Generic[R]):
    """How a process ended: with one value, or an error."""

    value: list[R] = field(default_factory=list)
    error: BaseException | None = None


def _live(turns: _Turns, rank: int, function: Callable[[], R], outcome: _Outcome[R]) -> None:
    """All that one process does."""

    def opening() -> Comm:
        return Alone() if turns.size == 1 else Many(_Fake(turns, rank))

    try:
        turns.begin(rank)
        with found_by(opening):
            outcome.value.append(function())
    except BaseException as error:  # raised again in the calling thread
        outcome.error = error
    finally:
        turns.end(rank)


def _raise_first(errors: Sequence[BaseException | None]) -> None:
    """Raise the error that the others followed: one that is not about another process."""
    raised = [error for error in errors if error is not None]
    for error in [*(error for error in raised if not isinstance(error, ProcessError)), *raised]:
        raise error


@final
class _Fake(Channel):
    """Between the threads of `_Turns`."""

    def __init__(self, turns: _Turns, rank: int) -> None:
        self._turns = turns
        self.rank = rank
        self.size = turns.size

    def add(self, values: Tensor) -> None:
        values.copy_(functools.reduce(torch.add, self._turns.exchange(self.rank, "sum", values)))

    def gather(self, values: Tensor) -> list[Tensor]:
        return [part.clone() for part in self._turns.exchange(self.rank, "gather", values)]


@final
class _Turns:
    """Whose turn it is: a process runs until it says something, then the next, until it is its turn again.

    By then each of the others has said something too, or has ended.

    Args:
        size: of processes.
        log: where exchanges are written down.
    """

    def __init__(self, size: int, log: list[Exchange]) -> None:
        self.size = size
        self._log = log
        self._turn = [threading.Semaphore(0) for _ in range(size)]
        self._turn[0].release()
        self._living = set(range(size))
        self._own = [_taken() for _ in range(size)]
        self._rounds: dict[int, dict[int, tuple[str, Tensor]]] = {}
        self._heard: dict[int, int] = {}
        self._number = [0] * size
        self._interrupted: BaseException | None = None

    def begin(self, rank: int) -> None:
        """Wait for the first turn."""
        self._wait(rank)

    def end(self, rank: int) -> None:
        """There will be no more turns for this process."""
        self._living.discard(rank)
        self._pass_on(rank)

    def exchange(self, rank: int, kind: str, values: Tensor) -> list[Tensor]:
        """Say something, wait for the others, and hear what each said, in the order of their numbers.

        Raises:
            RuntimeError: another process has ended.
            ProcessError: another process says something that does not go with it.
        """
        number = self._number[rank]
        self._number[rank] += 1
        said = self._rounds.setdefault(number, {})
        said[rank] = kind, values.detach().clone()
        self._own[rank] = _taken()
        self._pass_on(rank)
        self._wait(rank)
        self._heard[number] = self._heard.get(number, 0) + 1
        if self._heard[number] == 1 and len(said) == self.size:
            self._log.append(Exchange(kind, values.numel(), values.numel() * values.element_size()))
        if self._heard[number] == len(said):
            del self._rounds[number], self._heard[number]
        _require_all(said, self.size, number)
        return [said[other][1] for other in range(self.size)]

    def _wait(self, rank: int) -> None:
        try:
            if self._interrupted is None:
                self._turn[rank].acquire()
        except BaseException as error:  # Ctrl-C: it reaches all processes
            self._interrupted = error
            for turn in self._turn:
                turn.release()
            raise
        if self._interrupted is not None:
            raise type(self._interrupted)
        _put_back(self._own[rank])

    def _pass_on(self, rank: int) -> None:
        following = [(rank + 1 + i) % self.size for i in range(self.size)]
        for other in following:
            if other in self._living:
                self._turn[other].release()
                return


def _require_all(said: dict[int, tuple[str, Tensor]], size: int, number: int) -> None:
    gone = [str(rank) for rank in range(size) if rank not in said]
    if gone:
        raise RuntimeError(f"process {' and '.join(gone)} ended before exchange {number + 1}")
    found = {rank: f"{kind} of {values.numel()} {values.dtype}" for rank, (kind, values) in sorted(said.items())}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"process {rank}: {what}" for rank, what in found.items())
        raise ProcessError(f"the processes do not make the same calls; exchange {number + 1} is to be {listed}")


# What real processes have for themselves, and threads share.
_SHARED: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_rng_state, torch.set_rng_state),
    (torch.get_num_threads, torch.set_num_threads),
    (np.random.get_state, np.random.set_state),
    (random.getstate, random.setstate),
    (lambda: warnings.filters, lambda filters: vars(warnings).update(filters=filters)),
    (transformers.utils.logging.get_verbosity, transformers.utils.logging.set_verbosity),
)


def _taken() -> list[Any]:
    """The state of all that is shared."""
    states = [take() for take, _ in _SHARED]
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [*states, torch.cuda.get_rng_state_all() if begun else []]


def _put_back(states: Sequence[Any]) -> None:
    *states, cuda = states
    for (_, put), state in zip(_SHARED, states, strict=True):
        put(state)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
