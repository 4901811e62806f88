"""Speech by models that write what they hear, token by token, as Whisper does.

The decoder begins with tokens that say what is to be done (the language, to transcribe, without times); they are given
and never learned. The text follows, and its end, which is always learned, though padding may be the same token.

Letters: ``P`` pieces of sounds, ``B`` rows of a batch, ``S`` tokens of the longest text, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.encoders.audio.encoder import MASK, AudioEncoder
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.errors import DataError, OptionError
from sftlib.models.language.speaking import Prompt, settle_speaking, write_greedily
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.tasks.audio.transcript import Transcript, Way, words_until
from sftlib.tasks.base import Asked, LossSum

_READ = "decoder_input_ids"
_SHOWN = 10  # rows that a message names


@final
@dataclass(frozen=True)
class ByTokens(Way):
    """Token by token.

    Attributes:
        prompt: what the decoder begins and ends with.
        longest: tokens of a text, its end included.
    """

    prompt: Prompt
    longest: int

    @property
    def head(self) -> Head:
        return Head(auto_class="AutoModelForSpeechSeq2Seq")

    def prepare(self, model: nn.Module, encoder: AudioEncoder) -> None:
        encoder.tokenizer = encoder.texts()
        settle_speaking(model, self.prompt, self.longest)

    def with_texts(self, encoded: Encoded, texts: Sequence[str] | None, encoder: AudioEncoder) -> Encoded:
        spans, targets, cost = encoder.spans(encoded), {}, encoded.cost
        if texts is not None:
            ids = [self._ids(text, encoder.tokenizer) for text in texts]
            self._check_fit(ids)
            alone = np.bincount(encoded.owners)[encoded.owners] == 1
            told: list[Sequence[int]] = [
                ids[row] if whole else () for row, whole in zip(encoded.owners, alone, strict=True)
            ]
            target = Ragged.from_lists(told)
            targets, cost = {"target": target}, cost + target.lengths
        return Encoded(
            encoded.inputs, targets, cost=cost, cut=encoded.cut, owners=encoded.owners, notes={"span": spans}
        )

    def _ids(self, text: str, tokenizer: Any) -> list[int]:
        """The tokens of a text and its end; as these models write it, it begins with a blank."""
        found: list[int] = tokenizer(f" {text}" if self.prompt.blank else text, add_special_tokens=False)["input_ids"]
        return [*found, self.prompt.end]

    def _check_fit(self, ids: Sequence[Sequence[int]]) -> None:
        """Refuse texts that are longer than what the model can write.

        Raises:
            DataError: with every such row.
        """
        long = [row for row, own in enumerate(ids) if len(own) > self.longest]
        if long:
            told = ", ".join(f"row {row} ({len(ids[row]):,})" for row in long[:_SHOWN])
            more = f" and {len(long) - _SHOWN:,} more" if len(long) > _SHOWN else ""
            raise DataError(
                f"{len(long):,} texts have more tokens than the {self.longest:,} that are written at most: {told}{more}"
                "; cut sound and text into shorter parts, or drop these rows"
            )

    def place(self, batch: Batch, encoder: AudioEncoder) -> Batch:
        """Beside the sounds what the decoder reads: how it begins, and each token of the text but the last."""
        target = batch.targets.get("target")  # (B, S)
        prefix = torch.tensor([self.prompt.prefix]).expand(len(batch.rows), -1)
        read = (
            prefix
            if target is None
            else torch.cat([prefix, target[:, :-1].masked_fill(target[:, :-1] < 0, self.prompt.end)], 1)
        )
        return replace(batch, inputs={**batch.inputs, _READ: read})

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Tensor:
        """(B, S, V) scores of each token of the text, from those before it."""
        scores = logits(call(model, inputs))
        if scores.dim() != 3:
            raise OptionError(
                f"the model returned scores of shape {tuple(scores.shape)}; speech-recognition needs (rows, tokens, "
                "vocabulary)"
            )
        return scores[:, len(self.prompt.prefix) - 1 :]

    def loss(self, outputs: Tensor, batch: Batch) -> LossSum:
        target = batch.targets["target"]  # (B, S)
        if not target.shape[1]:
            return LossSum(outputs.sum() * 0.0, outputs.new_full((), 0.0))
        written = target != IGNORED
        total = functional.cross_entropy(outputs[written], target[written], reduction="sum")
        return LossSum(total, written.sum().to(total.dtype))

    def step_logs(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = batch.targets["target"]  # (B, S)
        losses = functional.cross_entropy(outputs.transpose(1, 2), target, ignore_index=IGNORED, reduction="none")
        return -losses

    def step_words(self, text: str, ids: Sequence[int], encoder: AudioEncoder) -> list[int]:
        return words_until(self._text(ids[: place + 1], encoder.tokenizer) for place in range(len(ids)))

    def decode(self, outputs: Tensor, batch: Batch) -> list[Transcript]:
        """How probable each text is; none is written."""
        target = batch.targets["target"]  # (B, S)
        means = self.step_logs(outputs, batch).sum(dim=1) / (target != IGNORED).sum(dim=1).clamp(min=1)
        return [Transcript("", likely) for likely in means.exp().tolist()]

    def answer(self, model: Asked, batch: Batch, encoder: AudioEncoder, outputs: Any = None) -> list[Transcript]:
        given = {name: value for name, value in batch.inputs.items() if name in (encoder.name, MASK)}
        with model.plain() as plain:
            found = write_greedily(plain, given, self.prompt, longest=self.longest)
        spans = batch.notes["span"].tolist()
        return [
            Transcript(self._text(tokens, encoder.tokenizer), likely, tuple(tokens), (span[0], span[1]))
            for (tokens, likely), span in zip(found, spans, strict=True)
        ]

    def _text(self, tokens: Iterable[int], tokenizer: Any) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def joined(self, pieces: Sequence[Transcript]) -> Transcript:
        """Texts one after the other; the words that the end of one and the beginning of the next share stand once."""
        words: list[str] = []
        for piece in pieces:
            own = piece.text.split()
            words += own[_shared(words, own) :]
        weights = [max(1, len(piece.heard)) for piece in pieces]
        logs = sum(w * float(np.log(max(piece.confidence, 1e-30))) for w, piece in zip(weights, pieces, strict=True))
        span = (pieces[0].span[0], pieces[-1].span[1])
        heard = tuple(token for piece in pieces for token in piece.heard)
        return Transcript(" ".join(words), float(np.exp(logs / sum(weights))), heard, span)


def _shared(before: Sequence[str], after: Sequence[str]) -> int:
    """How many words the beginning of a text has in common with the end of the one before.

    Example:
        >>> _shared("the cat sat on".split(), "sat on the mat".split())
        2
    """
    most = min(len(before), len(after))
    return next((n for n in range(most, 0, -1) if _same(before[-n:], after[:n])), 0)


def _same(first: Sequence[str], second: Sequence[str]) -> bool:
    return [word.casefold().strip(".,;:!?") for word in first] == [word.casefold().strip(".,;:!?") for word in second]
