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

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Text(max_length=256)
        Text(max_length=256)
    """

    tokenizer: Any = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        limit = self.max_length
        raise_together([None if limit is None else whole_number("max_length", limit, at_least=2)])

    def __repr__(self) -> str:
        given = {"tokenizer": self.tokenizer, "max_length": self.max_length}
        shown = [
            f"{name}={value!r}" if isinstance(value, str | int) else f"{name}=<{type(value).__name__}>"
            for name, value in given.items()
            if value is not None
        ]
        return f"Text({', '.join(shown)})"

    def open(self, source: ModelSource) -> TextEncoder:
        tokenizer = source.tokenizer() if self.tokenizer is None else open_tokenizer(self.tokenizer)
        if tokenizer is None:
            raise OptionError(
                f"tokenizer=None: a model that is passed as an object ({source.name}) comes without one; give "
                "tokenizer=, a transformers tokenizer, or the folder or name of one"
            )
        return TextEncoder(tokenizer, self.max_length)

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> TextEncoder:
        odd = [name for name in facts if name != "max_length"]
        problem = whole_number("max_length", facts.get("max_length"), at_least=2, at_most=_LONGEST)
        raise_together([*(f"inputs has {name!r:.60}" for name in odd), problem], ValueError)
        return TextEncoder(read_tokenizer(folder), facts["max_length"])

    @classmethod
    def files(cls) -> frozenset[str]:
        return TOKENIZER_FILES
