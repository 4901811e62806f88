"""Generating: what may be asked for, and answers that do not depend on how inputs are batched.

transformers' own ``generate`` does the work. What it leaves to chance or to the batch is settled here: sampling draws
from (seed, row, position), every row has its own room, and products are those of fp32, since rounding to half the
precision would let the batch size decide close calls.

Letters: ``B`` rows, ``T`` positions, ``V`` tokens of the vocabulary.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.logits_process import LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from sftlib.errors import OptionError
from sftlib.models.opening import quiet
from sftlib.support.checking import checked_fields, raise_together, real_number, whole_number

Stream = Callable[[int, str], None]
Decode = Callable[[list[int]], str]

#: What a saved folder says about generating; see `settings_of`.
SETTINGS = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id"),
    *("forced_eos_token_id", "max_new_tokens", "do_sample", "num_beams", "temperature", "top_k", "top_p"),
    *("length_penalty", "no_repeat_ngram_size", "early_stopping"),
    *("no_timestamps_token_id", "suppress_tokens", "begin_suppress_tokens", "is_multilingual", "return_timestamps"),
    *("language", "task", "lang_to_id", "task_to_id"),
)
_WORDS = ("language", "task")  # whose values are names
_NUMBERED = ("lang_to_id", "task_to_id")  # whose values are tokens by their names


@final
@checked_fields
@dataclass(frozen=True)
class Generation:
    """How answers are generated; the default is greedy.

    Args:
        max_new_tokens: of an answer; fewer where the model's limit leaves less room.
        beams: hypotheses that are followed; 1 for none but the best token.
        temperature: 0 for the most probable token; above 0 tokens are drawn, the more evenly the higher.
        top_k: draw from the so many most probable tokens only; None for all.
        top_p: draw from the most probable tokens that have this much probability together.
        length_penalty: of beams; above 0 favours longer answers.
        seed: of the draws; a draw is a function of (seed, row, position), whatever the batch.
        stream: called with (number of the input, piece of its answer) as soon as a piece is there; not with beams.

    Raises:
        OptionError: values that cannot be, all of them at once.

    Example:
        >>> Generation(max_new_tokens=20)
        Generation(max_new_tokens=20)
        >>> Generation(beams=4, temperature=0.7)
        Traceback (most recent call last):
        ...
        sftlib.errors.OptionError: beams=4 with temperature=0.7: beams take the most probable answer; give one of both
    """

    max_new_tokens: int = 256
    beams: int = 1
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    length_penalty: float = 1.0
    seed: int = 0
    stream: Stream | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        share = "a number above 0 and at most 1"
        raise_together(
            [
                whole_number("max_new_tokens", self.max_new_tokens, at_least=1),
                whole_number("beams", self.beams, at_least=1),
                real_number("temperature", self.temperature, 0, expected="a finite number of at least 0"),
                self.top_k is not None and whole_number("top_k", self.top_k, at_least=1),
                real_number("top_p", self.top_p, 0, 1, expected=share) or (self.top_p == 0 and f"top_p=0: {share}"),
                real_number("length_penalty", self.length_penalty, -100, 100, expected="a number from -100 to 100"),
                whole_number("seed", self.seed, at_least=0, at_most=2**63 - 1),
                None if self.stream is None or callable(self.stream) else "stream: expected a function, or None",
            ]
        )
        if self.beams > 1 and self.temperature > 0:
            raise OptionError(
                f"beams={self.beams} with temperature={self.temperature}: beams take the most probable answer; "
                "give one of both"
            )
        if self.beams > 1 and self.stream is not None:
            raise OptionError(f"beams={self.beams} with stream: the beginning of an answer may change to its end")

    def __repr__(self) -> str:
        shown = [
            f"{item.name}={value!r}" for item in fields(self) if (value := getattr(self, item.name)) != item.default
        ]
        return f"Generation({', '.join(shown)})"

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a stream is not among them."""
        return {name: value for name, value in vars(self).items() if name != "stream"}

    def settings(self) -> dict[str, Any]:
        """The fields of a transformers generation config that say the same."""
        if self.temperature == 0:
            beams = {"num_beams": self.beams, "length_penalty": self.length_penalty} if self.beams > 1 else {}
            return {"max_new_tokens": self.max_new_tokens, "do_sample": False, **beams}
        drawn = {"temperature": self.temperature, "top_k": self.top_k or 0, "top_p": self.top_p}
        return {"max_new_tokens": self.max_new_tokens, "do_sample": True, **drawn}


@torch.no_grad()
def generate(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    settings: Generation,
    *,
    rows: Sequence[int],
    room: Sequence[int],
    stop: Sequence[int],
    pad: int,
    decode: Decode,
) -> list[list[int]]:
    """The new tokens of every row, without the one that ended it.

    Args:
        model: in evaluation mode, with its own attention.
        inputs: name -> (B, T) with ``attention_mask``; of decoders filled up on the left, see `left_padded`.
        settings: what is asked for.
        rows: number of each input, which sampling and streaming go by.
        room: (B,) tokens that each row may get at most.
        stop: tokens that end an answer.
        pad: the token that fills up.
        decode: makes text of tokens, for streaming.
    """
    limits = [min(settings.max_new_tokens, left) for left in room]
    found: dict[int, list[int]] = {}
    for limit in sorted(set(limits)):  # apart, since a row that has ended is carried along as long as others go on
        group = [i for i, own in enumerate(limits) if own == limit]
        part = {name: value[group] for name, value in inputs.items()}
        asked = replace(settings, max_new_tokens=limit)
        tokens = _generate(model, part, asked, [rows[i] for i in group], stop=stop, pad=pad, decode=decode)
        found |= dict(zip(group, tokens, strict=True))
    return [found[i] for i in range(len(limits))]


def _generate(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    settings: Generation,
    rows: Sequence[int],
    *,
    stop: Sequence[int],
    pad: int,
    decode: Decode,
) -> list[list[int]]:
    """As `generate`, for rows that all have as much room as is asked for."""
    config: Any = model.config
    begun = 1 if getattr(config, "is_encoder_decoder", False) else inputs["input_ids"].shape[1]
    processors = [_Draw(settings, rows, begun)] if settings.temperature > 0 else []
    streamer = None if settings.stream is None else _Streamer(settings.stream, rows, settings, stop, decode)
    device = inputs["input_ids"].device
    with quiet(), warnings.catch_warnings(), torch.autocast(device.type, enabled=False):
        warnings.simplefilter("ignore")
        found: Tensor = model.generate(  # type: ignore[operator]
            **inputs,
            generation_config=_config(settings, stop=stop, pad=pad),
            logits_processor=LogitsProcessorList(processors),
            streamer=streamer,
        )
    ends = {*stop}
    return [_until(row[begun:], ends) for row in found.tolist()]


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> dict[str, Tensor]:
    """Prompts of different lengths side by side, filled up on the left: ``input_ids`` and ``attention_mask``.

    Example:
        >>> left_padded([[5], [6, 7]], 0, torch.device("cpu"))["input_ids"].tolist()
        [[0, 5], [6, 7]]
    """
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {
        "input_ids": torch.tensor(ids, dtype=torch.int64, device=device),
        "attention_mask": torch.tensor(mask, dtype=torch.int64, device=device),
    }


def settle(model: Any, settings: Generation, *, stop: Sequence[int], pad: int) -> None:
    """Write into a model how it generates: its own ids, and what this library is asked for."""
    own = getattr(model, "generation_config", None)
    if own is None:
        return
    known = own.to_dict()
    kept = {name: known[name] for name in SETTINGS if known.get(name) is not None and name not in _CHOSEN}
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        **{**kept, "eos_token_id": list(stop) or None, "pad_token_id": pad, **settings.settings()}
    )


def settings_of(model: Any) -> dict[str, Any] | None:
    """What a saved folder says about generating; None for a model that does not."""
    own = getattr(model, "generation_config", None)
    if own is None or not model.can_generate():
        return None
    known = own.to_dict()
    return {name: known[name] for name in SETTINGS if known.get(name) is not None}


def take_settings(model: Any, settings: Mapping[str, Any]) -> None:
    """Give a model what a saved folder says about generating.

    Raises:
        ValueError: settings that are no numbers, or that generation does not have.
    """
    for name, value in settings.items():
        if name not in SETTINGS or not _allowed(name, value):
            raise ValueError(f"generation_config.json has {name:.80}={value!r:.80}, which is not allowed here")
    with quiet():
        model.generation_config = GenerationConfig(**settings)  # type: ignore[no-untyped-call]


def _allowed(name: str, value: Any) -> bool:
    """Whether a setting holds what it may: numbers, a name, or numbers by their names."""
    if name in _WORDS:
        return isinstance(value, str) and len(value) <= _MOST
    if name in _NUMBERED:
        return isinstance(value, dict) and len(value) <= _MOST and all(isinstance(item, int) for item in value.values())
    numbers = value if isinstance(value, list) else [value]
    return len(numbers) <= _MOST and all(isinstance(item, int | float) for item in numbers)


_MOST = 256  # tokens that end an answer, or are never written


_CHOSEN = ("max_new_tokens", "do_sample", "num_beams", "temperature", "top_k", "top_p", "length_penalty")


def _config(settings: Generation, *, stop: Sequence[int], pad: int) -> GenerationConfig:
    """Greedy or beams; drawing is done by `_Draw`. Fields that are not named come from the model's own config."""
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        num_beams=settings.beams,
        length_penalty=settings.length_penalty,
        repetition_penalty=1.0,
        eos_token_id=list(stop) or None,
        pad_token_id=pad,
        use_cache=True,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
    )


def _until(tokens: list[int], ends: set[int]) -> list[int]:
    """The tokens before the first that ends an answer."""
    return next((tokens[:i] for i, token in enumerate(tokens) if token in ends), tokens)


@final
class _Draw(LogitsProcessor):
    """Draws tokens by a number that is a function of (seed, row, position).

    Args:
        settings: temperature, top-k and top-p.
        rows: number of each row.
        begun: tokens before the first new one.
    """

    def __init__(self, settings: Generation, rows: Sequence[int], begun: int) -> None:
        self._settings = settings
        self._rows = rows
        self._begun = begun

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        position = input_ids.shape[1] - self._begun
        numbers = [_uniform(self._settings.seed, row, position) for row in self._rows]
        probabilities = torch.softmax(scores.double() / self._settings.temperature, dim=-1)  # (B, V)
        kept = self._kept(probabilities).cumsum(dim=-1)
        targets = torch.tensor(numbers, dtype=torch.float64, device=scores.device)[:, None] * kept[:, -1:]
        drawn = torch.searchsorted(kept, targets, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)

    def _kept(self, probabilities: Tensor) -> Tensor:
        """(B, V) with 0 for all tokens that are not to be drawn."""
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= self._settings.top_p
        if self._settings.top_k is not None:
            beyond[:, self._settings.top_k :] = True
        beyond[:, 0] = False
        return probabilities.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), 0.0)


def _uniform(seed: int, row: int, position: int) -> float:
    """A number from 0 to below 1."""
    digest = hashlib.blake2b(f"{seed},{row},{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


@final
class _Streamer(BaseStreamer):
    """Hands on text as soon as it can no longer change.

    Args:
        stream: gets (number of the row, piece of text).
        rows: number of each row.
        settings: what is asked for.
        stop: tokens that end an answer.
        decode: makes text of tokens.
    """

    def __init__(
        self, stream: Stream, rows: Sequence[int], settings: Generation, stop: Sequence[int], decode: Decode
    ) -> None:
        self._stream = stream
        self._rows = rows
        self._limit = settings.max_new_tokens
        self._stop = {*stop}
        self._decode = decode
        self._tokens: list[list[int]] = [[] for _ in rows]
        self._told = ["" for _ in rows]
        self._open = [True for _ in rows]
        self._begun = False

    def put(self, value: Tensor) -> None:
        """Take the prompts once, and then one token a row."""
        if not self._begun:
            self._begun = True
            return
        for i, token in enumerate(value.flatten().tolist()):
            if self._open[i]:
                self._open[i] = token not in self._stop
                self._tokens[i] += [token] if self._open[i] else []
                self._open[i] &= len(self._tokens[i]) < self._limit
                self._tell(i)

    def end(self) -> None:
        """Tell what is left."""
        self._open = [False for _ in self._rows]
        for i in range(len(self._rows)):
            self._tell(i)

    def _tell(self, i: int) -> None:
        text = self._decode(self._tokens[i])
        if self._open[i] and text.endswith("\ufffd"):
            return  # a character of which a part is still to come
        if text.startswith(self._told[i]) and len(text) > len(self._told[i]):
            self._stream(self._rows[i], text[len(self._told[i]) :])
            self._told[i] = text
