"""What a text is made of for people: words, by the characters they stand at, whatever a tokenizer makes of them.

Letters: ``W`` words, ``T`` tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

# Han characters and kana are written without spaces: each is a piece of its own.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = f"[^\\W_{_ALONE}]"
_WORD: Final = re.compile(rf"[{_ALONE}]|{_LETTER}(?:{_LETTER}|['\u2019-](?={_LETTER}))*|[^\w\s]|_")
CONTROL: Final = -1  # the number of the text of a token that is of none


@final
@dataclass(frozen=True)
class Piece:
    """A word of an input, or a sign.

    Attributes:
        text: as it stands there.
        start: its first character.
        end: the one after its last.
        role: the role of the text that it is in.
        number: of the text that it is in.
    """

    text: str
    start: int
    end: int
    role: str
    number: int


class Places(NamedTuple):
    """Where the tokens of one row stand.

    Attributes:
        tokens: (T,) as the model reads them.
        texts: (T,) the number of the text that each is of, `CONTROL` for those of none.
        starts: (T,) its first character.
        ends: (T,) the one after its last.
    """

    tokens: NDArray[np.integer[Any]]
    texts: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@final
@dataclass(frozen=True)
class Text:
    """One text of an input; of a list of words their text with a space between two of them.

    Attributes:
        role: that it plays.
        text: the whole.
        words: the words that it was given as, or None where it was given as a text.
    """

    role: str
    text: str
    words: tuple[str, ...] | None = None

    def pieces(self, number: int) -> list[Piece]:
        """Its words."""
        spans = words_of(self.text) if self.words is None else _spans(self.text, self.words)
        return [Piece(self.text[start:end], start, end, self.role, number) for start, end in spans]

    def tokens(self, encoder: Any) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """Its tokens, uncut, and the characters that each begins and ends with."""
        if self.words is None:
            (chunk,) = encoder.encode_places([self.text])
            return chunk.tokens, chunk.starts, chunk.ends
        (chunk,) = encoder.encode_words([self.words])
        spans = np.array(_spans(self.text, self.words), np.int64).reshape(-1, 2)
        found = np.repeat(spans, chunk.of_words, axis=0)
        return chunk.tokens, found[:, 0], found[:, 1]


def texts_of(values: Mapping[str, Any], roles: Sequence[str]) -> list[Text]:
    """The texts of an input: those that are strings, or lists of words.

    Args:
        values: the input under role names. A string under no role is the text that a list of words was cut out of.
        roles: that the model reads.
    """
    raw = [value for role, value in values.items() if role not in roles and isinstance(value, str)]
    found = []
    for role in roles:
        value = values.get(role)
        if isinstance(value, str):
            found.append(Text(role, value))
        elif isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value):
            found.append(Text(role, raw[0] if raw else " ".join(value), tuple(value)))
    return found


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end; signs stand by themselves, and white space belongs to none.

    Example:
        >>> text = "It's well-made, isn't it?"
        >>> [text[a:b] for a, b in words_of(text)]
        ["It's", 'well-made', ',', "isn't", 'it', '?']
        >>> text = "这电影 is fun"
        >>> [text[a:b] for a, b in words_of(text)]
        ['这', '电', '影', 'is', 'fun']
    """
    return [found.span() for found in _WORD.finditer(text)]


def _spans(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Where words stand in the text that they were cut out of, one after the other.

    Example:
        >>> _spans("In New York.", ["New", "York"])
        [(3, 6), (7, 11)]
    """
    found, at = [], 0
    for word in words:
        start = max(text.find(word, at), 0)
        at = start + len(word)
        found.append((start, at))
    return found


def placed(encoder: Any, texts: Sequence[Text], row: NDArray[np.integer[Any]]) -> Places:
    """Find the tokens of texts among those of a row, whatever stands around them, and whatever was cut off.

    Args:
        encoder: that wrote the row.
        texts: in the order in which they stand there.
        row: (T,) as the model reads it.
    """
    parts = [text.tokens(encoder) for text in texts]
    body = np.concatenate([tokens for tokens, _, _ in parts])
    numbers = np.repeat(np.arange(len(parts)), [len(tokens) for tokens, _, _ in parts])
    starts, ends = (np.concatenate([part[side] for part in parts]) for side in (1, 2))
    whose = np.full(len(row), CONTROL)  # (T,) the place in `body` of each token of the row
    matcher = SequenceMatcher(None, row.tolist(), body.tolist(), autojunk=False)
    for block in matcher.get_matching_blocks():
        whose[block.a : block.a + block.size] = np.arange(block.b, block.b + block.size)
    known = whose >= 0
    return Places(
        tokens=row,
        texts=np.where(known, numbers[whose] if len(numbers) else CONTROL, CONTROL),
        starts=np.where(known, starts[whose] if len(starts) else 0, 0),
        ends=np.where(known, ends[whose] if len(ends) else 0, 0),
    )


def shares(pieces: Sequence[Piece], places: Places) -> NDArray[np.float64]:
    """Whose token each is: the share of every word in every token.

    A token that covers several words is shared out by the characters it has of each; one that covers none (white
    space) goes to the next word, so that nothing is lost of a sum over tokens. Control tokens are no one's.

    Returns:
        (W, T), columns that sum to 1 for tokens of texts, and to 0 for control tokens.
    """
    found = np.zeros((len(pieces), len(places.tokens)))
    for number in {piece.number for piece in pieces}:
        rows = np.array([k for k, piece in enumerate(pieces) if piece.number == number])
        starts, ends = (np.array([getattr(pieces[k], side) for k in rows]) for side in ("start", "end"))
        for token in np.flatnonzero(places.texts == number):
            first, last = places.starts[token], places.ends[token]
            common = np.clip(np.minimum(ends, last) - np.maximum(starts, first), 0, None).astype(float)
            if not common.any():
                common[min(int(np.searchsorted(ends, first, side="right")), len(rows) - 1)] = 1.0
            found[rows, token] = common / common.sum()
    return found
