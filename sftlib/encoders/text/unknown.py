"""What a tokenizer makes nothing of: signs and words that become its token for unknown ones, or vanish.

A model cannot learn to write such a sign, nor tell it from any other; and its answers are right all the same when they
are compared token by token.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

from sftlib.data.problems import brief, listed_rows
from sftlib.support.display import counted

_CHUNK = 512
_NAMED = 100  # rows
_SHOWN = 5  # examples
_LONGEST = 20  # characters of one
#: Kinds of characters whose absence nobody notices: control, format and combining ones, and white space.
_UNSEEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Zl", "Zp", "Zs"))


@final
@dataclass(frozen=True)
class UnknownSigns:
    """What of a role a tokenizer makes nothing of.

    Args:
        role: of the data.
        learned: whether it is what is learned, and not only read.
        count: how many pieces of text became the token for unknown ones, or vanished.
        rows: how many rows have some.
        row_numbers: the first hundred of them.
        examples: the most frequent of the pieces.
        of: rows that were looked at.
    """

    role: str
    learned: bool
    count: int
    rows: int
    row_numbers: tuple[int, ...]
    examples: tuple[str, ...]
    of: int

    @property
    def sentence(self) -> str:
        """What deserves attention."""
        shown = ", ".join(brief(example) for example in self.examples)
        what = "a model cannot learn to write them" if self.learned else "a model cannot tell them apart"
        return (
            f"{self.role}: the tokenizer does not know {counted(self.count, 'sign or word', 'signs or words')} in "
            f"{counted(self.rows, 'row')} ({self.rows / self.of:.1%}), such as {shown}: {what} "
            f"({listed_rows(self.row_numbers)})"
        )


def unknown_in(
    tokenizer: Any,
    role: str,
    texts: Iterable[tuple[int, str]],
    *,
    learned: bool,
    of: int,
    bare: Callable[..., dict[str, list[Any]]],
) -> UnknownSigns | None:
    """Count what a tokenizer makes nothing of; None where there is nothing of the kind.

    Args:
        tokenizer: of transformers.
        role: that the texts play.
        texts: (row, text); a row may have several.
        learned: whether it is what is learned.
        of: how many rows there are.
        bare: tokenises texts without control tokens.
    """
    counts: Counter[str] = Counter()
    rows: dict[int, None] = {}
    unknown, placed = tokenizer.unk_token_id, bool(getattr(tokenizer, "is_fast", False))
    waiting = iter(texts)
    while chunk := list(islice(waiting, _CHUNK)):
        more = {"return_offsets_mapping": True} if placed else {}
        encoded = bare([text for _, text in chunk], **more)
        places = encoded["offset_mapping"] if placed else [None] * len(chunk)
        for (row, text), ids, spans in zip(chunk, encoded["input_ids"], places, strict=True):
            found = list(_pieces(text, ids, spans, unknown))
            if found:
                counts.update(found)
                rows[row] = None
    if not counts:
        return None
    examples = tuple(piece for piece, _ in counts.most_common(_SHOWN))
    return UnknownSigns(role, learned, counts.total(), len(rows), tuple(islice(rows, _NAMED)), examples, of)


def _pieces(
    text: str, ids: Sequence[int], spans: Sequence[tuple[int, int]] | None, unknown: int | None
) -> Iterator[str]:
    """The pieces of a text that a tokenizer makes nothing of."""
    if spans is None:
        yield from ("?" for number in ids if number == unknown)
        return
    covered = 0  # everything before it is some token's
    for number, (start, end) in zip(ids, spans, strict=True):
        if start > covered:
            yield from _vanished(text[covered:start])
        covered = max(covered, end)
        if number == unknown and (piece := text[start:end].strip()):
            yield piece[:_LONGEST]
    yield from _vanished(text[covered:])


def _vanished(gap: str) -> Iterator[str]:
    yield from (sign for sign in gap if unicodedata.category(sign) not in _UNSEEN)
