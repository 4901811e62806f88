"""Texts in, flat token arrays out: the only place that calls a tokenizer.

Control tokens that a user typed (``[SEP]``, ``<|im_end|>``) are split like any other characters and never become
control ids.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import OptionError

_CHUNK = 2_000  # rows a call: bounds the lists of Python integers that a tokenizer returns


@final
class TextEncoder:
    """A tokenizer with a limit on length.

    Args:
        tokenizer: a transformers tokenizer; a copy is used.
        max_length: tokens of a row, control tokens included; what is beyond is cut and counted.

    Raises:
        OptionError: there is no tokenizer.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        if not callable(tokenizer):
            raise OptionError("this model needs tokenizer=: a transformers tokenizer, or the folder or name of one")
        self.tokenizer = copy.deepcopy(tokenizer)
        self.max_length = max_length

    @property
    def fill(self) -> dict[str, int]:
        """The value that fills up each model input beyond a row's end."""
        pad = self.tokenizer.pad_token_id
        return {"input_ids": 0 if pad is None else pad, "token_type_ids": self.tokenizer.pad_token_type_id}

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[dict[str, list[list[int]]], NDArray[np.int64]]:
        """Tokenise rows; every row is independent of the others.

        Args:
            texts: one text a row.
            pairs: a second text a row, or None.

        Returns:
            Name of a model input -> one list of ints a row, and the (N,) lengths before truncation.

        Raises:
            OptionError: ``max_length`` leaves no room for text.
        """
        control = self.tokenizer.num_special_tokens_to_add(pair=pairs is not None)
        needed = control + (1 if pairs is None else 2)
        if self.max_length < needed:
            raise OptionError(
                f"max_length={self.max_length}: {control} of them are control tokens here; expected at least {needed}, "
                "and many more to be useful"
            )
        columns: dict[str, list[list[int]]] = {}
        lengths: list[int] = []
        for start in range(0, len(texts), _CHUNK):
            part = slice(start, start + _CHUNK)
            encoded, uncut = self._encode_chunk(list(texts[part]), None if pairs is None else list(pairs[part]))
            for name, rows in encoded.items():
                columns.setdefault(name, []).extend(rows)
            lengths.extend(uncut)
        return columns, np.asarray(lengths, dtype=np.int64)

    def _encode_chunk(self, texts: list[str], pairs: list[str] | None) -> tuple[dict[str, list[list[int]]], list[int]]:
        encoded = self._call(texts, pairs, truncation=False)
        uncut = [len(ids) for ids in encoded["input_ids"]]
        long = [i for i, length in enumerate(uncut) if length > self.max_length]
        if long:  # only these are tokenised again, so that a pair is cut as the tokenizer itself cuts pairs
            again = self._call(
                [texts[i] for i in long], None if pairs is None else [pairs[i] for i in long], truncation=True
            )
            for name, rows in again.items():
                for i, row in zip(long, rows, strict=True):
                    encoded[name][i] = row
        for i, ids in enumerate(encoded["input_ids"]):
            if not ids:  # a blank text without control tokens: one filler, since a model needs a position to read from
                for name, rows in encoded.items():
                    rows[i] = [self._blank if name == "input_ids" else 0]
        return encoded, uncut

    def _call(self, texts: list[str], pairs: list[str] | None, *, truncation: bool) -> dict[str, list[list[int]]]:
        return dict(
            self.tokenizer(
                texts,
                pairs,
                truncation="longest_first" if truncation else False,
                max_length=self.max_length if truncation else None,
                padding=False,
                return_attention_mask=False,
                split_special_tokens=True,
                verbose=False,
            )
        )

    @property
    def _blank(self) -> int:
        candidates = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, 0)
        return next(candidate for candidate in candidates if candidate is not None)
