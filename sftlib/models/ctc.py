"""Connectionist temporal classification: a character or nothing for every frame (Graves et al., 2006).

Letters: ``B`` rows, ``T`` frames of the longest, ``S`` characters of the longest, ``V`` outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional

BLANK, UNKNOWN, BETWEEN = "<pad>", "<unk>", "|"
#: The outputs before those of characters: nothing, a character that training never saw, and the end of a word.
SPECIAL = (BLANK, UNKNOWN, BETWEEN)

_BLANK = 0
_NEVER = -1e30  # the logarithm of nothing, with which sums have gradients


def characters(texts: Iterable[str]) -> tuple[str, ...]:
    """Every character of texts but the blank between words, sorted.

    Example:
        >>> characters(["one two", "three"])
        ('e', 'h', 'n', 'o', 'r', 't', 'w')
    """
    return tuple(sorted(set().union(*map(set, texts)) - {" "}))


def ids_of(text: str, vocabulary: Sequence[str]) -> list[int]:
    """The output of each character; of one that is not known that of the unknown.

    Example:
        >>> ids_of("a bc", ("a", "b"))
        [3, 2, 4, 1]
    """
    number = {character: i for i, character in enumerate(vocabulary, len(SPECIAL))} | {" ": 2}
    return [number.get(character, 1) for character in text]


def frames_needed(ids: Sequence[int]) -> int:
    """The fewest frames that can say this: one for each character, and one between two that are the same.

    Example:
        >>> frames_needed([3, 4, 4])
        4
    """
    return len(ids) + sum(first == second for first, second in pairwise(ids))


def text_of(ids: Iterable[int], vocabulary: Sequence[str]) -> str:
    """What frames say: runs of one output are one character, and nothing is nothing.

    Example:
        >>> text_of([3, 3, 0, 3, 2, 2, 4], ("a", "b"))
        'aa b'
    """
    return "".join(name_of(i, vocabulary) for i, _ in groupby(ids)).strip()


def name_of(output: int, vocabulary: Sequence[str]) -> str:
    """What an output says."""
    return vocabulary[output - len(SPECIAL)] if output >= len(SPECIAL) else ("", UNKNOWN, " ")[output]


def summed_loss(scores: Tensor, frames: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """() minus the log-probability of every row's text, summed; rows without a text count nothing.

    Args:
        scores: (B, T, V) in fp32.
        frames: (B,) how many of them are the row's.
        target: (B, S) characters; what stands beyond a row's end is not looked at.
        lengths: (B,) of the texts.
    """
    known = (lengths > 0).nonzero()[:, 0]
    if not len(known):
        return scores.sum() * 0.0
    likely = torch.log_softmax(scores.index_select(0, known), dim=-1).transpose(0, 1)  # (T, B, V)
    return functional.ctc_loss(
        likely,
        target.index_select(0, known).clamp(min=0),
        frames.index_select(0, known),
        lengths.index_select(0, known),
        blank=_BLANK,
        reduction="sum",
        zero_infinity=False,
    )


def step_logs(scores: Tensor, frames: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """(B, S) the log-probability of each character given those before it; the last one's says that the text ends, too.

    That of a text which begins in some way is summed over the frame that says the last of its characters first: after
    it anything may follow. The logarithms of a row add up to that of its text.

    Args:
        scores: (B, T, V) in fp32.
        frames: (B,) how many of them are the row's.
        target: (B, S) characters; what stands beyond a row's end is not looked at, and found to be 0.
        lengths: (B,) of the texts, 1 at least.
    """
    likely, target = torch.log_softmax(scores, dim=-1), target.clamp(min=0)
    never = likely.new_full((len(target), 1), _NEVER)
    own = likely.gather(2, target[:, None].expand(-1, likely.shape[1], -1))  # (B, T, S)
    repeats = functional.pad(target[:, 1:] == target[:, :-1], (1, 0))  # (B, S)
    # Of the first s characters, and no more: the last frame says the last of them, or nothing, (B, 1 + S) both.
    speaks = never.expand(-1, 1 + target.shape[1])
    silent = torch.cat([torch.zeros_like(never), speaks[:, 1:]], dim=1)
    begins = speaks[:, 1:]  # (B, S) of any text that begins with them
    for frame in range(likely.shape[1]):
        before = torch.logaddexp(silent[:, :-1], speaks[:, :-1].masked_fill(repeats, _NEVER))
        enters = own[:, frame] + before  # (B, S)
        stays = torch.logaddexp(enters, own[:, frame] + speaks[:, 1:])
        rests = likely[:, frame, _BLANK, None] + torch.logaddexp(silent, speaks)
        heard = (frame < frames)[:, None]
        begins = torch.where(heard, torch.logaddexp(begins, enters), begins)
        speaks = torch.where(heard, torch.cat([never, stays], dim=1), speaks)
        silent = torch.where(heard, rests, silent)
    place = torch.arange(target.shape[1], device=target.device)
    last = place == lengths[:, None] - 1
    upto = torch.where(last, torch.logaddexp(speaks, silent)[:, 1:], begins)  # (B, S)
    found = torch.cat([upto[:, :1], upto[:, 1:] - upto[:, :-1]], dim=1)
    return found.masked_fill(place >= lengths[:, None], 0.0)


def tokenizer_of(vocabulary: Sequence[str]) -> Any:
    """A tokenizer of transformers whose tokens are the outputs, for the saved folder.

    Args:
        vocabulary: characters, in the order of the outputs behind those of `SPECIAL`.
    """
    numbers = {name: i for i, name in enumerate((*SPECIAL, *vocabulary))}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
        return transformers.Wav2Vec2CTCTokenizer(  # type: ignore[no-untyped-call]
            str(file),
            unk_token=UNKNOWN,
            pad_token=BLANK,
            bos_token=None,
            eos_token=None,
            word_delimiter_token=BETWEEN,
            clean_up_tokenization_spaces=False,
        )
