"""Work that is done ahead of time: while the model computes one batch, the next are made."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_AHEAD = 3  # values that are made or wait while one is used
_MOST_THREADS = 4


class Making(ABC, Generic[K, V]):
    """Makes a value for each key, in order.

    Args:
        make: a pure function of the key, safe in threads.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make

    @abstractmethod
    def __call__(self, keys: Sequence[K], then: Sequence[K] = ()) -> Iterator[V]:
        """The values of the keys.

        Args:
            keys: in the order in which their values are wanted.
            then: what is likely to be asked for next.
        """

    def forget(self) -> None:
        """Whatever was made ahead is not wanted any more."""
        return


@final
class WhenAsked(Making[K, V]):
    """Each value when it is asked for: right where making one takes no time to speak of.

    Example:
        >>> list(WhenAsked(str)([1, 2], then=[3]))
        ['1', '2']
    """

    def __call__(self, keys: Sequence[K], then: Sequence[K] = ()) -> Iterator[V]:
        return map(self._make, keys)


@final
class Ahead(Making[K, V]):
    """A few values ahead, in threads.

    Example:
        >>> list(Ahead(str)([1, 2], then=[3]))
        ['1', '2']
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__(make)
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="sftlib-feed")
        self._begun: dict[K, Future[V]] = {}

    def __call__(self, keys: Sequence[K], then: Sequence[K] = ()) -> Iterator[V]:
        wanted = [*keys, *then]
        for number, key in enumerate(keys):
            for other in wanted[number : number + _AHEAD]:
                if other not in self._begun:
                    self._begun[other] = self._threads.submit(self._make, other)
            yield self._begun.pop(key).result()

    def forget(self) -> None:
        for begun in self._begun.values():
            begun.cancel()
        self._begun = {}
