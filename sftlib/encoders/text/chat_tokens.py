"""Rendered conversations as tokens: control strings of the template become control tokens, those of people do not.

A text in which nobody typed a control string is tokenised as it stands, as everybody would. In another, the template's
own control strings are given other names, under which a second tokenizer with the same rules knows them; what people
typed is then nothing special. The two agree on every text of the first kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import tokenizers
from numpy.typing import NDArray

from sftlib.encoders.text.chat import MARK
from sftlib.errors import OptionError

_FIRST, _LAST = "\U000f5f80", "\U000f5f81"


class Tokens(NamedTuple):
    """The tokens of a text.

    Attributes:
        ids: (T,) token numbers.
        starts: (T,) the character that each begins with.
        ends: (T,) the character after its last.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def within(self, spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
        """(T,) Which tokens lie in one of these spans of characters, or reach into it.

        Tokens without characters (white space that a tokenizer leaves out of its places) go by where they end.
        """
        found = np.zeros(len(self.ids), dtype=bool)
        for start, end in spans:
            empty = self.starts == self.ends
            found |= (self.ends > start) & np.where(empty, self.ends <= end, self.starts < end)
        return found


@final
class ChatTokenizer:
    """Tokenises rendered conversations.

    Args:
        tokenizer: of transformers, built on the tokenizers library.
        controls: finds control strings.

    Raises:
        OptionError: another kind of tokenizer.
    """

    def __init__(self, tokenizer: Any, controls: re.Pattern[str]) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise OptionError(
                f"tokenizer={type(tokenizer).__name__}: it cannot say where in a text its tokens stand; this task "
                "needs one of the tokenizers library (is_fast)"
            )
        self._tokenizer = tokenizer
        self._controls = controls
        self._renamed: tuple[tokenizers.Tokenizer, dict[str, str], dict[int, int]] | None = None

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of rendered texts, with their places in these texts.

        Args:
            texts: with `MARK` in control strings that people typed.
        """
        plain = [i for i, text in enumerate(texts) if MARK not in text]
        found: dict[int, Tokens] = dict(zip(plain, self._plain([texts[i] for i in plain]), strict=True))
        return [found[i] if i in found else self._guarded(texts[i]) for i in range(len(texts))]

    def _plain(self, texts: Sequence[str]) -> list[Tokens]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=True,
            split_special_tokens=False,
            verbose=False,
        )
        return [_tokens(*pair) for pair in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)]

    def _guarded(self, text: str) -> Tokens:
        """Tokens of a text in which somebody typed a control string."""
        backend, names, numbers = self._second()
        pieces: list[str] = []
        moves, last, length = [], 0, 0  # moves: (place in the new text, place in the old one)
        pattern = re.compile(f"{re.escape(MARK)}|{self._controls.pattern}")
        for match in pattern.finditer(text):
            pieces += [text[last : match.start()], names.get(match[0], "")]
            length += match.start() - last + len(pieces[-1])
            last = match.end()
            moves.append((length, last))
        pieces.append(text[last:])
        found = backend.encode("".join(pieces), add_special_tokens=False)
        bounds = np.array([(0, 0), *moves])
        new = np.array(found.offsets, np.int64).reshape(-1, 2)
        before = np.searchsorted(bounds[:, 0], new, side="right") - 1
        places = bounds[before, 1] + new - bounds[before, 0]
        ids = np.array([numbers.get(number, number) for number in found.ids], np.int64)
        return Tokens(ids, places[:, 0], places[:, 1])

    def _second(self) -> tuple[tokenizers.Tokenizer, dict[str, str], dict[int, int]]:
        """The same rules with other names for control tokens: the tokenizer, the names, and its numbers for ours."""
        if self._renamed is None:
            backend = self._tokenizer.backend_tokenizer
            backend.no_truncation()
            backend.no_padding()
            rules = json.loads(backend.to_str())
            names: dict[str, str] = {}
            ours: dict[str, int] = {}
            for number, token in enumerate(rules["added_tokens"]):
                if token["special"]:
                    names[token["content"]] = f"{_FIRST}{number}{_LAST}"
                    token["content"] = names[token["content"]]
                ours[token["content"]] = token["id"]
            rules["post_processor"] = None  # it names control tokens, and is not asked for any
            second = tokenizers.Tokenizer.from_str(json.dumps(rules))
            numbers: dict[int, int] = {second.token_to_id(name) or 0: number for name, number in ours.items()}
            self._renamed = second, names, numbers
        return self._renamed


def _tokens(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Tokens:
    places = np.array(offsets, np.int64).reshape(-1, 2)
    return Tokens(np.array(ids, np.int64), places[:, 0], places[:, 1])
