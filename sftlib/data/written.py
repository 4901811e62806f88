"""Lists and mappings that were written as text: in JSON, as Python shows them, or as numpy does.

``DataFrame.to_csv`` writes a list as ``['card', 'pin']`` and an array as ``['card' 'pin']``. Nothing is executed: this
knows brackets, strings, numbers, a few names, and the calls that wrap them, such as ``array([...], dtype=object)``.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Final, final

from sftlib.data.plain import json_cell

_NAMES: Final[dict[str, Any]] = {
    **dict.fromkeys(("None", "null")),
    **dict.fromkeys(("True", "true"), True),
    **dict.fromkeys(("False", "false"), False),
    "nan": float("nan"),
}
_PIECES = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<sign>[\[\](){},:=]))",
    re.DOTALL,
)
_WRAPPERS = re.compile(r"(?:np\.|numpy\.)?(?:array|str_|int(?:8|16|32|64)|float(?:16|32|64)|bool_?)|list|tuple|set")
_CLOSING: Final = {"[": "]", "(": ")", "{": "}"}
_DEEPEST = 50


def list_cell(cell: object) -> object:
    """What a cell of text says in JSON, or as Python or numpy write lists and mappings; itself where it is neither.

    Example:
        >>> list_cell("['card', 'pin']"), list_cell("['card' 'pin']"), list_cell('["card"]'), list_cell("card")
        (['card', 'pin'], ['card', 'pin'], ['card'], 'card')
        >>> list_cell("{'text': array(['Paris'], dtype=object), 'answer_start': array([14])}")
        {'text': ['Paris'], 'answer_start': [14]}
    """
    found = json_cell(cell)
    return _as_python(found) if isinstance(found, str) else found


def bracketed(value: object) -> object:
    """As `list_cell`, of texts that stand in brackets alone.

    Example:
        >>> bracketed("[1, 2]"), bracketed("7"), bracketed(None)
        ([1, 2], '7', None)
    """
    return list_cell(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "(", "{") else value


def _as_python(text: str) -> object:
    if text.strip()[:1] not in ("[", "(", "{") and not text.lstrip().startswith(("array(", "np.array(")):
        return text
    try:
        return _Reader(text).whole()
    except _UnknownError:
        return text


class _UnknownError(Exception):
    """Something that is neither a list nor a mapping."""


@final
class _Reader:
    """Reads one value, piece by piece; commas between members may be missing, as numpy leaves them out."""

    def __init__(self, text: str) -> None:
        self._pieces: list[tuple[str, str]] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            match = _PIECES.match(text, place)
            if match is None:
                raise _UnknownError
            self._pieces.append((match.lastgroup or "", match[match.lastgroup or 0]))
            place = match.end()
        self._at = 0

    def whole(self) -> object:
        """The value, with nothing behind it."""
        value = self._value(0)
        if self._at < len(self._pieces):
            raise _UnknownError
        return value

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._pieces):
            raise _UnknownError
        self._at += 1
        return self._pieces[self._at - 1]

    def _peek(self, sign: str) -> bool:
        return self._at < len(self._pieces) and self._pieces[self._at] == ("sign", sign)

    def _value(self, depth: int) -> object:
        kind, text = self._next()
        if depth > _DEEPEST:
            raise _UnknownError
        if kind == "string":
            return _string(text)
        if kind == "number":
            return float(text) if set(text) & set(".eE") else int(text)
        if kind == "name":
            return self._named(text, depth)
        if text not in _CLOSING:
            raise _UnknownError
        return self._mapping(depth) if text == "{" else self._members(_CLOSING[text], depth)

    def _named(self, name: str, depth: int) -> object:
        if not self._peek("("):
            if name not in _NAMES:
                raise _UnknownError
            return _NAMES[name]
        if not _WRAPPERS.fullmatch(name):
            raise _UnknownError
        self._at += 1
        value = self._value(depth + 1)
        while not self._peek(")"):  # such as dtype=object
            self._next()
        self._at += 1
        return value

    def _members(self, closing: str, depth: int) -> list[object]:
        found: list[object] = []
        while not self._peek(closing):
            found.append(self._value(depth + 1))
            if self._peek(","):
                self._at += 1
        self._at += 1
        return found

    def _mapping(self, depth: int) -> object:
        found: dict[object, object] = {}
        members: list[object] = []
        while not self._peek("}"):
            key = self._value(depth + 1)
            if self._peek(":"):
                self._at += 1
                if not isinstance(key, str | int):
                    raise _UnknownError
                found[key] = self._value(depth + 1)
            else:  # a set
                members.append(key)
            if self._peek(","):
                self._at += 1
        self._at += 1
        if found and members:
            raise _UnknownError
        if members and all(isinstance(member, str) for member in members):
            return sorted(map(str, members))  # of a set, whose order says nothing
        return members or found


def _string(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):  # a line end inside, which numpy writes as it is
        return text[1:-1]


def parts_of(value: object, separator: str) -> object:
    """A text cut at a separator, without blanks around its parts and without empty ones; anything else as it is.

    Example:
        >>> parts_of("card| pin", "|"), parts_of("", "|"), parts_of(["card"], "|")
        (['card', 'pin'], [], ['card'])
    """
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(separator) if part.strip()]
