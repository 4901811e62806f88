"""Work in a fork of this process that notes whatever it touches: files, sockets, programs, pickles, memory, time."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from tests.trust.runs import in_child

ROOT = Path(__file__).parent.parent.parent
_LIBRARIES = tuple(
    os.path.realpath(place)
    for place in {
        *sysconfig.get_paths().values(),
        os.path.dirname(os.path.dirname(transformers.__file__)),
        sys.base_prefix,
        str(ROOT),
        "/proc",
        "/sys",
        "/dev/null",
        "/dev/urandom",
        "/usr/lib",
        "/usr/share",
        "/etc/ld.so.cache",
    }
)
_STARTS_SOMETHING = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn")
_CHANGES_FILES = ("os.mkdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.rmdir", "os.chmod", "os.truncate")
_SECONDS = 120  # by the clock on the wall: only that a child which hangs ends
_ROOM = 4 * 2**30  # bytes beyond what the process has already: the machine survives a failure


@dataclass(frozen=True)
class Watched:
    """What a piece of work did.

    Attributes:
        outcome: name of the type of error it ended in, ``"done"``, or how the process ended.
        said: the error's message.
        events: everything it did beyond computing and reading libraries and its own folder.
        seconds: it took.
        memory: bytes that its peak lies above where it began.
    """

    outcome: str
    said: str
    events: list[str]
    seconds: float
    memory: int


def watched(work: Callable[[], object], *, inside: Path, report: Path) -> Watched:
    """Do some work in a child that may read ``inside`` and libraries, and nothing else.

    Args:
        work: to do.
        inside: the folder it is about.
        report: a file for what was seen, outside of that folder.
    """
    code = in_child(lambda: _report(work, inside, report))
    if code != 0 or not report.is_file():
        return Watched(f"exit code {code}", "", [], _SECONDS, 0)
    found: dict[str, Any] = json.loads(report.read_text())
    report.unlink()
    return Watched(**found)


def _report(work: Callable[[], object], inside: Path, report: Path) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, used + _ROOM))
    _forget_peak()
    events: list[str] = []
    on = [True]
    sys.addaudithook(lambda event, args: _note(event, args, inside, events) if on[0] else None)
    before, start = _peak(), time.process_time()  # of this process: other work on the machine decides nothing
    outcome, said = "done", ""
    try:
        work()
    except BaseException as error:
        outcome, said = type(error).__name__, str(error)
    on[0] = False
    seconds, memory = time.process_time() - start, _peak() - before
    report.write_text(json.dumps(Watched(outcome, said, events, seconds, memory).__dict__))


def _peak() -> int:
    """The most bytes that this process ever held since `_forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _forget_peak() -> None:
    """A fork inherits the peak of its parent, which may lie far above what it holds itself."""
    Path("/proc/self/clear_refs").write_text("5")


def _note(event: str, args: tuple[Any, ...], inside: Path, events: list[str]) -> None:
    """Called for each event that Python announces; must not raise."""
    if event == "open" and isinstance(args[0], str | bytes):
        path, own = os.path.abspath(os.fsdecode(args[0])), str(inside)
        reads = isinstance(args[2], int) and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        may = path.startswith(own + os.sep) or os.path.realpath(path).startswith(_LIBRARIES) or path == own
        if not (reads and may) and not path.startswith("/proc/self") and "__pycache__" not in path:
            events.append(f"{'reads' if reads else 'writes'} {path}")
    elif event in ("exec", "compile") and str(inside) in repr(args):
        events.append(f"{event} {args!r:.200}")
    elif event == "import" and str(inside) in repr(args[1]):
        events.append(f"imports {args!r:.200}")
    elif event.startswith(("socket.", "pickle.", "marshal.load", "urllib.")) or event in _STARTS_SOMETHING:
        if not (event.startswith("marshal") or event == "socket.gethostname"):
            events.append(f"{event} {args!r:.200}")
    elif event in _CHANGES_FILES:
        paths = [os.readlink(f"/proc/self/fd/{x}") if isinstance(x, int) and not i else x for i, x in enumerate(args)]
        events.append(f"{event} {' '.join(map(str, paths)):.400}")
