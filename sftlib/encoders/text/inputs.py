"""How texts are to be read, as a user writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sftlib.encoders.base import Inputs
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import OptionError
from sftlib.models.files.folder import read_tokenizer
from sftlib.models.files.strict import TOKENIZER_FILES
from sftlib.models.opening import open_tokenizer
from sftlib.models.sources import ModelSource
from sftlib.support.checking import checked_fields, raise_together, whole_number

_LONGEST = 2**20  # tokens of a row


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Text(Inputs):
    """Texts, read through a tokenizer.

    Args:
        tokenizer: a transformers tokenizer, or the folder or name of one; the model's own when None.
        max_length: tokens of a row, control tokens included; what the model can take when None.
        add_tokens: words that become a token each, wherever they stand: names, codes, signs of a domain. Their
            embeddings begin as the mean of what they were read as, and are trained, also beside an adapter.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Text(max_length=256)
        Text(max_length=256)
    """

    tokenizer: Any = None
    max_length: int | None = None
    add_tokens: tuple[str, ...] | list[str] = ()

    def __post_init__(self) -> None:
        limit = self.max_length
        raise_together(
            [None if limit is None else whole_number("max_length", limit, at_least=2), _words_problem(self.add_tokens)]
        )
        object.__setattr__(self, "add_tokens", tuple(self.add_tokens))

    def __repr__(self) -> str:
        given = {"tokenizer": self.tokenizer, "max_length": self.max_length, "add_tokens": list(self.add_tokens)}
        shown = [
            f"{name}={value!r}" if isinstance(value, str | int | list) else f"{name}=<{type(value).__name__}>"
            for name, value in given.items()
            if value is not None and value != []
        ]
        return f"Text({', '.join(shown)})"

    def open(self, source: ModelSource) -> TextEncoder:
        tokenizer = source.tokenizer() if self.tokenizer is None else open_tokenizer(self.tokenizer)
        if tokenizer is None:
            raise OptionError(
                f"tokenizer=None: a model that is passed as an object ({source.name}) comes without one; give "
                "tokenizer=, a transformers tokenizer, or the folder or name of one"
            )
        asked = Text(add_tokens=self.add_tokens)
        return TextEncoder(tokenizer, self.max_length, words=self.add_tokens, inputs=asked)

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> TextEncoder:
        odd = [name for name in facts if name not in ("max_length", "add_tokens")]
        words = facts.get("add_tokens", [])
        problems = [
            whole_number("max_length", facts.get("max_length"), at_least=2, at_most=_LONGEST),
            _words_problem(words),
        ]
        raise_together([*(f"inputs has {name!r:.60}" for name in odd), *problems], ValueError)
        return TextEncoder(
            read_tokenizer(folder), facts["max_length"], words=words, inputs=cls(add_tokens=tuple(words))
        )

    @classmethod
    def files(cls) -> frozenset[str]:
        return TOKENIZER_FILES


def _words_problem(value: object) -> str | None:
    if isinstance(value, list | tuple):
        named = all(isinstance(word, str) and word and word.strip() == word for word in value)
        if named and len(set(value)) == len(value):
            return None
    return f"add_tokens={value!r:.60}: expected a list of different words, without blanks around them"
