"""A piece of a probe in a process of its own: what it returns comes back, whatever happens to the process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Ended:
    """How a child ended.

    Attributes:
        code: exit code; minus the number of a signal that killed it.
        error: type of the exception it ended in, or nothing.
        message: of the exception.
        said: all that was printed.
        notes: what the work noted.
    """

    code: int = 0
    error: str = ""
    message: str = ""
    said: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


def in_child(
    work: Callable[[dict[str, Any]], object], *, then: Callable[[int], object] = lambda process: None, seconds: int = 60
) -> Ended:
    """Run ``work(notes)`` in a fork; ``notes`` holds JSON values and comes back.

    Args:
        work: done by the child.
        then: done by the parent meanwhile, with the child's number.
        seconds: after which the child is ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # the child may become nobody
        report = Path(folder) / "report"
        process = os.fork()
        if process == 0:
            _child(work, report, seconds)
        then(process)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if not report.is_file():
            return Ended(code, error="" if code == 0 else f"ended with {code}")
        return Ended(code, **json.loads(report.read_text()))


def _child(work: Callable[[dict[str, Any]], object], report: Path, seconds: int) -> None:
    notes: dict[str, Any] = {}
    error, message, code = "", "", 0
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(seconds)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            work(notes)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
        error = type(ending).__name__
    except BaseException as raised:
        error, message, code = type(raised).__name__, str(raised)[:300], 1
    signal.alarm(0)
    report.write_text(json.dumps({"error": error, "message": message, "said": said.getvalue(), "notes": notes}))
    os._exit(code)
