"""Chat templates, rendered where they can do no harm: in one process of their own, with nothing but plain data.

A template comes with a tokenizer, from anybody. It is never rendered while a model is loaded. When conversations are
rendered, `sftlib.encoders.text.template_child` does it, without files, network or other processes, within limits of
time and memory; it is started once for a whole data set and once more after it had to be ended.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, final

from sftlib.errors import ArtifactError, DataError

_CHILD = Path(__file__).with_name("template_child.py")
_ROWS = 64  # of one request; what is rendered is answered row by row
_SHOWN = 5
_START_SECONDS = 30  # for a machine that is busy; usually 0.1


class Rendered(NamedTuple):
    """One conversation as text.

    Attributes:
        text: what the model reads.
        spans: (start, end) in characters of each ``{% generation %}`` block that is not empty, in order; empty unless
            asked for.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


@final
@dataclass(frozen=True)
class Limits:
    """What a template may use.

    Attributes:
        seconds: of work for 64 conversations, and of waiting for it.
        memory: bytes of its process, the interpreter included.
        characters: of the text of one conversation.
    """

    seconds: int = 10
    memory: int = 2**29
    characters: int = 2**20


@final
class TemplateRenderer:
    """Renders conversations with a chat template, in a process of its own; use it in a ``with`` statement.

    Templates see ``messages``, ``add_generation_prompt``, the special tokens and whatever else is given, and have the
    filters and functions that transformers gives them: ``tojson``, ``raise_exception``, ``strftime_now``, ``break`` and
    ``continue`` in loops, ``{% generation %}``.

    Args:
        template: its source.
        special_tokens: name -> text, such as ``bos_token``.
        now: what ``strftime_now`` tells; the time at which this object is made when None. One moment for all rows, and
            to be given when a later run must see the same texts.
        limits: of time, memory and length.

    Example:
        >>> template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
        >>> with TemplateRenderer(template, {"eos_token": "</s>"}) as renderer:
        ...     renderer.render([[{"role": "user", "content": "Hello"}]])
        ['<user>Hello</s>']
    """

    def __init__(
        self,
        template: str,
        special_tokens: Mapping[str, str] | None = None,
        *,
        now: datetime | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self._settings = {
            "template": template,
            "special_tokens": dict(special_tokens or {}),
            "now": (now or datetime.now()).isoformat(),
            **limits.__dict__,
        }
        self._limits = limits
        self._process: _Child | None = None

    def render(
        self,
        conversations: Iterable[Sequence[Mapping[str, Any]]],
        *,
        add_generation_prompt: bool = False,
        each: Iterable[Mapping[str, Any]] | None = None,
        **more: Any,
    ) -> list[str]:
        """The text of each conversation, in order; see `stream`."""
        found = self.stream(conversations, add_generation_prompt=add_generation_prompt, each=each, **more)
        return [item.text for item in found]

    def stream(
        self,
        conversations: Iterable[Sequence[Mapping[str, Any]]],
        *,
        add_generation_prompt: bool = False,
        spans: bool = False,
        each: Iterable[Mapping[str, Any]] | None = None,
        **more: Any,
    ) -> Iterator[Rendered]:
        """Render any number of conversations, some at a time.

        Args:
            conversations: lists of messages, each a mapping of plain values.
            add_generation_prompt: end with what an answer of the assistant begins with, if the template can.
            spans: also tell where the generation blocks are.
            each: further variables of each conversation, in order; none when None.
            **more: other variables for the template, such as ``tools``; the same for all conversations.

        Yields:
            One result per conversation, in order, but for those that are reported in the error.

        Raises:
            DataError: conversations that the template refuses or cannot render, all of them, after the last one.
            ArtifactError: the template breaks a limit, tries to leave the sandbox, or is none.
        """
        variables = {"add_generation_prompt": add_generation_prompt, "tools": None, "documents": None, **more}
        problems: list[tuple[int, str]] = []
        waiting, first = iter(conversations), 0
        own = itertools.repeat({}) if each is None else iter(each)
        while chunk := list(itertools.islice(waiting, _ROWS)):
            beside = [dict(given) for given in itertools.islice(own, len(chunk))]
            request = _as_json({"conversations": chunk, "each": beside, "variables": variables, "spans": spans})
            rows = range(first, first + len(chunk))
            first = rows.stop
            for row, answer in zip(rows, self._ask(request, rows), strict=True):
                if "text" in answer:
                    yield Rendered(answer["text"], tuple((start, end) for start, end in answer["spans"]))
                else:
                    problems.append((row, answer["said"]))
        _raise(problems)

    def close(self) -> None:
        """End the process; it starts again when something is rendered."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: bytes, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Send a request to the process, started if need be; whatever goes wrong ends it."""
        try:
            if self._process is None:
                self._process = _Child(self._limits)
                _believe(self._process.ask(_as_json(self._settings), ["the start"], _START_SECONDS))
            places = [f"row {row}" for row in rows]
            return _believe(self._process.ask(request, places, self._limits.seconds))
        except BaseException:
            self.close()
            raise


@final
class _Child:
    """The other process.

    Args:
        limits: that its answers are held to.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._longest = 12 * limits.characters + 2**16  # bytes of an answer: JSON writes a character in 12 at most
        kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_CHILD), *_places("jinja2", "markupsafe")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept,
            cwd=os.path.abspath(os.sep),
        )

    def ask(self, request: bytes, places: Sequence[str], seconds: float) -> list[dict[str, Any]]:
        """Send one line and return those that come back, one for each place.

        Raises:
            ArtifactError: they do not come in time, or at all.
        """
        late = threading.Event()
        watchdog = threading.Timer(seconds, self._kill, [late])
        watchdog.daemon = True
        watchdog.start()
        try:
            self._send(request)
            return [self._receive(place, late, seconds) for place in places]
        finally:
            watchdog.cancel()

    def _kill(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _send(self, request: bytes) -> None:
        try:
            _pipe(self._process.stdin).write(request + b"\n")
            _pipe(self._process.stdin).flush()
        except BrokenPipeError:
            pass  # it has ended: reading its answer says how

    def _receive(self, place: str, late: threading.Event, seconds: float) -> dict[str, Any]:
        line = _pipe(self._process.stdout).readline(self._longest)
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        ended = f"used {self._limits.memory:,} bytes or {self._limits.seconds} seconds of work"
        why = f"took longer than {seconds} seconds" if late.is_set() else ended
        raise ArtifactError(f"the chat template was ended: it {why} at {place}; give another, or larger limits")

    def end(self) -> None:
        """Kill it and wait for it."""
        self._process.kill()
        self._process.communicate()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "opened with the process"
    return stream


def _places(*packages: str) -> list[str]:
    """The folders that hold these packages, found without importing them."""
    found = [importlib.util.find_spec(name) for name in packages]
    return list(dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in found if spec and spec.origin))


def _as_json(message: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"conversations are lists of messages of plain values: {error}") from error


def _believe(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for answer in answers:
        if answer.get("kind") == "template":
            raise ArtifactError(f"the chat template was ended: {answer['said']}; give another template")
    return answers


def _raise(problems: Sequence[tuple[int, str]]) -> None:
    if problems:
        shown = [f"row {row}: {said}" for row, said in problems[:_SHOWN]]
        more = [f"and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
        raise DataError("\n".join(["the chat template cannot render every conversation", *shown, *more]))
