"""Figures: what each trust test counted, printed as one table when the tests are done."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

_NAME = "figure"  # of the property of a test's report, which also comes home from other processes

Figure = Callable[[str, object], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """``figure(what, value)``: note a count or a bound; the test's number is in its name."""
    number = next((part for part in request.node.name.replace("[", "_").split("_") if part.isdigit()), "")

    def note(what: str, value: object) -> None:
        request.node.user_properties.append((_NAME, [number, what, str(value)]))

    return note


@pytest.fixture(autouse=True, scope="session")
def handlers_at_the_start() -> Iterator[None]:
    """The same for fixtures that many tests share, which are made before those of a test."""
    yield from _usual_handlers()


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Signals as a program has them at its start: shells start jobs in the background with SIGINT ignored."""
    yield from _usual_handlers()


def _usual_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [item for report in reports for item in getattr(report, "user_properties", ())]
    figures = {(number, what): value for number, what, value in (made for name, made in properties if name == _NAME)}
    if figures:
        terminalreporter.section("trust: figures")
    for (number, what), value in sorted(figures.items()):
        terminalreporter.line(f"{number:>3}  {what}: {value}")
