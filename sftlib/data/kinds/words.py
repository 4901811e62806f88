"""Words, and a tag for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from sftlib.data.kinds.base import Label, encodable, is_missing, kind_of
from sftlib.data.kinds.labels import class_name
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list
from sftlib.data.written import parts_of

_ENCODING = "read the source with its right encoding"


@final
class TokensRole(RowKind):
    r"""The words of a text in every row: a list, tuple or array of strings, none of them blank.

    Example:
        >>> print(*TokensRole().check(["York", [], ["a", " "]]).lines("tokens"), sep="\n")
        tokens: 1 row with a str instead of a list of words: row 0 ('York'); cut it into words, such as with
        .split() or separator=' '
        tokens: 1 row with no words: row 1 ([]); drop these rows
        tokens: 1 row with a blank word: row 2 (' '); drop the word and its tag, or fill it in
    """

    measure = "words"
    holds_texts = True

    def texts(self, value: object) -> Sequence[str]:
        """The words."""
        return value  # type: ignore[return-value]

    def fault(self, value: object) -> Fault | None:
        if is_missing(value):
            return Fault("a missing value", None, "drop these rows or fill them in")
        words = as_list(value)
        if words is None:
            mend = (
                "cut it into words, such as with .split() or separator=' '"
                if isinstance(value, str)
                else "write a list of words"
            )
            return Fault(f"{kind_of(value)} instead of a list of words", value, mend)
        if not words:
            return Fault("no words", [], "drop these rows")
        return None if _all_words(words) else next(filter(None, map(_word_fault, words)), None)

    def plain(self, value: object) -> list[str]:
        return _strings(value)

    def separated(self, values: Sequence[object], separator: str) -> Sequence[object]:
        """The words of each text."""
        return [parts_of(value, separator) for value in values]


def _strings(value: object) -> list[str]:
    return [word if type(word) is str else str.__str__(word) for word in as_list(value) or ()]


def _all_words(words: list[Any]) -> bool:
    """Whether nothing is wrong with any: many times faster than word by word, for rows that are nearly all good."""
    try:
        return encodable("".join(words)) and all(map(str.strip, words))
    except TypeError:
        return False


def _word_fault(word: object) -> Fault | None:
    if is_missing(word):
        return Fault("a missing word", None, "drop the word and its tag, or fill it in")
    if not isinstance(word, str):
        return Fault(f"{kind_of(word)} instead of a word", word, "convert with str()")
    if not word.strip():
        return Fault("a blank word", word, "drop the word and its tag, or fill it in")
    if not encodable(word):
        return Fault("a lone surrogate, which is no character, in a word", word, _ENCODING)
    return None


@final
class TagsRole(RowKind):
    """A tag for each word of every row: a list, tuple or array of strings, such as ``"B-PER"`` and ``"O"``.

    Class numbers are read by the names that a `datasets` feature declares for them.

    Example:
        >>> TagsRole().decode([[1, 0]], ["O", "B-PER"])
        [['B-PER', 'O']]
        >>> print(*TagsRole().check([["O", 3]]).lines("tags"))
        tags: 1 row with an int instead of a tag: row 0 (3); write each tag by its name, such as 'B-PER' or 'O', or
        name every number from 0: label_names=['O', 'B-PER', ...]
    """

    holds_labels = True
    unit = "words"

    def fault(self, value: object) -> Fault | None:
        if is_missing(value):
            return Fault("missing tags", None, "drop these rows, or leave the role out to make an unlabelled data set")
        tags = as_list(value)
        if tags is None:
            mend = "write a list with one tag for each word" + (", or give separator=' '" * isinstance(value, str))
            return Fault(f"{kind_of(value)} instead of a list of tags", value, mend)
        return None if _all_words(tags) else next(filter(None, map(_tag_fault, tags)), None)

    def plain(self, value: object) -> list[str]:
        return _strings(value)

    def separated(self, values: Sequence[object], separator: str) -> Sequence[object]:
        """The words of each text."""
        return [parts_of(value, separator) for value in values]

    def decode(self, values: Sequence[object], names: Sequence[str]) -> Sequence[object]:
        """The name of each class number in each row."""
        rows = ((value, as_list(value)) for value in values)
        return [value if tags is None else [class_name(tag, names) for tag in tags] for value, tags in rows]

    def numbers_of(self, value: object) -> Sequence[object] | None:
        """The tags."""
        return as_list(value)

    def labels_of(self, value: object) -> Sequence[Label]:
        """The tags of the row, one for each word."""
        return value  # type: ignore[return-value]


def _tag_fault(tag: object) -> Fault | None:
    if is_missing(tag):
        return Fault("a missing tag", None, "write 'O' for a word outside of everything, or drop these rows")
    if not isinstance(tag, str):
        numbers = "name every number from 0: label_names=['O', 'B-PER', ...]"
        mend = f"write each tag by its name, such as 'B-PER' or 'O', or {numbers}"
        return Fault(f"{kind_of(tag)} instead of a tag", tag, mend)
    if not tag.strip():
        return Fault("a blank tag", tag, "write 'O' for a word outside of everything, or drop these rows")
    if not encodable(tag):
        return Fault("a tag that holds a lone surrogate", tag, _ENCODING)
    return None
