"""Figures: what each trust test counted, printed as one table when the tests are done."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator

import pytest

_NUMBER = re.compile(r"trust/.*\btest_(\d\d)_")
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
    """One line for each number that was tried: how many tests passed, their seconds, and their figures."""
    every = [report for found in terminalreporter.stats.values() for report in found]
    reports = [report for report in every if isinstance(report, pytest.TestReport)]
    numbered = [(found[1], report) for report in reports if (found := _NUMBER.search(report.nodeid))]
    properties = [item for report in reports for item in report.user_properties]
    figures = {(number, what): value for number, what, value in (made for name, made in properties if name == _NAME)}
    if not figures:
        return
    terminalreporter.section("trust: figures")
    for number in sorted({number for number, _ in numbered}):
        own = [report for other, report in numbered if other == number]
        ended = [report for report in own if report.when == "call" or report.failed]
        passed = sum(report.passed for report in ended)
        seconds = sum(report.duration for report in own)
        terminalreporter.line(f"{number:>3}  {passed} of {len(ended)} tests passed, {seconds:.0f} s")
        for (other, what), value in sorted(figures.items()):
            if other == number:
                terminalreporter.line(f"       {what}: {value}")
