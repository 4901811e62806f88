"""Texts as they are spoken: what two spellings of the same words have in common; each way is stored by its name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

Normalizer = Callable[[str], str]

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'"})
_BETWEEN_LETTERS = re.compile(r"(?<=\w)'(?=\w)")
_KEPT = "\ue000"  # stands for an apostrophe inside of a word while all other signs go
_FILLERS = re.compile(r"\b(?:uh+|um+|hm+|mm+|mhm|erm?)\b")
_SIGNS = {"&": " and ", "%": " percent ", "@": " at ", "+": " plus "}
_WORDS = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "st": "saint",
    "ok": "okay",
    "won't": "will not",
    "can't": "can not",
    "cannot": "can not",
    "let's": "let us",
    "gonna": "going to",
    "wanna": "want to",
}
_ENDINGS = (("n't", " not"), ("'re", " are"), ("'ve", " have"), ("'ll", " will"), ("'m", " am"))


def as_it_is(text: str) -> str:
    """The text, with one blank wherever there is white space."""
    return " ".join(text.split())


def basic(text: str) -> str:
    """Lower case, without punctuation and other signs, but for apostrophes inside of words; for any language.

    Example:
        >>> basic("Printing, then -- it's the BOOK'S art.")
        "printing then it's the book's art"
    """
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    text = _BETWEEN_LETTERS.sub(_KEPT, text)
    kept = (c if c == _KEPT or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join("".join(kept).split()).replace(_KEPT, "'")


def english(text: str) -> str:
    """As `basic`, with contractions and common abbreviations written out, and without fillers.

    Example:
        >>> english("Uh, Mr. Smith won't pay 5% -- they're broke.")
        'mister smith will not pay 5 percent they are broke'
    """
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    words = (_spelled(word) for word in _FILLERS.sub(" ", basic(text)).split())
    return " ".join(" ".join(words).split())


def _spelled(word: str) -> str:
    """One word, written out."""
    if word in _WORDS:
        return _WORDS[word]
    for ending, spelled in _ENDINGS:
        if word.endswith(ending) and word != ending:
            return word.removesuffix(ending) + spelled
    return word


NORMALIZERS: Mapping[str, Normalizer] = MappingProxyType({"none": as_it_is, "basic": basic, "english": english})
