"""Chat templates rendered in a process of their own: the same texts as transformers', batch by batch."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from sftlib.encoders.text.templates import TemplateRenderer
from sftlib.errors import DataError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}[{{ m.role }}]{{ m.content }}{% endif %}\n{% endfor %}"
)
TEMPLATES = {
    "every message in a frame": (
        "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "a default system message, turns, trimmed": (
        "{%- if messages[0].role == 'system' %}{%- set first = messages[0].content | trim %}"
        "{%- set messages = messages[1:] %}{%- else %}{%- set first = 'Be kind.' %}{%- endif %}\n"
        "  {{- bos_token + '<<' + first + '>>' }}\n"
        "{%- for m in messages %}\n    {%- if loop.first or m.role == 'user' %}{{ '\\n# ' + m.content.strip() }}\n"
        "    {%- else %}{{ ' ' + m.content | trim + eos_token }}{%- endif %}\n{%- endfor %}"
    ),
    "namespaces, macros, loop controls, tests, dictionaries": (
        "{% set ns = namespace(count=0, last=none) %}{% macro wrap(text, mark='*') %}{{ mark }}{{ text }}{{ mark }}"
        "{% endmacro %}{% for m in messages %}{% if m.content is string and m.content | length == 0 %}{% continue %}"
        "{% endif %}{% set ns.count = ns.count + 1 %}{% set ns.last = m.role %}{{ wrap(m.content, mark='_') }}"
        "{% if ns.count > 5 %}{% break %}{% endif %}{% endfor %}{{ ns.count }}{{ ns.last }}"
        "{{ dict(a=1).items() | list }}{{ dict.fromkeys(['x'], 2) }}{{ range(3) | join(',') }}{{ missing }}"
    ),
    "JSON": (
        "{{ messages | tojson }}{{ messages[0] | tojson(indent=2, sort_keys=true) }}{{ '<&>' | tojson }}"
        "{% if tools is not none %}{{ tools | tojson }}{% endif %}{{ {'a': [1, 2.5, none, true]} | tojson }}"
    ),
    "generation blocks": MARKED,
    "a generation block in a macro": (
        "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %};{% endmacro %}"
        "{% for m in messages %}{{ m.role }}:{{ say(m) }}{% endfor %}"
    ),
}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": " Short. "}, {"role": "user", "content": "Ünï\n<b>&"}],
    [
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": " 2 \n"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "😀 {{ messages }} {% generation %}"},
    ],
]


def by_transformers(template: str, conversations: Any, **options: Any) -> list[str]:
    return render_jinja_template(conversations, chat_template=template, **TOKENS, **options)[0]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [False, True])
def test_texts_are_those_of_transformers(name: str, prompt: bool) -> None:
    with TemplateRenderer(TEMPLATES[name], TOKENS) as renderer:
        found = renderer.render(CONVERSATIONS, add_generation_prompt=prompt)
    assert found == by_transformers(TEMPLATES[name], CONVERSATIONS, add_generation_prompt=prompt)


def test_other_variables_reach_the_template() -> None:
    tools = [{"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {}}}]
    template = TEMPLATES["JSON"] + "{{ thinking }}"
    with TemplateRenderer(template, TOKENS) as renderer:
        found = renderer.render(CONVERSATIONS, tools=tools, thinking=False)
    assert found == by_transformers(template, CONVERSATIONS, tools=tools, thinking=False)
    assert "add" in found[0]
    assert found[0].endswith("False")


def test_spans_are_those_of_transformers() -> None:
    texts, spans = render_jinja_template(
        CONVERSATIONS, chat_template=MARKED, return_assistant_tokens_mask=True, **TOKENS
    )
    with TemplateRenderer(MARKED, TOKENS) as renderer:
        found = list(renderer.stream(CONVERSATIONS, spans=True))
    assert [item.text for item in found] == texts
    assert [list(item.spans) for item in found] == spans


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text()), max_size=6))
def test_spans_hold_what_the_assistant_said(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": said} for role, said in turns]
    (found,) = _shared().stream([messages], spans=True)
    assert [found.text[start:end] for start, end in found.spans] == [
        said + "</s>" for role, said in turns if role == "assistant"
    ]


@pytest.fixture(scope="module", autouse=True)
def _end_the_shared_one() -> Any:
    yield
    _shared().close()


_RENDERER = TemplateRenderer(MARKED, TOKENS)


def _shared() -> TemplateRenderer:
    return _RENDERER


def test_spans_within_macros_are_right() -> None:
    """There transformers counts from the macro's own start."""
    with TemplateRenderer(TEMPLATES["a generation block in a macro"], TOKENS) as renderer:
        (found,) = renderer.stream([CONVERSATIONS[2]], spans=True)
    assert [found.text[start:end] for start, end in found.spans] == [
        m["content"] for m in CONVERSATIONS[2] if m["content"]
    ]


def test_many_conversations_keep_their_order() -> None:
    conversations = [[{"role": "user", "content": str(number)}] for number in range(333)]
    with TemplateRenderer("{{ messages[0].content }}") as renderer:
        assert renderer.render(iter(conversations)) == [str(number) for number in range(333)]
        assert renderer.render([]) == []


def test_all_conversations_that_fail_are_named_at_once() -> None:
    template = (
        "{% if messages[0].role != 'user' %}{{ raise_exception('begin with\n a user') }}{% endif %}"
        "{{ messages[0].content.strip() }}"
    )
    conversations: list[list[dict[str, Any]]] = [[{"role": "user", "content": "fine"}] for _ in range(200)]
    conversations[3] = [{"role": "assistant", "content": "Hello"}]
    conversations[150] = [{"role": "user"}]
    conversations[151] = []
    seen = []
    with TemplateRenderer(template) as renderer:
        with pytest.raises(DataError) as caught:
            seen += renderer.stream(conversations)
        assert renderer.render(conversations[:1]) == ["fine"]
    assert len(seen) == 197
    lines = str(caught.value).splitlines()
    assert lines[1] == "row 3: begin with a user"
    assert lines[2].startswith("row 150: UndefinedError")
    assert lines[3].startswith("row 151: UndefinedError")
    assert len(lines) == 4


def test_values_that_are_not_plain_are_refused() -> None:
    with TemplateRenderer("{{ messages }}") as renderer, pytest.raises(DataError, match="plain values.*set"):
        renderer.render([[{"role": "user", "content": {1, 2}}]])  # type: ignore[list-item]


def test_the_time_is_one_for_all_rows() -> None:
    with TemplateRenderer("{{ strftime_now('%d %b %Y %H:%M') }}", now=datetime(2026, 3, 4, 5, 6)) as renderer:
        assert renderer.render(CONVERSATIONS) == ["04 Mar 2026 05:06"] * 3


def test_one_process_serves_many_calls_and_nothing_else_starts_one() -> None:
    renderer = TemplateRenderer("{{ messages[0].content }}")
    assert renderer._process is None  # making one renders nothing
    with renderer:
        renderer.render(CONVERSATIONS)
        first = renderer._process
        renderer.render(CONVERSATIONS)
        assert renderer._process is first
        assert first is not None
    assert first._process.returncode is not None
    with renderer:  # and again
        assert renderer.render(CONVERSATIONS[:1]) == ["Hello"]


def test_the_process_imports_neither_torch_nor_the_package() -> None:
    code = (
        "import runpy, sys; sys.path += sys.argv[1:]; runpy.run_path(sys.argv[1]); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    from sftlib.encoders.text import templates

    places = templates._places("jinja2", "markupsafe")
    command = [sys.executable, "-I", "-S", "-B", "-c", code, str(templates._CHILD), *places]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "jinja2" in loaded
    assert not {"torch", "transformers", "numpy", "sftlib", "socket", "asyncio"} & set(loaded)
