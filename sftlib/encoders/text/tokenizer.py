"""Texts in, flat token arrays out: the only place that calls a tokenizer.

Control tokens that a user typed (``[SEP]``, ``<|im_end|>``) are split like any other characters and never become
control ids.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.encoders.base import Call, Draws, Encoder, Inputs, Loaded, Rows
from sftlib.encoders.encoded import Encoded, Ragged, pad_together
from sftlib.encoders.text.agreement import NO_LIMIT, add_tokens, add_words, limits_of, settle_padding
from sftlib.encoders.text.preview import Preview
from sftlib.encoders.text.unknown import UnknownSigns, unknown_in
from sftlib.encoders.writer import Writer
from sftlib.errors import OptionError
from sftlib.models.files.folder import write_tokenizer
from sftlib.models.language.encoder_decoder import settle_decoder
from sftlib.models.language.vocabulary import compact_vocabulary
from sftlib.models.layouts.layout import Layout, choose_layout
from sftlib.models.memory import tokens_of_a_pass
from sftlib.models.opening import check_vocabulary

_CHUNK = 512  # rows a call: larger ones were slower, since what they return no longer fits a cache
_CHARACTERS = 2**21  # of a call with more than one row
_CHUNK_OF_WORDS = 2**13  # rows a call: only different words are tokenised
_KINDS, _MOST_KINDS = "token_type_ids", 127
_RULES = 1  # raised whenever the rules of this file give other tokens for the same text
_RARE = "\u2603"  # a sign that no small vocabulary has
_LOOKED_AT = 1000  # rows


class TokenChunk(NamedTuple):
    """The tokens of some rows, one row after the other.

    Attributes:
        inputs: name of a model input -> (L,) int32, of types of tokens int8.
        lengths: (N,) tokens of each row.
        cut: (N,) how many were cut off.
    """

    inputs: dict[str, NDArray[np.integer[Any]]]
    lengths: NDArray[np.int64]
    cut: NDArray[np.int64]


class WordChunk(NamedTuple):
    """The tokens of some rows of words, without control tokens, one word after the other.

    Attributes:
        tokens: (L,) int32.
        of_words: (W,) tokens of each word, at least 1.
        words: (N,) words of each row.
    """

    tokens: NDArray[np.int32]
    of_words: NDArray[np.int64]
    words: NDArray[np.int64]


class PlacedChunk(NamedTuple):
    """The tokens of some texts, without control tokens, and where in its text each stands.

    Attributes:
        tokens: (L,) int32.
        starts: (L,) int64, the character that each begins with.
        ends: (L,) int64, the character after its last.
        lengths: (N,) tokens of each text.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Frame(NamedTuple):
    """The control tokens around a text, or around and between two.

    Attributes:
        before: (L,) int32 in front of the first text.
        between: (L,) int32 between the two; empty for one text.
        after: (L,) int32 at the end.
        types: names of further inputs -> the value of each part, in the order before, first text, between, second
            text, after.
        null: the position that a classifier reads: its token in front, or whatever stands first.
    """

    before: NDArray[np.int32]
    between: NDArray[np.int32]
    after: NDArray[np.int32]
    types: dict[str, tuple[int, int, int, int, int]]
    null: int

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.before) + len(self.between) + len(self.after)


@final
class TextEncoder(Encoder):
    """A tokenizer with a limit on length.

    Args:
        tokenizer: a transformers tokenizer; a copy is used.
        max_length: tokens of a row, control tokens included; what is beyond is cut and counted. What the model can take
            when None, as soon as `settle` knows it.
        longest: tokens that the model takes at most, prompt and answer together; ``max_length`` when None.
        words: that become a token each.
        inputs: under which they were asked for.

    Raises:
        OptionError: there is no tokenizer.
    """

    unit = "token"
    hands = "input_ids and attention_mask (rows, tokens)"

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None,
        longest: int | None = None,
        *,
        words: Sequence[str] = (),
        inputs: Inputs | None = None,
    ) -> None:
        if not callable(tokenizer):
            raise OptionError("this model needs tokenizer=: a transformers tokenizer, or the folder or name of one")
        self.tokenizer = copy.deepcopy(tokenizer)
        self._asked = max_length
        self._words, self._inputs = tuple(words), inputs
        self.max_length = max_length or 0
        self.longest = longest or self.max_length
        self._digest: str | None = None

    # What has to agree with the model.

    def settle(self, model: nn.Module, *, markers: Sequence[str], seed: int) -> Sequence[int]:
        settle_padding(model, self.tokenizer)
        settle_decoder(model, self.tokenizer)
        new = add_words(model, self.tokenizer, self._words, seed=seed)
        new += add_tokens(model, self.tokenizer, markers, seed=seed)
        self._digest = None
        self.measure(model)
        return new

    def measure(self, model: nn.Module) -> None:
        """Settle the limits.

        Raises:
            OptionError: rows are asked for that are longer than the model can take.
        """
        usual, most = limits_of(model, self.tokenizer)
        self.max_length = self._asked or usual
        if self.max_length > most:
            raise OptionError(f"max_length={self.max_length}: this model takes at most {most} tokens")
        self.longest = most if most < NO_LIMIT else max(usual, self.max_length)

    def missing(self, markers: Sequence[str]) -> list[str]:
        known = self.tokenizer.get_vocab()
        return [marker for marker in markers if marker not in known]

    def check(self, model: nn.Module, encoded: Encoded) -> None:
        ids = encoded.inputs["input_ids"]
        assert isinstance(ids, Ragged)
        added = {number: str(token) for number, token in self.tokenizer.added_tokens_decoder.items()}
        check_vocabulary(model, ids.distinct(), added)

    def agree(self, model: nn.Module) -> None:
        check_vocabulary(model, np.array([self.fill["input_ids"]]))
        usual, most = limits_of(model, self.tokenizer)
        if self.max_length > most:
            raise ValueError(f"max_length={self.max_length}: this model takes at most {most} tokens")
        self.longest = most if most < NO_LIMIT else max(usual, self.max_length)

    def narrowed(
        self, model: nn.Module, seen: Sequence[Encoded] | None, decays: Callable[[], Sequence[float]]
    ) -> AbstractContextManager[object]:
        def used() -> NDArray[np.integer[Any]]:
            if seen is None:
                return np.arange(len(self.tokenizer))
            columns = (part.inputs["input_ids"] for part in seen)
            return np.unique(np.concatenate([ids.distinct() for ids in columns if isinstance(ids, Ragged)]))

        return compact_vocabulary(model, used=used, decays=decays)

    def layout(
        self, model: nn.Module, run: Callable[[Layout], Tensor], *, padding_free: bool | None
    ) -> tuple[Layout, str]:
        return choose_layout(model, run, padding_free=padding_free)

    def room(self, model: nn.Module, device: torch.device, *, checkpointing: bool, parts: int = 1) -> int:
        return tokens_of_a_pass(model, device, checkpointing=checkpointing, parts=parts)

    # Batches.

    def write(self, values: Mapping[str, Sequence[Any]], writer: Writer) -> None:
        """Texts, or pairs of texts, as the tokenizer frames them."""
        first, *second = values.values()
        for chunk in self.encode(first, *second):
            writer.add(chunk.inputs, lengths=chunk.lengths, cut=chunk.cut)

    def load(self, encoded: Encoded, rows: Rows, draws: Draws | None) -> Loaded:
        ragged = {name: part for name, part in encoded.inputs.items() if isinstance(part, Ragged)}
        padded, mask = pad_together(ragged, rows, fill=self.fill)
        return Loaded({**padded, "attention_mask": mask.astype(np.int64)})

    def lay_out(self, loaded: Loaded) -> dict[str, Tensor]:
        """Name -> (B, T) int64, among them ``attention_mask``."""
        return {name: torch.from_numpy(values) for name, values in loaded.inputs.items()}

    def calling(self, model: nn.Module) -> Call:
        parameters = list(inspect.signature(model.forward).parameters.values())
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return lambda module, inputs: module(**inputs)
        names = [p.name for p in parameters]
        if "input_ids" in names:
            return lambda module, inputs: module(**{name: value for name, value in inputs.items() if name in names})
        required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
        if len(required) >= 2:
            return lambda module, inputs: module(inputs["input_ids"], inputs["attention_mask"])
        return lambda module, inputs: module(inputs["input_ids"])

    def smallest(self) -> dict[str, Tensor]:
        return {"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.ones(1, 2, dtype=torch.int64)}

    def visible(self, scores: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        if scores.shape[:2] != inputs["input_ids"].shape:
            return scores  # (B, K): of rows
        return scores[inputs["attention_mask"].bool()]  # (N, ...)

    # Folders.

    def key(self) -> Mapping[str, Any] | None:
        digest = self.digest()
        return None if digest is None else {"tokenizer": digest, "max_length": self.max_length}

    def save(self, folder: Path) -> None:
        """Write the tokenizer, which knows the limit of these rows: whoever has it cut a text gets what was learned."""
        known = copy.deepcopy(self.tokenizer)
        known.model_max_length = self.max_length
        write_tokenizer(known, folder)

    @property
    def facts(self) -> dict[str, Any]:
        return {"max_length": self.max_length, **({"add_tokens": list(self._words)} if self._words else {})}

    @property
    def limit(self) -> str:
        return f"{self.max_length} tokens"

    def suspects(self, encoded: Encoded) -> Rows:
        unknown = self.tokenizer.unk_token_id
        (rare,) = self._bare([_RARE])["input_ids"]
        if rare and unknown not in rare:  # it falls back to bytes: it knows everything
            return np.empty(0, np.int64)
        if unknown is None:  # what it does not know vanishes, and leaves no trace in the tokens
            return np.unique(encoded.owners)[:_LOOKED_AT]
        found = []
        for column in (*encoded.inputs.values(), *encoded.targets.values()):
            if isinstance(column, Ragged) and column.values.ndim == 1:
                places = np.flatnonzero(column.values == unknown)
                found.append(np.searchsorted(column.offsets, places, side="right") - 1)
        rows = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
        return np.unique(encoded.owners[rows])

    def unknown(self, role: str, texts: Iterable[tuple[int, str]], *, learned: bool, of: int) -> UnknownSigns | None:
        return unknown_in(self.tokenizer, role, texts, learned=learned, of=of, bare=self._bare)

    def preview(self, encoded: Encoded, said: str = "") -> Preview:
        return Preview.of(encoded, self.tokenizer)

    @property
    def given(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer, **({"inputs": self._inputs} if self._words else {})}

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer)

    def is_one(self, given: object) -> bool:
        return isinstance(given, str | tuple)

    # Tokens.

    @property
    def fill(self) -> dict[str, int]:
        """The value that fills up each model input beyond a row's end."""
        pad = self.tokenizer.pad_token_id
        return {"input_ids": 0 if pad is None else pad, "token_type_ids": self.tokenizer.pad_token_type_id}

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Iterator[TokenChunk]:
        """Tokenise rows, some hundreds at a time; every row is independent of the others.

        The tokenizer works in parallel where its library does; ``TOKENIZERS_PARALLELISM`` decides, as everywhere. (A
        process that forks afterwards may hear of it from that library: set the variable to be rid of the warning.)

        Args:
            texts: one text a row; sliced, so it may read from a file.
            pairs: a second text a row, or None.

        Yields:
            The tokens of the next rows, in order.
        """
        for start in range(0, len(texts), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield from self._by_size(list(texts[part]), None if pairs is None else list(pairs[part]))

    def encode_words(self, rows: Sequence[Sequence[str]]) -> Iterator[WordChunk]:
        """Tokenise words, each for itself, as they would be in a text that has one space between two of them.

        A word of which a tokenizer leaves nothing gets its token for what it does not know, so that it keeps a place.

        Args:
            rows: the words of each row; sliced, so they may be read from a file.

        Yields:
            The tokens of the next rows, in order.
        """
        space = self._space()
        for start in range(0, len(rows), _CHUNK_OF_WORDS):
            part = list(rows[start : start + _CHUNK_OF_WORDS])
            words = [word if i == 0 else space + word for row in part for i, word in enumerate(row)]
            number = {word: i for i, word in enumerate(dict.fromkeys(words))}
            ids = [found or [self._unknown] for found in self._bare(list(number))["input_ids"]]
            lengths = np.fromiter(map(len, ids), np.int64, len(ids))
            flat = np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))
            chosen = np.fromiter(map(number.__getitem__, words), np.int64, len(words))
            of_words = lengths[chosen]
            begins = (np.cumsum(lengths) - lengths)[chosen]
            ends = np.cumsum(of_words)
            places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begins - ends + of_words, of_words)
            yield WordChunk(flat[places], of_words, np.fromiter(map(len, part), np.int64, len(part)))

    def encode_places(self, texts: Sequence[str]) -> Iterator[PlacedChunk]:
        """Tokenise texts and say where each token stands.

        Args:
            texts: sliced, so they may be read from a file.

        Yields:
            The tokens of the next texts, in order.

        Raises:
            OptionError: a tokenizer that does not know places.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise OptionError(
                f"tokenizer={type(self.tokenizer).__name__}: it cannot say where in a text its tokens stand; this task "
                "needs one of the tokenizers library (is_fast)"
            )
        for start in range(0, len(texts), _CHUNK):
            part = list(texts[start : start + _CHUNK])
            encoded = self._bare(part, return_offsets_mapping=True)
            lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(part))
            count = int(lengths.sum())
            tokens = np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32, count)
            spans: NDArray[np.int64] = np.array(
                [span for row in encoded["offset_mapping"] for span in row], np.int64
            ).reshape(count, 2)
            yield PlacedChunk(tokens, spans[:, 0], spans[:, 1], lengths)

    def bare(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text, uncut and without control tokens."""
        found: list[list[int]] = self._bare(texts)["input_ids"]
        return found

    def frame(self, *, pair: bool = False) -> Frame:
        """What the tokenizer puts around a text, or around and between two.

        Raises:
            OptionError: a tokenizer whose control tokens cannot be told from a text's.
        """
        texts = ("a", "b") if pair else ("a",)
        whole = self._call(["a"], ["b"] if pair else None, truncation=False)
        ids, end, cuts = whole["input_ids"][0], 0, []
        for text in texts:
            (body,) = self._bare([text])["input_ids"]
            begin = next((i for i in range(end, len(ids)) if body and ids[i : i + len(body)] == body), None)
            if begin is None:
                raise OptionError(f"tokenizer={type(self.tokenizer).__name__}: its control tokens cannot be found")
            end = begin + len(body)
            cuts += [begin, end]
        bounds = [0, *cuts, *([end, end] if not pair else []), len(ids)]  # five parts
        parts = [slice(a, b) for a, b in pairwise(bounds)]
        before, between, after = (np.array(ids[parts[i]], np.int32) for i in (0, 2, 4))
        types = {
            name: tuple(values[0][part][0] if values[0][part] else 0 for part in parts)
            for name, values in whole.items()
            if name != "input_ids"
        }
        marks = np.flatnonzero(before == self.tokenizer.cls_token_id)
        null = int(marks[0]) if len(marks) else 0
        return Frame(before, between, after, types, null)  # type: ignore[arg-type]

    def _space(self) -> str:
        """What has to stand before a word for it to be tokenised as in the middle of a text."""
        whole, first = (self._bare([text])["input_ids"][0] for text in ("a b", "a"))
        return next((space for space in ("", " ") if first + self._bare([space + "b"])["input_ids"][0] == whole), " ")

    def _bare(self, texts: list[str], **more: bool) -> dict[str, list[Any]]:
        """Tokens without control tokens, uncut."""
        return dict(
            self.tokenizer(
                texts,
                add_special_tokens=False,
                truncation=False,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                split_special_tokens=True,
                verbose=False,
                **more,
            )
        )

    @property
    def _unknown(self) -> int:
        unknown = self.tokenizer.unk_token_id
        return self.blank if unknown is None else unknown

    def encode_targets(self, texts: Sequence[str], *, max_length: int, end: int) -> Iterator[TokenChunk]:
        """Tokenise what a decoder is to write; what is beyond the limit is cut, and every target ends in ``end``.

        Args:
            texts: one target a row.
            max_length: tokens of a target, control tokens included.
            end: the token that ends a target, for tokenizers that do not write it themselves.

        Yields:
            The tokens of the next rows, in order, all under ``input_ids``.
        """
        for start in range(0, len(texts), _CHUNK):
            part = list(texts[start : start + _CHUNK])
            whole = self._target_ids(part, None)
            rows = [ids if len(ids) <= max_length else [] for ids in whole]
            long = [i for i, ids in enumerate(rows) if not ids]
            again = self._target_ids([part[i] for i in long], max_length) if long else []
            for i, ids in zip(long, again, strict=True):
                rows[i] = ids
            ended = [ids if end in ids else [*ids[: max_length - 1], end] for ids in rows]
            lengths = np.fromiter(map(len, ended), np.int64, len(part))
            tokens = np.fromiter(chain.from_iterable(ended), np.int32, int(lengths.sum()))
            uncut = [len(ids) + (end not in ids) for ids in whole]
            yield TokenChunk({"input_ids": tokens}, lengths, np.array(uncut, np.int64) - lengths)

    def around_targets(self) -> list[int]:
        """The control tokens that the tokenizer itself writes with a target, such as that of its language."""
        return self._target_ids([""], None)[0]

    def _target_ids(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        encoded = self.tokenizer(
            text_target=texts,
            truncation=max_length is not None,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            split_special_tokens=True,
            verbose=False,
        )
        found: list[list[int]] = encoded["input_ids"]
        return found

    def digest(self) -> str | None:
        """Hex SHA-256 of all that decides which tokens a text becomes; None where that cannot be told.

        It can be for tokenizers of the `tokenizers` library under a class of transformers: others run code of their
        own, which might change while their settings stay.
        """
        if self._digest is None and self._is_known:
            backend = self.tokenizer.backend_tokenizer
            backend.no_truncation()  # what earlier calls left there; every call sets both anew
            backend.no_padding()
            facts = [type(self.tokenizer).__name__, self.tokenizer.truncation_side, self.tokenizer.model_input_names]
            ids = [getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk", "cls", "sep")]
            versions = [version("tokenizers"), version("transformers"), _RULES]
            sha = hashlib.sha256(json.dumps([facts, ids, versions]).encode())
            sha.update(backend.to_str().encode())
            self._digest = sha.hexdigest()
        return self._digest

    @property
    def _is_known(self) -> bool:
        own = type(self.tokenizer).__module__.startswith("transformers.")
        return own and hasattr(getattr(self.tokenizer, "backend_tokenizer", None), "to_str")

    def _by_size(self, texts: list[str], pairs: list[str] | None) -> Iterator[TokenChunk]:
        """Halve a chunk until its characters are few: the tokenizer returns Python integers, 30 times the memory."""
        if len(texts) > 1 and sum(map(len, texts)) + sum(map(len, pairs or ())) > _CHARACTERS:
            half = len(texts) // 2
            yield from self._by_size(texts[:half], None if pairs is None else pairs[:half])
            yield from self._by_size(texts[half:], None if pairs is None else pairs[half:])
        else:
            yield self._encode_chunk(texts, pairs)

    def _encode_chunk(self, texts: list[str], pairs: list[str] | None) -> TokenChunk:
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
                    rows[i] = [self.blank if name == "input_ids" else 0]
        lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(texts))
        count = int(lengths.sum())
        inputs = {name: _array(name, chain.from_iterable(rows), count) for name, rows in encoded.items()}
        return TokenChunk(inputs, lengths, np.maximum(np.array(uncut, np.int64) - lengths, 0))

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
    def blank(self) -> int:
        """A token that stands where there would be none."""
        candidates = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, 0)
        return next(candidate for candidate in candidates if candidate is not None)


def _array(name: str, values: Iterable[int], count: int) -> NDArray[np.integer[Any]]:
    """Numbers of tokens, or the few small numbers of what kinds they are, kept in one byte each.

    Raises:
        ValueError: a kind that one byte does not hold.
    """
    if name != _KINDS:
        return np.fromiter(values, np.int32, count)
    kinds = np.fromiter(values, np.int32, count)
    if kinds.max(initial=0) > _MOST_KINDS:
        raise ValueError(f"{name} has the value {kinds.max()}; at most {_MOST_KINDS} was expected")
    return kinds.astype(np.int8)
