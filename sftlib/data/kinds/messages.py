"""Conversations: who says what, in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from sftlib.data.kinds.base import DROP_OR_FILL, encodable, is_missing, kind_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list, json_cell, plain_json, without_nothing
from sftlib.data.problems import brief, listed
from sftlib.support.checking import nearest

ROLES = ("system", "user", "assistant", "tool")

#: What other layouts call the roles.
_ALIASES = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}

#: Roles of turns that hold calls of tools and nothing else, as JSON.
_CALLING = ("function_call", "tool_call")

#: Keys of a turn that say how much it counts.
WEIGHTS = ("weight", "train", "training", "loss")

_TEXT_PARTS = ("text", "input_text", "output_text")
_SAID = ("role", "content", "from", "value", "tool_calls", "function_call")

#: Whose turn may follow whose.
_FOLLOWS: Mapping[str | None, tuple[str, ...]] = {
    None: ("system", "user"),
    "system": ("system", "user"),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}

_ORDER = "system may come first, then user and assistant take turns; tool answers the assistant"
_LIST = (
    'write a list of turns, such as [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]'
)
_CALLS = 'write [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]'


@final
class MessagesRole(RowKind):
    r"""A conversation in every row: a list of turns ``{"role": ..., "content": ...}``.

    Roles are system, user, assistant and tool; developer is system, function is tool, and ShareGPT's ``{"from": ...,
    "value": ...}`` with human, gpt, observation and function_call is read too. Content is a text, or a list of parts
    that are texts, which are put end to end. Calls of tools stand in ``tool_calls``, in ``function_call``, or in turns
    of their own; their arguments are a mapping or its JSON. What else a turn has is kept. A ``weight`` from 0 to 1 (or
    ``train``, ``training`` or ``loss``) of a turn of the assistant says how much its tokens count in the loss; with 0
    it is read and not learned. A row in which the assistant
    speaks supervises itself; one in which it does not yet can be predicted on.

    Example:
        >>> MessagesRole().normalise([[{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]])
        [[{'role': 'user', 'content': 'Hi.'}, {'role': 'assistant', 'content': 'Hello.'}]]
        >>> MessagesRole().fault([{"role": "assistant", "content": "Hello."}]).note
        'turn 0: assistant at the beginning'
    """

    measure = "turns"
    may_lack_target = True
    holds_texts = True

    def texts(self, value: object) -> Sequence[str]:
        """What others than the assistant say."""
        return [turn["content"] for turn in value if turn["role"] != "assistant"]  # type: ignore[attr-defined]

    def learned_texts(self, value: object) -> Sequence[str]:
        """What the assistant says and is to learn."""
        said = (turn for turn in value if turn["role"] == "assistant")  # type: ignore[attr-defined]
        return [turn["content"] for turn in said if weight_of(turn) != 0]

    def fault(self, value: object) -> Fault | None:
        if is_missing(value):
            return Fault("a missing value", None, DROP_OR_FILL)
        turns = as_list(value)
        if turns is None:
            return Fault(f"{kind_of(value)} instead of a list of turns", value, _LIST)
        before, calling = None, False
        for number, turn in enumerate(turns):
            fault = _turn_fault(number, turn)
            if fault is None and not (calling and _is_calling(turn)):
                fault = _order_fault(number, before, _role(turn))
            if fault is not None:
                return fault
            before, calling = _role(turn), _is_calling(turn)
        if before in (None, "system"):
            return Fault("a conversation in which nobody speaks", value, "add a turn of the user, or drop these rows")
        return None

    def plain(self, value: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        calling = False
        for turn in as_list(value) or ():
            plain = _plain_turn(turn)
            if calling and _is_calling(turn):  # calls in turns of their own, one after the other, are made at once
                found[-1]["tool_calls"] += plain["tool_calls"]
            else:
                found.append(plain)
            calling = _is_calling(turn)
        return found

    def unfilled(self, values: Sequence[object]) -> Sequence[object]:
        """Without what Arrow puts in the place of keys that a mapping inside of a turn lacks."""
        return [_unfilled(value) for value in values]

    def has_target(self, value: object) -> bool:
        """Whether the assistant says something that is to be learned."""
        return any(turn["role"] == "assistant" and weight_of(turn) != 0 for turn in value)  # type: ignore[attr-defined]

    def input_of(self, value: object) -> object:
        """The turns before the last one, when that is the assistant's."""
        turns: Sequence[Any] = value  # type: ignore[assignment]
        return turns[:-1] if turns[-1]["role"] == "assistant" else turns


def weight_of(turn: Mapping[str, Any]) -> float | None:
    """How much a turn says that it counts, from 0 to 1; the least where it says so twice, None where it says nothing.

    Example:
        >>> weight_of({"role": "assistant", "weight": 0.5}), weight_of({"role": "assistant"})
        (0.5, None)
    """
    return min((float(turn[key]) for key in WEIGHTS if key in turn), default=None)


def counts_in_part(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a turn of the assistant counts neither wholly nor not at all."""
    return any(turn["role"] == "assistant" and weight_of(turn) not in (None, 0.0, 1.0) for turn in turns)


def _unfilled(value: object) -> object:
    turns = as_list(value)
    if turns is None:
        return value
    return [
        {key: without_nothing(item) for key, item in turn.items()} if isinstance(turn, Mapping) else turn
        for turn in turns
    ]


def _role(turn: Mapping[str, Any]) -> str:
    """The role of a turn, by the name it has here."""
    given: str = turn.get("role", turn.get("from"))
    return _ALIASES.get(given, given)


def _filled(value: Any) -> bool:
    return not is_missing(value) and not (hasattr(value, "__len__") and len(value) == 0)


def _content(turn: Mapping[str, Any]) -> Any:
    return turn.get("content" if "role" in turn else "value")


def _turn_fault(number: int, turn: object) -> Fault | None:
    """What is wrong with a turn by itself."""
    place = f"turn {number}"
    if not isinstance(turn, Mapping):
        return Fault(f"{kind_of(turn)} instead of a turn", turn, _LIST)
    keys = ("role", "content") if "role" in turn else ("from", "value")
    has_calls = any(_filled(turn.get(key)) for key in ("tool_calls", "function_call"))
    missing = [key for key in keys if key not in turn and not (key != keys[0] and has_calls)]
    if missing:
        return Fault("a turn that lacks its role or its content", None, _LIST, f"{place}: {listed(turn, 5)}")
    if not isinstance(turn[keys[0]], str) or _role(turn) not in ROLES:
        return Fault(
            "an unknown role", turn[keys[0]], f"{nearest(turn[keys[0]], ROLES)}; the roles are {', '.join(ROLES)}"
        )
    return (
        _json_fault(place, turn)
        or _calls_fault(place, turn)
        or _content_fault(place, turn)
        or _weight_fault(place, turn)
    )


def _content_fault(place: str, turn: Mapping[str, Any]) -> Fault | None:
    """What is wrong with what is said."""
    role, content, calls = _role(turn), _content(turn), _calls(turn)
    if is_missing(content):
        return None if calls else Fault("a turn without content", None, DROP_OR_FILL, f"{place}: {role}")
    text = _text(content)
    if text is None and as_list(content) is not None:
        mend = 'this model reads texts: keep the parts {"type": "text", "text": ...}, or drop these rows'
        return Fault("content with parts that are no text", content, mend, place)
    if text is None:
        mend = "content is a string; results of tools are written as JSON, such as with json.dumps()"
        return Fault(f"{kind_of(content)} as content", content, mend)
    if not encodable(text):
        return Fault("content that holds a lone surrogate", content, "read the source with its right encoding")
    if role == "assistant" and not text.strip() and not calls:
        return Fault("a blank turn of the assistant", content, DROP_OR_FILL, place)
    return None


def _text(content: object) -> str | None:
    """What is said: a text, or parts that are all texts; None for anything else."""
    if isinstance(content, str):
        return str.__str__(content)
    parts = as_list(content)
    texts = [None] if parts is None else [_part(part) for part in parts]
    return None if any(text is None for text in texts) else "".join(map(str, texts))


def _part(part: object) -> str | None:
    if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
        return None
    kind = part.get("type")
    return str.__str__(part["text"]) if is_missing(kind) or kind in _TEXT_PARTS else None


def _json_fault(place: str, turn: Mapping[str, Any]) -> Fault | None:
    """What is wrong with the rest of a turn, such as the calls of tools."""
    if len(turn) == 2:
        return None
    try:
        plain_json({key: item for key, item in turn.items() if key not in _SAID[:4]})
    except (ValueError, RecursionError) as error:
        mend = "give strings, numbers, lists and mappings of them"
        return Fault("a turn that holds more than JSON knows", None, mend, f"{place}: {brief(str(error))}")
    return None


def _weight_fault(place: str, turn: Mapping[str, Any]) -> Fault | None:
    if _role(turn) != "assistant":
        return None
    given = {key: turn[key] for key in WEIGHTS if not is_missing(turn.get(key))}
    number = (bool, np.bool_, int, float, np.integer, np.floating)
    odd = [key for key, value in given.items() if not isinstance(value, number) or not 0 <= value <= 1]
    if not odd:
        return None
    mend = "a turn is learned (1, True), only read (0, False), or counts in part (0.5)"
    return Fault("a weight that is no number from 0 to 1", given[odd[0]], mend, f"{place}: {odd[0]}")


def _order_fault(number: int, before: str | None, role: str) -> Fault | None:
    if role in _FOLLOWS[before]:
        return None
    where = "at the beginning" if before is None else f"after {before}"
    return Fault("roles out of order", None, _ORDER, f"turn {number}: {role} {where}")


# Calls of tools.


def _is_calling(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is one of those that hold calls and nothing else."""
    return turn.get("role", turn.get("from")) in _CALLING and bool(_calls(turn))


def _calls(turn: Mapping[str, Any]) -> list[Any] | None:
    """The calls of a turn in whatever way it has them, none where there are none; None for what is no list of calls."""
    found: list[Any] = []
    several, one = json_cell(turn.get("tool_calls")), json_cell(turn.get("function_call"))
    if not is_missing(several):
        found += as_list(several) or ([] if as_list(several) is not None else [several])
    if not is_missing(one):
        found.append({"type": "function", "function": one} if isinstance(one, Mapping) else one)
    if turn.get("role", turn.get("from")) in _CALLING:
        said = json_cell(_content(turn))
        calls = [said] if isinstance(said, Mapping) else as_list(said) or []
        if all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls):
            found += [{"type": "function", "function": call} for call in calls]
    return found if all(isinstance(call, Mapping) for call in found) else None


def _calls_fault(place: str, turn: Mapping[str, Any]) -> Fault | None:
    calls = _calls(turn)
    if calls is None:
        shown = turn.get("tool_calls", turn.get("function_call"))
        return Fault("calls of tools that are no list of calls", shown, _CALLS, place)
    for call in calls:
        given = _function(call).get("arguments")
        if isinstance(given, str) and _arguments(given) is None:
            mend = "write them as a mapping, or as the JSON of one"
            return Fault("arguments of a call that are no JSON object", given, mend, place)
    return None


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a call that has its name and its arguments."""
    inner = call.get("function")
    return inner if isinstance(inner, Mapping) else call


def _arguments(text: str) -> dict[str, Any] | None:
    """The mapping that arguments written as text stand for; None where they are none."""
    found: Any = text
    for _ in range(2):  # some files have the JSON of the JSON
        if isinstance(found, str):
            try:
                found = json.loads(found) if found.strip() else {}
            except (ValueError, RecursionError):
                return None
    return found if isinstance(found, dict) else None


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call with its arguments as a mapping."""
    function = dict(_function(call))
    if isinstance(function.get("arguments"), str):
        function["arguments"] = _arguments(function["arguments"])
    inside = isinstance(call.get("function"), Mapping)
    plain: dict[str, Any] = plain_json({**call, "function": function} if inside else function)
    return plain


def _plain_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Role and content first, then what else there is; keys without a value are those of other rows."""
    said, calls = _content(turn), _calls(turn)
    alone = _is_calling(turn)
    plain: dict[str, Any] = {"role": _role(turn), "content": "" if alone or is_missing(said) else _text(said)}
    more = {key: plain_json(item) for key, item in turn.items() if key not in _SAID and not is_missing(item)}
    if calls:
        more["tool_calls"] = [_plain_call(call) for call in calls]
    return plain | more
