"""What stands beside a conversation: the tools that the assistant may call, and what else its template is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from sftlib.data.kinds.base import is_missing, kind_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list, json_cell, plain_json, without_nothing
from sftlib.data.problems import brief

_TOOLS = (
    'write a list of schemas, such as [{"type": "function", "function": {"name": "add", "parameters": {...}}}], or its '
    "JSON; tools=None says that the column is something else"
)
_OPTIONS = (
    'write a mapping such as {"enable_thinking": False}, or its JSON; chat_template_kwargs=None says that the column '
    "is something else"
)
_OURS = ("messages", "tools", "add_generation_prompt", "tokenize")


@final
class ToolsRole(RowKind):
    """The tools of a conversation: a list of JSON schemas, or its JSON; None where there are none.

    Example:
        >>> ToolsRole().normalise(['[{"name": "add"}]', None])
        [[{'name': 'add'}], None]
        >>> ToolsRole().fault("add").what
        'a str instead of a list of tools'
    """

    beside = True

    def fault(self, value: object) -> Fault | None:
        if is_missing(value) or value == "":
            return None
        tools = _listed(value)
        if tools is None or not all(isinstance(tool, Mapping) for tool in tools):
            return Fault(f"{kind_of(value)} instead of a list of tools", value, _TOOLS)
        return _json_fault(tools, "tools that hold", "tools are JSON schemas, not functions")

    def plain(self, value: object) -> list[Any] | None:
        return None if is_missing(value) or value == "" else [plain_json(tool) for tool in _listed(value) or ()]

    def unfilled(self, values: Sequence[object]) -> Sequence[object]:
        """Without what Arrow puts in the place of keys that a schema lacks."""
        return [without_nothing(value) for value in values]


@final
class TemplateOptionsRole(RowKind):
    """What a chat template is told of a conversation beside it: a mapping of names, or its JSON; None for nothing.

    Example:
        >>> TemplateOptionsRole().normalise([{"enable_thinking": False}])
        [{'enable_thinking': False}]
    """

    beside = True

    def fault(self, value: object) -> Fault | None:
        if is_missing(value) or value == "":
            return None
        options = json_cell(value)
        if not isinstance(options, Mapping):
            return Fault(f"{kind_of(value)} instead of a mapping", value, _OPTIONS)
        ours = [name for name in options if name in _OURS]
        if ours:
            return Fault("a name that is not the template's to be told", ours[0], "give tools as a column of their own")
        return _json_fault(options, "a mapping that holds", _OPTIONS)

    def plain(self, value: object) -> dict[str, Any] | None:
        return None if is_missing(value) or value == "" else plain_json(json_cell(value))

    def unfilled(self, values: Sequence[object]) -> Sequence[object]:
        """Without what Arrow puts in the place of names that a row lacks."""
        return [without_nothing(value) for value in values]


def _listed(value: object) -> list[Any] | None:
    """The tools of whatever they are written as; each may be JSON itself."""
    tools = as_list(json_cell(value))
    return None if tools is None else [json_cell(tool) for tool in tools]


def _json_fault(value: object, what: str, mend: str) -> Fault | None:
    try:
        plain_json(value)
    except (ValueError, RecursionError) as error:
        return Fault(f"{what} more than JSON knows", None, mend, brief(str(error)))
    return None
