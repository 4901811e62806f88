"""SIGTERM and SIGINT while a run is saved: finish the step, save it, then end as the caller expects."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, final

_CAUGHT = (signal.SIGINT, signal.SIGTERM)
_EXIT_CODE = 128 + signal.SIGTERM


@final
class Signals:
    """Within this context the first signal is only noted; whoever runs the steps asks `received` and calls `deliver`.

    A second signal before that ends at once. When the context ends, the handlers from before are back. Handlers can
    only be installed in the main thread; elsewhere, and for signals that are ignored, nothing is changed.

    Attributes:
        received: the signal that waits, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @staticmethod
    def can_be_caught() -> bool:
        """Whether handlers can be installed from here."""
        return threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self.can_be_caught():
            for number in _CAUGHT:
                before = signal.getsignal(number)
                if before in (signal.SIG_IGN, None):  # ignored on purpose, or owned by code that is not Python
                    continue
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self.received is not None:  # it came after the last step
            self.deliver()

    def deliver(self) -> None:
        """Do what the signal that waits would have done.

        What an own handler for SIGTERM does is its affair: when it returns, so does this, and the run goes on.

        Raises:
            KeyboardInterrupt: for SIGINT.
            SystemExit: for SIGTERM, with code 143, when there was no handler for it.
        """
        number, self.received = self.received, None
        if number is not None:
            self._end(number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._end(signal.Signals(number), frame)
            raise SystemExit(_EXIT_CODE)  # an own handler returned, but twice is twice
        self.received = signal.Signals(number)

    def _end(self, number: signal.Signals, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        before: Callable[[int, FrameType | None], Any] | int = self._before.get(number, signal.SIG_DFL)
        if not callable(before):
            raise SystemExit(_EXIT_CODE)
        before(number, frame)


__all__ = ["Signals"]
