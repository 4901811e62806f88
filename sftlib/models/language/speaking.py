"""Models that write what they hear: what their decoder begins with, and texts that no batch changes.

Letters: ``B`` rows, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from sftlib.errors import OptionError
from sftlib.support.checking import nearest
from sftlib.support.values import Checked, Problem

_NO_TIMES, _TRANSCRIBE = "<|notimestamps|>", "<|transcribe|>"
_ENGLISH_ONLY = 51_864  # tokens of Whisper's vocabulary for English alone; the others have more
_USUAL = 224  # tokens of half a minute of speech


@final
@dataclass(frozen=True, kw_only=True)
class Prompt(Checked):
    """What a decoder begins and ends with.

    Attributes:
        prefix: tokens that are given.
        end: the token that ends a text.
        blank: whether a text begins with a blank.
        language: that is spoken, as `SpeechRecognition` was told; None where the model knows one.
    """

    prefix: tuple[int, ...]
    end: int
    blank: bool = False
    language: str | None = None

    def problems(self) -> Iterable[Problem]:
        good = isinstance(self.prefix, tuple) and self.prefix and all(type(token) is int for token in self.prefix)
        if not good or type(self.end) is not int or min(*self.prefix, self.end, 0) < 0:
            yield "prompt: expected tokens to begin with, and one to end with"


def prompt_of(config: Any, tokenizer: Any, language: str | None) -> Prompt:
    """What the decoder of a model begins and ends with.

    Args:
        config: of the model.
        tokenizer: of the model.
        language: that is spoken; needed where the model knows several.

    Raises:
        OptionError: the model does not know the language, or needs to be told it; or it does not say how it begins.
    """
    start, end = (getattr(config, name, None) for name in ("decoder_start_token_id", "eos_token_id"))
    if not isinstance(start, int) or not isinstance(end, int):
        raise OptionError(
            "the model's config does not say how a text begins and ends (decoder_start_token_id, eos_token_id)"
        )
    known: Mapping[str, int] = tokenizer.get_vocab()
    languages = {
        name[2:-2]: number
        for name, number in known.items()
        if name[:2] == "<|" and name[-2:] == "|>" and 2 <= len(name) - 4 <= 3
    }
    several = bool(languages) and getattr(config, "vocab_size", 0) > _ENGLISH_ONLY
    if several and language is None:
        raise OptionError(
            f"this model knows {len(languages)} languages: say which is spoken, task=SpeechRecognition(language='en')"
        )
    if language is not None and not several:
        raise OptionError(f"language={language!r}: this model knows no languages by name; leave language out")
    if language is not None and language not in languages:
        raise OptionError(f"language={language!r}: {nearest(language, sorted(languages))}")
    told = [] if language is None else [languages[language], known[_TRANSCRIBE]]
    times = [known[_NO_TIMES]] if _NO_TIMES in known else []
    return Prompt(prefix=(start, *told, *times), end=end, blank=bool(times), language=language)


def most_tokens(config: Any, prompt: Prompt, asked: int | None) -> int:
    """How many tokens of a text there may be, its end included.

    Raises:
        OptionError: more are asked for than the model can number.
    """
    room = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None)
    left = None if room is None else int(room) - len(prompt.prefix)
    if asked is not None and left is not None and asked > left:
        raise OptionError(f"max_target_length={asked}: this model writes at most {left} tokens")
    return asked or min(_USUAL, left or _USUAL)


def settle_speaking(model: Any, prompt: Prompt, longest: int) -> None:
    """Tell a model how it writes by itself, as transformers' pipeline will ask it to."""
    own = getattr(model, "generation_config", None)
    if own is None:
        return
    own.decoder_start_token_id, own.eos_token_id = prompt.prefix[0], prompt.end
    own.max_new_tokens, own.do_sample, own.num_beams = longest, False, 1
    own.return_timestamps = False
    if prompt.blank:
        own.no_timestamps_token_id = prompt.prefix[-1]
    if prompt.language is not None:
        own.language, own.task, own.is_multilingual = prompt.language, "transcribe", True
        own.lang_to_id = {f"<|{prompt.language}|>": prompt.prefix[1]}
        own.task_to_id = {"transcribe": prompt.prefix[2]}
        own.forced_decoder_ids = None
    elif prompt.blank:
        own.is_multilingual = False


@torch.no_grad()
def write_greedily(
    model: Any, inputs: Mapping[str, Tensor], prompt: Prompt, *, longest: int
) -> list[tuple[list[int], float]]:
    """The most probable token after each other, of every row by itself, until it ends.

    In full precision, since rounding to half of it would let the batch decide close calls. Tokens that the model's own
    settings suppress are never written, as transformers has it.

    Args:
        model: in evaluation mode, with its own attention.
        inputs: what its encoder reads, (B, ...).
        prompt: how it begins and ends.
        longest: tokens at most, the end included.

    Returns:
        Of each row its tokens without the end, and the geometric mean of their probabilities, the end's included.
    """
    first = next(iter(inputs.values()))
    with torch.autocast(first.device.type, enabled=False):
        return _written(model, inputs, prompt, longest=longest)


def _written(
    model: Any, inputs: Mapping[str, Tensor], prompt: Prompt, *, longest: int
) -> list[tuple[list[int], float]]:
    """As `write_greedily`, in whatever precision the caller asks for."""
    first = next(iter(inputs.values()))
    encoder: nn.Module = model.get_encoder()
    read = dict(inputs.items())
    heard = encoder(**read)[0]
    never, never_first = _suppressed(model)
    rows, device = len(first), first.device
    tokens = torch.tensor([prompt.prefix], device=device).expand(rows, -1)
    found: list[list[int]] = [[] for _ in range(rows)]
    logs, done, past = [0.0] * rows, [False] * rows, None
    more = {"attention_mask": inputs["attention_mask"]} if "attention_mask" in inputs else {}
    for step in range(longest):
        out = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=heard),
            decoder_input_ids=tokens,
            past_key_values=past,
            use_cache=True,
            **more,
        )
        past = out.past_key_values
        scores = out.logits[:, -1].float()  # (B, V)
        barred = [*never, *(never_first if step == 0 else ())]
        if barred:
            scores[:, barred] = -torch.inf
        likely, best = torch.log_softmax(scores, dim=-1).max(dim=-1)
        for i, (token, log) in enumerate(zip(best.tolist(), likely.tolist(), strict=True)):
            if done[i]:
                continue
            logs[i] += log
            done[i] = token == prompt.end
            found[i] += [] if done[i] else [token]
        if all(done):
            break
        tokens = best[:, None]
    ends = [len(own) + ended for own, ended in zip(found, done, strict=True)]
    means = [float(torch.tensor(log / max(1, count)).exp()) for log, count in zip(logs, ends, strict=True)]
    return list(zip(found, means, strict=True))


def _suppressed(model: Any) -> tuple[Sequence[int], Sequence[int]]:
    """Tokens that are never written, and those that no text begins with."""
    own = getattr(model, "generation_config", None)
    never, first = (getattr(own, name, None) or () for name in ("suppress_tokens", "begin_suppress_tokens"))
    size = model.config.vocab_size
    return [t for t in never if 0 <= t < size], [t for t in first if 0 <= t < size]
