"""The program that renders chat templates: run by `sftlib.encoders.text.templates` by itself, never imported.

A template is a program that somebody else wrote. Here it sees plain data, in jinja2's sandbox with fewer globals than
usual; should it ever leave the sandbox, it is in a process that cannot open a file or a socket, cannot start another,
and has little memory and time. Limits are the system's own, where there are some.

Lines of JSON come in and go out. The first line in holds the settings; every other is a request::

    {
        "conversations": [[{"role": ..., "content": ...}, ...], ...],
        "each": [{...}, ...],
        "variables": {...},
        "spans": false,
    }

Each conversation is answered by one line: ``{"text", "spans"}``, or ``{"kind": "row" | "template", "said"}``.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, final

sys.path += sys.argv[1:]  # where jinja2 is; this process runs without `site`, whose files may run anything

import jinja2
from jinja2 import ext, nodes, utils
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_FIRST_SAFE = (3, 1, 6)  # older sandboxes have known ways out
# What Python and jinja2 import at the first use, when no file can be opened any more.
_WARM_UP = "{{ '\\n' | upper }}{{ messages | pprint }}{{ strftime_now('%B') }}{{ messages.role.none }}"
_NO_MORE_FILES = 3  # stdin, stdout and stderr are open; nothing else can be


@final
class RefusedError(Exception):
    """The template asks for more than it may have; nothing else is rendered with it."""


@final
class RaisedError(jinja2.TemplateError):
    """The template itself finds fault with a conversation, by ``raise_exception(...)``."""


@final
class Generation(ext.Extension):
    """``{% generation %} ... {% endgeneration %}``: what the assistant says, between marks when there are some."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2
    opening = closing = ""

    def parse(self, parser: Parser) -> nodes.Node:
        """Wrap the statements up to the end in a call of `mark`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Any) -> str:
        """The text inside, between the marks."""
        return f"{self.opening}{caller()}{self.closing}"


@final
class Namespace(utils.Namespace):
    """``namespace(...)`` without names that Python itself gives a meaning."""

    def __init__(self, /, *args: Any, **values: Any) -> None:
        given = dict(*args, **values)
        for name in given:
            _check_name(name)
        super().__init__(given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


@final
class Maker:
    """``dict(...)`` and ``dict.fromkeys(...)``, and no more of the type."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        """A value for each key."""
        return dict.fromkeys(keys, value)


@final
class Program:
    """A compiled template.

    Args:
        source: of the template.
        special_tokens: their names and texts, such as ``bos_token``.
        now: what ``strftime_now`` tells, in ISO format.
        characters: of one conversation's text, at most.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str], now: str, characters: int) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
        )
        kept = {name: environment.globals[name] for name in ("range", "cycler", "joiner")}
        environment.globals = {
            **kept,
            "dict": Maker(),
            "namespace": Namespace,
            "raise_exception": raise_exception,
            "strftime_now": datetime.fromisoformat(now).strftime,
        }
        environment.filters["tojson"] = tojson
        extension = environment.extensions[Generation.identifier]
        assert isinstance(extension, Generation)
        self._generation = extension
        self._special_tokens = dict(special_tokens)
        self._characters = characters
        self._template = environment.from_string(source)

    def render(self, messages: Any, variables: Mapping[str, Any]) -> str:
        """The text of one conversation.

        Raises:
            RefusedError: it grows beyond the limit.
        """
        pieces, length = [], 0
        for piece in self._template.generate({**self._special_tokens, **variables, "messages": messages}):
            pieces.append(piece)
            length += len(piece)
            if length > self._characters:
                raise RefusedError(f"it writes more than {self._characters:,} characters for one conversation")
        return "".join(pieces)

    def render_spans(self, messages: Any, variables: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
        """The text of one conversation, and where in it the generation blocks are.

        Rendered twice, without marks and with them: marks nobody can guess, so that no message can hold one, and only
        believed where the text around them is the same.

        Raises:
            RefusedError: it grows beyond the limit, or works on what a generation block wrote.
        """
        text = self.render(messages, variables)
        word = secrets.token_hex(8)
        self._generation.opening, self._generation.closing = f"\ue000{word}", f"\ue001{word}"
        try:
            marked = self.render(messages, variables)
        finally:
            self._generation.opening = self._generation.closing = ""
        bare, spans = _take_marks(marked, word)
        if bare != text:
            raise RefusedError("it works on the text of a generation block afterwards, so that the place is not known")
        return text, spans


def _take_marks(marked: str, word: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and the outermost pairs of them."""
    pieces = re.split(f"([\ue000\ue001]){word}", marked)
    text, length, depth, start = [pieces[0]], len(pieces[0]), 0, 0
    spans = []
    for mark, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if mark == "\ue000":
            start = length if depth == 0 else start
            depth += 1
        else:
            depth -= 1
            if depth == 0 and length > start:
                spans.append((start, length))
        text.append(piece)
        length += len(piece)
    return "".join(text), spans


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise RefusedError(f"it sets {name!r:.80} on a namespace")


def raise_exception(message: object) -> None:
    """Let a template find fault with a conversation."""
    raise RaisedError(str(message))


def tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as it is, where jinja2's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def warm_up() -> None:
    """Render something harmless that ends in an error."""
    with contextlib.suppress(jinja2.UndefinedError):
        Program(_WARM_UP, {}, "2000-01-01", 100).render([{"role": "user", "content": "\n"}], {})


def confine(memory: int) -> None:
    """Give up files, sockets, other processes and more memory than this many bytes; no more than the system knows."""
    try:
        import resource
    except ImportError:  # Windows has no such limits: there the sandbox and the reader's clock are all there is
        return
    wanted = {"RLIMIT_AS": memory, "RLIMIT_NOFILE": _NO_MORE_FILES, "RLIMIT_NPROC": 0, "RLIMIT_FSIZE": 0}
    for name, bound in {**wanted, "RLIMIT_CORE": 0}.items():
        try:
            resource.setrlimit(getattr(resource, name), (bound, bound))
        except (AttributeError, ValueError, OSError) as error:  # macOS knows the name of one that it does not keep
            print(f"no limit {name}: {error}", file=sys.stderr)  # noqa: T201 - what this process may still say


def allow_seconds(seconds: int) -> None:
    """Let the system end this process after so many more seconds of work."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def answer(program: Program, messages: Any, variables: Mapping[str, Any], *, spans: bool) -> dict[str, Any]:
    """What became of one conversation."""
    try:
        if spans:
            text, found = program.render_spans(messages, variables)
            return {"text": text, "spans": found}
        return {"text": program.render(messages, variables), "spans": []}
    except (RefusedError, jinja2.exceptions.SecurityError, MemoryError, OverflowError, RecursionError) as error:
        return {"kind": "template", "said": said(error)}
    except Exception as error:  # whatever a template does with a conversation that it does not expect
        return {"kind": "row", "said": said(error)}


def said(error: BaseException) -> str:
    """An error for a message: what a template says, cut short; what Python says, with its kind."""
    text = " ".join(str(error).split())[:200]
    return (
        text
        if isinstance(error, RaisedError | RefusedError) and text
        else f"{type(error).__name__}: {text}".removesuffix(": ")
    )


def reply(message: Mapping[str, Any]) -> None:
    """Write one line."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Read the settings, give up what is not needed, compile, and answer until nobody asks."""
    settings = json.loads(sys.stdin.buffer.readline())
    warm_up()
    confine(settings["memory"])
    allow_seconds(settings["seconds"])
    if tuple(int(part) for part in re.findall(r"\d+", jinja2.__version__)[:3]) < _FIRST_SAFE:
        reply({"kind": "template", "said": f"jinja2 {jinja2.__version__} has known ways out: pip install -U jinja2"})
        return
    try:
        program = Program(settings["template"], settings["special_tokens"], settings["now"], settings["characters"])
    except Exception as error:  # what is no template can fail in any way
        reply({"kind": "template", "said": said(error)})
        return
    reply({})
    for line in sys.stdin.buffer:
        allow_seconds(settings["seconds"])
        request = json.loads(line)
        for messages, own in zip(request["conversations"], request["each"], strict=True):
            reply(answer(program, messages, {**request["variables"], **own}, spans=request["spans"]))


if __name__ == "__main__":
    main()
