"""How a raw text is cut into words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice

#: How raw texts are cut: at white space; there and around punctuation; and every Chinese or Japanese sign by itself.
SPLITTINGS = ("spaces", "words", "characters")

_LOOKED_AT = 100_000  # words of the training data
_OPENING = "\"'([{<«\u201c\u2018\u201e\u201a\u2039¿¡"  # with the quotation marks of several languages
_CLOSING = "\"')]}>»\u201d\u2019\u203a.,;:!?…"
_SIGN = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3001\u3002\uff00-\uff20]"
_RUN = {"spaces": re.compile(r"\S+"), "words": re.compile(r"\S+")}
_RUN["characters"] = re.compile(rf"{_SIGN}|(?:(?!{_SIGN})\S)+")
_SIGNS = re.compile(_SIGN)
_ABBREVIATION = re.compile(r"(?:\w\.){2,}")
_POSSESSIVE = re.compile(r"(?<=\w)['\u2019][sS]$")
_GLUED = re.compile(r"\w[.,;:!?]$")
_ALONE = re.compile(r"[.,;:!?]+$")


def splitting_of(rows: Iterable[Sequence[str]]) -> str:
    """How the words of these rows seem to have been cut, of `SPLITTINGS`.

    Signs of Chinese and Japanese that mostly stand alone: ``"characters"``. Otherwise ``"spaces"`` when more words end
    in a punctuation mark than such marks stand alone, else ``"words"``.

    Example:
        >>> (
        ...     splitting_of([["Rome", "fell", "."]]),
        ...     splitting_of([["Rome", "fell."]]),
        ...     splitting_of([list("東京都")]),
        ... )
        ('words', 'spaces', 'characters')
    """
    words = list(islice((word for row in rows for word in row), _LOOKED_AT))
    with_signs = [word for word in words if _SIGNS.search(word)]
    if 2 * sum(len(word) == 1 for word in with_signs) > len(with_signs):
        return "characters"
    glued = sum(_GLUED.search(word) is not None and not _ABBREVIATION.fullmatch(word) for word in words)
    return "spaces" if glued > sum(_ALONE.match(word) is not None for word in words) else "words"


def split_words(text: str, splitting: str) -> list[tuple[int, int]]:
    r"""Where each word of a text begins, and where it has ended.

    ``"words"`` cuts at white space and takes punctuation off both ends of what is between, one mark a word, as well as
    a final ``'s``; inside of words (``e-mail``, ``3.5``, ``U.S.``, ``http://...``) it cuts nothing.

    Example:
        >>> text = 'He saw "The U.S. Army\'s" e-mail, twice.'
        >>> [text[start:end] for start, end in split_words(text, "words")]
        ['He', 'saw', '"', 'The', 'U.S.', 'Army', "'s", '"', 'e-mail', ',', 'twice', '.']
    """
    found: list[tuple[int, int]] = []
    for run in _RUN[splitting].finditer(text):
        found += [run.span()] if splitting == "spaces" else _without_marks(text, *run.span())
    return found


def _without_marks(text: str, start: int, end: int) -> list[tuple[int, int]]:
    before, after = [], []
    while end - start > 1 and text[start] in _OPENING:
        before.append((start, start + 1))
        start += 1
    while end - start > 1 and text[end - 1] in _CLOSING and not _ABBREVIATION.fullmatch(text, start, end):
        after.append((end - 1, end))
        end -= 1
    possessive = _POSSESSIVE.search(text, start, end)
    if possessive is not None:
        after.append((possessive.start(), end))
        end = possessive.start()
    return [*before, (start, end), *reversed(after)]
