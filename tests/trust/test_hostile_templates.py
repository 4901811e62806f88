"""24: chat templates that escape, loop or flood; and what is left to one that leaves the sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sftlib.encoders.text import templates
from sftlib.encoders.text.templates import Limits, TemplateRenderer
from sftlib.errors import ArtifactError, DataError
from tests.trust.conftest import Figure

MESSAGES = [{"role": "user", "content": "Hello"}]
ESCAPES = {
    "class of a literal": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class by attr": "{{ messages|attr('__class__') }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "globals of a method": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "lipsum": "{{ lipsum.__globals__['os'].system('id') }}",
    "self": "{{ self._TemplateReference__context.environment }}",
    "a macro's function": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "format by map": "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "format by attr": "{{ ('{0.__class__}'|attr('format'))(1) }}",
    "map of attributes": "{{ [raise_exception]|map(attribute='__globals__')|list }}",
    "a generator's frame": "{{ (messages|map('upper')).gi_frame.f_back }}",
    "changes the data": "{{ messages.append(1) }}{{ messages|length }}",
    "changes a namespace": "{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n }}",
    "makes a namespace": "{{ namespace(__init__=1) }}",
    "another file": "{% include '/etc/passwd' %}",
    "imports": "{% import 'os' as os %}{{ os.system('id') }}",
    "extends": "{% extends 'x' %}",
    "type": "{{ dict.mro() }}",
    "time's class": "{{ strftime_now.__self__ }}",
}
FLOODS = {
    "a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long range": "{{ range(10**12)|list }}",
    "one huge text": "{{ 'a' * 10**10 }}",
    "many pieces": "{% for a in range(99999) %}{{ 'a' * 10000 }}{% endfor %}",
    "a huge number": "{{ 10 ** (10 ** 10) }}",
    "a huge list": "{{ [0] * 10**10 }}",
    "a padded number": "{{ '%1000000000d' % 1 }}",
    "a text grown while looping": (
        "{% set n = namespace(t='a') %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}{{ n.t }}"
    ),
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "deep brackets": "{{ " + "(" * 10000 + ")" * 10000 + " }}",
    "a slow filter": "{{ ('a' * 10**6 + '!')|urlize|wordwrap(1)|center(10**9) }}",
    "powers while compiling": "{{ 9 ** (9 ** 9) % 7 }}",
}


def refused(template: str) -> str:
    """How a template ends, and what is said of it; nothing it wrote may come back."""
    start = time.monotonic()
    with TemplateRenderer(template, limits=Limits(seconds=2)) as renderer:
        try:
            return "rendered " + renderer.render([MESSAGES])[0]
        except (ArtifactError, DataError) as error:
            return type(error).__name__
        finally:
            assert time.monotonic() - start < 20  # far beyond the limit of 2: only that it ends


@pytest.mark.parametrize("name", ESCAPES)
def test_24_templates_that_escape(name: str, figure: Figure) -> None:
    found = refused(ESCAPES[name])
    # What the sandbox hides is undefined, and undefined is empty text in a template.
    assert found in ("ArtifactError", "DataError", "rendered 1", "rendered ", "rendered [Undefined]")
    figure("chat templates that escape", len(ESCAPES))


@pytest.mark.parametrize("name", FLOODS)
def test_24_templates_that_loop_or_flood(name: str, figure: Figure) -> None:
    assert refused(FLOODS[name]) in ("ArtifactError", "DataError")
    figure("chat templates that loop or flood", len(FLOODS))


def test_24_after_a_loop_the_next_call_is_served() -> None:
    """One process is ended and another takes its place; the row at which it was ended is named."""
    loop = FLOODS["a loop"]
    template = "{% if messages[0].content == 'loop' %}" + loop + "{% endif %}{{ messages[0].content }}"
    conversations = [[{"role": "user", "content": word}] for word in ("a", "b", "loop", "d")]
    with TemplateRenderer(template, limits=Limits(seconds=1)) as renderer:
        with pytest.raises(ArtifactError, match="at row 2; "):
            renderer.render(conversations)
        assert renderer.render(conversations[:2]) == ["a", "b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits that this system does not have")
def test_24_nothing_can_be_done_outside_of_the_sandbox(tmp_path: Path) -> None:
    """The second wall: the same process, told to do what a template would do that left the sandbox."""
    (tmp_path / "secret").write_text("secret")
    attempts = {
        "reads a file": f"open({str(tmp_path / 'secret')!r}).read()",
        "writes a file": f"open({str(tmp_path / 'made')!r}, 'w')",
        "opens a socket": "__import__('_socket').socket()",
        "starts a program": "__import__('_posixsubprocess') and __import__('os').execv('/bin/echo', ['echo', 'ran'])",
        "takes memory": "bytearray(2**30)",
    }
    for what, code in attempts.items():
        program = (
            "import os, sys, runpy; sys.path += sys.argv[2:]; "
            "confine = runpy.run_path(sys.argv[1])['confine']; confine(2**29)\n"
            f"try:\n    {code}\nexcept (OSError, MemoryError) as error:\n    os.write(1, b'could not')\n"
        )
        places = templates._places("jinja2", "markupsafe")
        command = [sys.executable, "-I", "-S", "-B", "-c", program, str(templates._CHILD), *places]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert "ran" not in ended.stdout, what
        assert ended.stdout == "could not" or ended.returncode != 0, (what, ended)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs a system that tells the limits of a process")
def test_24_the_process_that_renders_has_given_everything_up() -> None:
    """And not only the function that does so: the limits of the very process, while it serves."""
    limits = Limits()
    with TemplateRenderer("{{ messages[0].content }}", limits=limits) as renderer:
        assert renderer.render([MESSAGES]) == ["Hello"]
        assert renderer._process is not None
        lines = Path(f"/proc/{renderer._process._process.pid}/limits").read_text().splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    expected = {"Max address space": limits.memory, "Max open files": 3, "Max processes": 0, "Max file size": 0}
    for name, bound in expected.items():
        assert found[name] == [str(bound)] * 2, name
    assert int(found["Max cpu time"][0]) <= limits.seconds + 2


def test_24_functions_that_templates_do_not_need_are_not_there() -> None:
    names = ("lipsum", "cycler", "joiner", "namespace", "dict", "range", "config", "request", "url_for", "open")
    template = "".join(f"{{% if {name} is defined %}}{name} {{% endif %}}" for name in names)
    with TemplateRenderer(template) as renderer:
        assert renderer.render([MESSAGES])[0].split() == ["cycler", "joiner", "namespace", "dict", "range"]
