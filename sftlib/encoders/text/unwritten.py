"""What a chat template leaves out of conversations: found by rendering them once more with a part changed.

A template is a program, and nothing but its text says what it wrote. For every kind of turn (its role, what it has,
where it stands) one is looked at: where its conversation gives the same text with a part of it changed, no model reads
that part. It is told once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, final

_THOUGHT = "</think>"
_CONTENT, _CALLS = "the content", "'tool_calls'"

Turns = Sequence[Mapping[str, Any]]


class Talk(NamedTuple):
    """A conversation, and what its template is given.

    Attributes:
        turns: what is said.
        given: variables of the template beside it, such as ``tools``.
        weights: for each turn how much it says that it counts, or nothing (None); nothing at all when empty.
    """

    turns: Turns
    given: Mapping[str, Any] = MappingProxyType({})
    weights: Sequence[float | None] = ()

    @property
    def is_answered(self) -> bool:
        """Whether the assistant has the last word."""
        return bool(self.turns[-1]["role"] == "assistant")

    def until(self, turn: int) -> Talk:
        """The turns before one."""
        return self._replace(turns=self.turns[:turn])

    def weight(self, turn: int) -> float:
        """How much a turn of the assistant counts, from 0 to 1."""
        given = self.weights[turn] if self.weights else None
        return 1.0 if given is None else given


class _Part(NamedTuple):
    """A part of a conversation.

    Attributes:
        part: of the turn.
        name: what to call it.
        without: the conversation in which it is another.
    """

    part: str
    name: str
    without: Talk


@final
class Unwritten:
    """Finds and tells what a template leaves out.

    Args:
        template: its source.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        self._seen: set[Hashable] = set()
        self._lost: dict[Hashable, frozenset[str]] = {}  # of a kind of turn, the names of what is left out
        self._told: set[str] = set()

    def look(self, talks: Sequence[Talk], first: int, texts: Callable[[Sequence[Talk]], list[str | None]]) -> None:
        """Look at what was not seen before.

        Args:
            talks: conversations.
            first: the row of the first.
            texts: renders conversations; None for one that is refused.
        """
        self._look_at_weights(talks, first)
        self._look_at_names(talks, first)
        wanted = [(row, kinds) for row, talk in enumerate(talks) if (kinds := self._new(talk))]
        if not wanted:
            return
        parts = [[(kind, part) for kind, k in kinds.items() for part in _parts(talks[row], k)] for row, kinds in wanted]
        whole = texts([talks[row] for row, _ in wanted])
        others = iter(texts([part.without for some in parts for _, part in some]))
        for (row, kinds), some, text in zip(wanted, parts, whole, strict=True):
            written = {(kind, part.part) for kind, part in some if next(others) != text}
            lost = [(kind, part) for kind, part in some if (kind, part.part) not in written]
            if text is None:  # refused, and told as such
                self._seen.difference_update(kinds)
            elif lost:
                for kind in kinds:
                    self._lost[kind] = frozenset(part.part for found, part in lost if found == kind)
                self._tell([part.name for _, part in lost], first + row)

    def empty_turns(self, talk: Talk) -> list[int]:
        """The turns that are to be learned and of which nothing is written: neither content nor calls."""
        return [
            k
            for k, (turn, kind) in enumerate(zip(talk.turns, _kinds(talk), strict=True))
            if turn["role"] == "assistant" and talk.weight(k) and self._is_empty(turn, kind)
        ]

    def _is_empty(self, turn: Mapping[str, Any], kind: Hashable) -> bool:
        lost = self._lost.get(kind, frozenset())
        return (not turn["content"].strip() or _CONTENT in lost) and (not turn.get("tool_calls") or _CALLS in lost)

    def _new(self, talk: Talk) -> dict[Hashable, int]:
        """The kinds of turns that were not seen before, with the number of the first of each; they count as seen."""
        found: dict[Hashable, int] = {}
        for k, kind in enumerate(_kinds(talk)):
            if kind not in self._seen:
                self._seen.add(kind)
                found[kind] = k
        if talk.given.get("tools") and "tools" not in self._seen:
            self._seen.add("tools")
            found["tools"] = -1
        return found

    def _look_at_weights(self, talks: Sequence[Talk], first: int) -> None:
        for row, talk in enumerate(talks):
            for turn, weight in zip(talk.turns, talk.weights, strict=False):
                if weight and turn["role"] != "assistant" and ("weight", turn["role"]) not in self._seen:
                    self._seen.add(("weight", turn["role"]))
                    logging.getLogger("sftlib").warning(
                        "messages: a weight of %s turns is not used, only what the assistant says is learned (first "
                        "in row %d)",
                        turn["role"],
                        first + row,
                    )

    def _look_at_names(self, talks: Sequence[Talk], first: int) -> None:
        for row, talk in enumerate(talks):
            for name in talk.given:
                if ("name", name) not in self._seen and name != "tools" and name not in self._template:
                    logging.getLogger("sftlib").warning(
                        "chat_template_kwargs: the chat template knows nothing of %r (first in row %d)",
                        name,
                        first + row,
                    )
                self._seen.add(("name", name))

    def _tell(self, names: Sequence[str], row: int) -> None:
        inner = [name for name in names if " in 'tool_calls'" in name]
        whole = {name.removeprefix("'tool_calls'") for name in names if name.startswith("'tool_calls'")}
        new = [
            name
            for name in dict.fromkeys(names)
            if name not in self._told and not (name in inner and name.partition("'tool_calls'")[2] in whole)
        ]
        self._told.update(new)
        if new:
            logging.getLogger("sftlib").warning(
                "messages: the chat template leaves out %s: no model reads it (first in row %d)",
                _listed(new),
                row,
            )


def _listed(names: Sequence[str]) -> str:
    """Names, one after the other."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _kinds(talk: Talk) -> Iterator[Hashable]:
    """The kind of each turn: who speaks, what the turn has, and where it stands."""
    turns, tools = talk.turns, bool(talk.given.get("tools"))
    asked = max((k for k, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    for k, turn in enumerate(turns):
        calls, content = turn.get("tool_calls", ()), turn["content"]
        has = (
            *turn,
            bool(content.strip()),
            _THOUGHT in content,
            any(arguments_of(call) for call in calls),
            any("id" in call for call in calls),
        )
        yield (turn["role"], k == 0, k < asked, k == len(turns) - 1, tools, has)


def _parts(talk: Talk, k: int) -> Iterator[_Part]:
    """Every part of a turn; of none (-1) the tools."""
    if k < 0:
        yield _Part("tools", "the tools", talk._replace(given={**talk.given, "tools": None}))
        return
    turns = talk.turns
    for name, other in _changes(turns[k]):
        changed = talk._replace(turns=[*turns[:k], other, *turns[k + 1 :]])
        yield _Part(name, f"{name} of {turns[k]['role']} turns", changed)


def _changes(turn: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each part of a turn is called, and the turn with that part changed."""
    content = turn["content"]
    if content.strip():
        yield _CONTENT, {**turn, "content": f"{content.rstrip()}x"}
        yield _CONTENT, {**turn, "content": f"x{content.lstrip()}"}
    if _THOUGHT in content:
        yield f"what stands before {_THOUGHT}", {**turn, "content": content.replace(_THOUGHT, f"x{_THOUGHT}", 1)}
    for key in turn:
        if key not in ("role", "content"):
            yield repr(key), {name: value for name, value in turn.items() if name != key}
    calls = turn.get("tool_calls")
    if calls:
        if any(arguments_of(call) for call in calls):
            yield "the arguments in 'tool_calls'", {**turn, "tool_calls": [_with_arguments(call, {}) for call in calls]}
        if any("id" in call for call in calls):
            bare = [{name: value for name, value in call.items() if name != "id"} for call in calls]
            yield "the id in 'tool_calls'", {**turn, "tool_calls": bare}


# Arguments of calls.


def arguments_of(call: Mapping[str, Any]) -> Any:
    """The arguments of a call, or None."""
    inner = call.get("function")
    return (inner if isinstance(inner, Mapping) else call).get("arguments")


def _with_arguments(call: Mapping[str, Any], arguments: Any) -> dict[str, Any]:
    inner = call.get("function")
    if isinstance(inner, Mapping):
        return {**call, "function": {**inner, "arguments": arguments}}
    return {**call, "arguments": arguments}


def written_arguments(talk: Talk) -> list[Mapping[str, Any]]:
    """The arguments of all calls that have some."""
    found = [arguments_of(call) for turn in talk.turns for call in turn.get("tool_calls", ())]
    return [arguments for arguments in found if isinstance(arguments, Mapping) and arguments]


def with_text_arguments(talk: Talk) -> Talk:
    """The same conversation with the arguments of calls as JSON, for templates that write them as they stand."""

    def text(call: Mapping[str, Any]) -> Mapping[str, Any]:
        given = arguments_of(call)
        return _with_arguments(call, json.dumps(given, ensure_ascii=False)) if isinstance(given, Mapping) else call

    def changed(turn: Mapping[str, Any]) -> Mapping[str, Any]:
        calls = turn.get("tool_calls")
        return {**turn, "tool_calls": [text(call) for call in calls]} if calls else turn

    return talk._replace(turns=[changed(turn) for turn in talk.turns])
