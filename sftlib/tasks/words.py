"""Words: how a raw text is cut into them, and which of them, by their tags, belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

#: How raw texts are cut: at white space; there and around punctuation; and every Chinese or Japanese sign by itself.
SPLITTINGS = ("spaces", "words", "characters")

_LOOKED_AT = 100_000  # words of the training data
_OPENING = "\"'([{<«“‘„‚‹¿¡"
_CLOSING = "\"')]}>»”’›.,;:!?…"
_SIGN = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3001\u3002\uff00-\uff20]"
_RUN = {"spaces": re.compile(r"\S+"), "words": re.compile(r"\S+")}
_RUN["characters"] = re.compile(rf"{_SIGN}|(?:(?!{_SIGN})\S)+")
_SIGNS = re.compile(_SIGN)
_ABBREVIATION = re.compile(r"(?:\w\.){2,}")
_POSSESSIVE = re.compile(r"(?<=\w)['’][sS]$")
_GLUED = re.compile(r"\w[.,;:!?]$")
_ALONE = re.compile(r"[.,;:!?]+$")


def splitting_of(rows: Iterable[Sequence[str]]) -> str:
    """How the words of these rows seem to have been cut, of `SPLITTINGS`.

    Signs of Chinese and Japanese that mostly stand alone: ``"characters"``. Otherwise ``"spaces"`` when more words end
    in a punctuation mark than such marks stand alone, else ``"words"``.

    Example:
        >>> splitting_of([["Rome", "fell", "."]]), splitting_of([["Rome", "fell."]]), splitting_of([list("東京都")])
        ('words', 'spaces', 'characters')
    """
    words = list(islice((word for row in rows for word in row), _LOOKED_AT))
    with_signs = [word for word in words if _SIGNS.search(word)]
    if 2 * sum(len(word) == 1 for word in with_signs) > len(with_signs):
        return "characters"
    glued = sum(_GLUED.search(word) is not None and not _ABBREVIATION.fullmatch(word) for word in words)
    return "spaces" if glued > sum(_ALONE.match(word) is not None for word in words) else "words"


def split_words(text: str, splitting: str) -> list[tuple[int, int]]:
    """Where each word of a text begins, and where it has ended.

    ``"words"`` cuts at white space and takes punctuation off both ends of what is between, one mark a word, as well as
    a final ``'s``; inside of words (``e-mail``, ``3.5``, ``U.S.``, ``http://...``) it cuts nothing.

    Example:
        >>> text = 'He saw "The U.S. Army\\'s" e-mail, twice.'
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


class Chunk(NamedTuple):
    """Words that belong together: ``first`` to before ``last``."""

    label: str
    first: int
    last: int


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """What tags of any scheme say: BIO, BIOES (also with L and U), IO with or without its prefix.

    As conlleval and seqeval's default mode read them: an I or E after another type, or after an end, begins anew.

    Example:
        >>> chunks(["B-PER", "I-PER", "O", "S-LOC", "I-ORG", "B-ORG"])
        [Chunk(label='PER', first=0, last=2), Chunk(label='LOC', first=3, last=4), \
Chunk(label='ORG', first=4, last=5), Chunk(label='ORG', first=5, last=6)]
        >>> chunks(["NOUN", "NOUN", "O", "VERB"])
        [Chunk(label='NOUN', first=0, last=2), Chunk(label='VERB', first=3, last=4)]
    """
    found: list[Chunk] = []
    is_open = False
    for place, tag in enumerate(tags):
        if tag == "O":
            is_open = False
            continue
        prefix, label = parsed(tag)
        if is_open and prefix in "IEL" and found[-1].label == label:
            found[-1] = found[-1]._replace(last=place + 1)
        else:
            found.append(Chunk(label, place, place + 1))
        is_open = prefix in "BI"
    return found


def parsed(tag: str) -> tuple[str, str]:
    """The prefix of a tag and its type; a tag without a prefix is inside of its own type.

    Example:
        >>> parsed("B-PER"), parsed("NOUN"), parsed("B"), parsed("B-group-b")
        (('B', 'PER'), ('I', 'NOUN'), ('B', ''), ('B', 'group-b'))
    """
    prefix, dash, label = tag.partition("-")
    if prefix in _PREFIXES and (dash or not label):
        return prefix, label
    return "I", tag


_PREFIXES = ("B", "I", "E", "S", "L", "U")
