"""Conversations: who says what, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from sftlib.data.kinds.base import DROP_OR_FILL, encodable, is_missing, kind_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list, plain_json
from sftlib.data.problems import brief, listed
from sftlib.support.checking import nearest

ROLES = ("system", "user", "assistant", "tool")

#: What other layouts call the roles.
_ALIASES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}

#: Whose turn may follow whose.
_FOLLOWS: Mapping[str | None, tuple[str, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}

_ORDER = "system may come first, then user and assistant take turns; tool answers the assistant"
_LIST = (
    'write a list of turns, such as [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]'
)


@final
class MessagesRole(RowKind):
    r"""A conversation in every row: a list of turns ``{"role": ..., "content": ...}``.

    Roles are system, user, assistant and tool; ShareGPT's ``{"from": ..., "value": ...}`` with human, gpt, observation
    and function_call is read too. What else a turn has, such as ``tool_calls``, is kept. A row in which the assistant
    speaks supervises itself; one in which it does not yet can be predicted on.

    Example:
        >>> MessagesRole().normalise([[{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]])
        [[{'role': 'user', 'content': 'Hi.'}, {'role': 'assistant', 'content': 'Hello.'}]]
        >>> MessagesRole().fault([{"role": "assistant", "content": "Hello."}]).note
        'turn 0: assistant at the beginning'
    """

    measure = "turns"
    may_lack_target = True

    def fault(self, value: object) -> Fault | None:
        if is_missing(value):
            return Fault("a missing value", None, DROP_OR_FILL)
        turns = as_list(value)
        if turns is None:
            return Fault(f"{kind_of(value)} instead of a list of turns", value, _LIST)
        before = None
        for number, turn in enumerate(turns):
            fault = _turn_fault(number, turn) or _order_fault(number, before, _role(turn))
            if fault is not None:
                return fault
            before = _role(turn)
        if before in (None, "system"):
            return Fault("a conversation in which nobody speaks", value, "add a turn of the user, or drop these rows")
        return None

    def plain(self, value: object) -> list[dict[str, Any]]:
        return [_plain_turn(turn) for turn in as_list(value) or ()]

    def has_target(self, value: object) -> bool:
        """Whether the assistant speaks."""
        return any(turn["role"] == "assistant" for turn in value)  # type: ignore[attr-defined]

    def input_of(self, value: object) -> object:
        """The turns before the last one, when that is the assistant's."""
        turns: Sequence[Any] = value  # type: ignore[assignment]
        return turns[:-1] if turns[-1]["role"] == "assistant" else turns


def _role(turn: Mapping[str, Any]) -> str:
    """The role of a turn, by the name it has here."""
    given: str = turn.get("role", turn.get("from"))
    return _ALIASES.get(given, given)


def _turn_fault(number: int, turn: object) -> Fault | None:
    """What is wrong with a turn by itself."""
    place = f"turn {number}"
    if not isinstance(turn, Mapping):
        return Fault(f"{kind_of(turn)} instead of a turn", turn, _LIST)
    keys = ("role", "content") if "role" in turn else ("from", "value")
    missing = [key for key in keys if key not in turn and not (key != keys[0] and turn.get("tool_calls"))]
    if missing:
        return Fault("a turn that lacks its role or its content", None, _LIST, f"{place}: {listed(turn, 5)}")
    if not isinstance(turn[keys[0]], str) or _role(turn) not in ROLES:
        return Fault(
            "an unknown role", turn[keys[0]], f"{nearest(turn[keys[0]], ROLES)}; the roles are {', '.join(ROLES)}"
        )
    return _content_fault(place, _role(turn), turn.get(keys[1]), turn.get("tool_calls")) or _more_fault(place, turn)


def _content_fault(place: str, role: str, content: object, calls: object) -> Fault | None:
    """What is wrong with what is said."""
    if is_missing(content) and calls:
        return None
    if is_missing(content):
        return Fault("a turn without content", None, DROP_OR_FILL, f"{place}: {role}")
    if not isinstance(content, str):
        return Fault(f"{kind_of(content)} as content", content, "content is a string: join the parts that are text")
    if not encodable(content):
        return Fault("content that holds a lone surrogate", content, "read the source with its right encoding")
    if role == "assistant" and not content.strip() and not calls:
        return Fault("a blank turn of the assistant", content, DROP_OR_FILL, place)
    return None


def _more_fault(place: str, turn: Mapping[str, Any]) -> Fault | None:
    """What is wrong with the rest of a turn, such as the calls of tools."""
    if len(turn) == 2:
        return None
    try:
        plain_json(turn)
    except (ValueError, RecursionError) as error:
        mend = "give strings, numbers, lists and mappings of them"
        return Fault("a turn that holds more than JSON knows", None, mend, f"{place}: {brief(str(error))}")
    return None


def _order_fault(number: int, before: str | None, role: str) -> Fault | None:
    if role in _FOLLOWS[before]:
        return None
    where = "at the beginning" if before is None else f"after {before}"
    return Fault("roles out of order", None, _ORDER, f"turn {number}: {role} {where}")


def _plain_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Role and content first, then what else there is; keys without a value are those of other rows."""
    said = turn.get("content" if "role" in turn else "value")
    more = {key: item for key, item in turn.items() if key not in ("role", "content", "from", "value")}
    content = "" if is_missing(said) else str.__str__(said)
    more = {key: plain_json(item) for key, item in more.items() if not is_missing(item)}
    return {"role": _role(turn), "content": content} | more
