"""What a model is shown of a row, and what of it is learned: for people to look at before a run."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, final

from sftlib.encoders.batch import IGNORED
from sftlib.encoders.encoded import Encoded, Ragged

_LEARNED, _SHOWN, _PLAIN = "\033[1;32m", "\033[2m", "\033[0m"
_STYLES = {True: "background:#c8f0d0;color:#123", False: "color:#888"}


class Piece(NamedTuple):
    """Tokens that stand together and are all learned, or all not.

    Attributes:
        text: of the tokens, control tokens written out.
        tokens: how many.
        learned: whether the loss counts them.
    """

    text: str
    tokens: int
    learned: bool


@final
class Preview(Sequence[Piece]):
    """A row as the model reads it; in a terminal what is learned is green, in a notebook it has a green ground.

    With ``NO_COLOR`` in the environment it is plain text, in which what is learned stands between ``⟦`` and ``⟧``.

    Args:
        pieces: in order.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = tuple(pieces)

    @classmethod
    def of(cls, encoded: Encoded, tokenizer: Any) -> Preview:
        """Every window of an encoded row, one after the other."""
        targets = encoded.targets.get("tokens")
        pieces: list[Piece] = []
        for window in range(len(encoded)):
            ids = encoded.inputs["input_ids"][window].tolist()
            learned = (
                [bool(t != IGNORED) for t in targets[window]] if isinstance(targets, Ragged) else [False] * len(ids)
            )
            for told, group in groupby(zip(ids, learned, strict=True), key=lambda pair: pair[1]):
                tokens = [token for token, _ in group]
                pieces.append(Piece(tokenizer.decode(tokens, skip_special_tokens=False), len(tokens), told))
        return cls(pieces)

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(piece.tokens for piece in self if piece.learned)

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return sum(piece.tokens for piece in self)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: Any) -> Any:
        return self._pieces[index]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if os.environ.get("NO_COLOR"):
            return "".join(f"⟦{piece.text}⟧" if piece.learned else piece.text for piece in self) + self._sum()
        return "".join(f"{_LEARNED if p.learned else _SHOWN}{p.text}{_PLAIN}" for p in self) + self._sum()

    def _sum(self) -> str:
        return f"\n({self.learned:,} of {self.tokens:,} tokens are learned)"

    def _repr_html_(self) -> str:
        spans = "".join(f'<span style="{_STYLES[p.learned]}">{html.escape(p.text)}</span>' for p in self)
        return f'<pre style="white-space:pre-wrap">{spans}{html.escape(self._sum())}</pre>'
