"""Speech by connectionist temporal classification: a character or nothing for every frame.

Letters: ``P`` pieces of sounds, ``B`` rows of a batch, ``T`` frames of the longest, ``S`` characters, ``V`` outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.data.problems import listed
from sftlib.encoders.audio.encoder import MASK, AudioEncoder
from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.errors import DataError, OptionError
from sftlib.models.ctc import SPECIAL, frames_needed, ids_of, name_of, step_logs, summed_loss, text_of, tokenizer_of
from sftlib.models.outputs import logits
from sftlib.models.sources import Head
from sftlib.tasks.audio.transcript import Said, Transcript, Way, words_until
from sftlib.tasks.base import LossSum

_SHOWN = 10  # rows that a message names
_RATE = 3e-4  # of a whole model: at less it says nothing at all for long; transformers' scripts for CTC take the same
_ADVICE = (
    "; speech-recognition needs a model with a head for CTC (wav2vec2, HuBERT, WavLM) or one that writes what it hears "
    "(Whisper)"
)


class Frames(NamedTuple):
    """What a model says of every frame.

    Attributes:
        scores: (B, T, V) in fp32.
        frames: (B,) how many of them are the row's.
    """

    scores: Tensor
    frames: Tensor


@final
@dataclass(frozen=True)
class ByFrames(Way):
    """A character or nothing for every frame.

    Attributes:
        vocabulary: characters, in the order of the outputs behind the first three.
        seconds: of the longest sound to learn from; 0 where nobody knows.
    """

    vocabulary: tuple[str, ...]
    seconds: float = 0.0

    @property
    def head(self) -> Head:
        more = {
            "vocab_size": len(SPECIAL) + len(self.vocabulary),
            "pad_token_id": 0,
            "ctc_loss_reduction": "sum",
            "ctc_zero_infinity": False,
        }
        return Head(auto_class="AutoModelForCTC", advice=_ADVICE, more=more, rate=_RATE)

    def prepare(self, model: nn.Module, encoder: AudioEncoder) -> None:
        encoder.tokenizer = tokenizer_of(self.vocabulary)
        if self.seconds:
            encoder.fit_to(model, self.seconds)

    def with_texts(self, encoded: Encoded, texts: Sequence[str] | None, encoder: AudioEncoder) -> Encoded:
        spans = encoder.spans(encoded)  # (P, 2)
        targets = {}
        if texts is not None:
            ids = [ids_of(text, self.vocabulary) for text in texts]
            alone = np.bincount(encoded.owners)[encoded.owners] == 1
            told: list[Sequence[int]] = [
                ids[row] if whole else () for row, whole in zip(encoded.owners, alone, strict=True)
            ]
            self._check_fit(encoded.owners.tolist(), told, encoder.frames(spans[:, 1] - spans[:, 0]), texts)
            targets = {"target": Ragged.from_lists(told)}
        return Encoded(
            encoded.inputs,
            targets,
            cost=encoded.cost,
            cut=encoded.cut,
            owners=encoded.owners,
            notes={"span": spans, "seconds": encoder.heard(spans)},
        )

    def _check_fit(
        self, rows: Sequence[int], ids: Sequence[Sequence[int]], frames: Sequence[int] | None, texts: Sequence[str]
    ) -> None:
        """Refuse texts that are longer than what can be said in so many frames: their loss is infinite.

        Raises:
            DataError: with every such row.
        """
        if frames is None:
            return
        needed = [frames_needed(own) for own in ids]
        short = [i for i, need in enumerate(needed) if need > frames[i]]
        if short:
            told = "; ".join(
                f"row {rows[i]} ({needed[i]} of {frames[i]} frames, {texts[rows[i]][:40]!r})" for i in short[:_SHOWN]
            )
            more = f"; and {len(short) - _SHOWN:,} more" if len(short) > _SHOWN else ""
            raise DataError(
                f"{len(short):,} texts need more frames than the sound has, one for each character and one between two "
                f"that are the same: {told}{more}; see whether text and sound belong together, drop these rows, or "
                "leave Audio(augment=...) without speed"
            )

    def place(self, batch: Batch, encoder: AudioEncoder) -> Batch:
        return batch

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Frames:
        scores = logits(call(model, inputs))
        if scores.dim() != 3 or scores.shape[2] != len(SPECIAL) + len(self.vocabulary):
            raise OptionError(
                f"the model returned scores of shape {tuple(scores.shape)}; speech-recognition on this data needs "
                f"(rows, frames, {len(SPECIAL) + len(self.vocabulary)}): {', '.join(map(repr, SPECIAL))} and "
                f"{listed(self.vocabulary, 8)}"
            )
        return Frames(scores, _frames_of(model, inputs.get(MASK), scores))

    def loss(self, outputs: Frames, batch: Batch) -> LossSum:
        """Minus the log-probability of every text, by the characters of all."""
        target = batch.targets["target"]  # (B, S)
        lengths = (target != IGNORED).sum(dim=1)
        total = summed_loss(outputs.scores, outputs.frames, target, lengths)
        return LossSum(total, lengths.sum().to(total.dtype))

    def step_logs(self, outputs: Frames, batch: Batch) -> Tensor:
        target = batch.targets["target"]  # (B, S)
        return step_logs(outputs.scores, outputs.frames, target, (target != IGNORED).sum(dim=1))

    def step_words(self, text: str, ids: Sequence[int], encoder: AudioEncoder) -> list[int]:
        unknown = sorted({sign for sign in text if sign != " "} - set(self.vocabulary))
        if unknown:
            raise OptionError(
                f"{text!r:.60}: this model never says {', '.join(map(repr, unknown))}, which no training text had; it "
                f"says {listed(self.vocabulary, 40)}"
            )
        return words_until(text[: place + 1] for place in range(len(ids)))

    def decode(self, outputs: Frames, batch: Batch) -> list[Transcript]:
        likely, best = torch.log_softmax(outputs.scores, dim=-1).max(dim=-1)  # (B, T) both
        answers = []
        for i, count in enumerate(outputs.frames.tolist()):
            start, stop = batch.notes["seconds"][i].tolist()
            step = (stop - start) / max(1, count)
            starts = tuple(start + step * frame for frame in range(count))
            first, last = batch.notes["span"][i].tolist()
            heard, logs = tuple(best[i, :count].tolist()), tuple(likely[i, :count].tolist())
            answers.append(self._transcript(heard, logs, (starts, step), (first, last)))
        return answers

    def _transcript(
        self,
        heard: tuple[int, ...],
        logs: tuple[float, ...],
        clock: tuple[tuple[float, ...], float],
        span: tuple[int, int],
    ) -> Transcript:
        """What frames say."""
        confidence = float(np.exp(np.mean(logs))) if logs else 0.0
        characters = self._characters(heard, logs, *clock)
        return Transcript(text_of(heard, self.vocabulary), confidence, heard, span, characters, clock, logs)

    def _characters(
        self, heard: Sequence[int], logs: Sequence[float], starts: Sequence[float], step: float
    ) -> tuple[Said, ...]:
        """Runs of one output that say something, without blanks before the first and behind the last."""
        found = []
        for said, run in groupby(range(len(heard)), key=heard.__getitem__):
            frames = list(run)
            if said:
                likely = float(np.exp(np.mean([logs[frame] for frame in frames])))
                name = name_of(said, self.vocabulary)
                found.append(Said(name, starts[frames[0]], starts[frames[-1]] + step, likely))
        spoken = [i for i, one in enumerate(found) if one.text != " "]
        return tuple(found[spoken[0] : spoken[-1] + 1]) if spoken else ()

    def joined(self, pieces: Sequence[Transcript]) -> Transcript:
        """Frames of all pieces, each up to the middle of what it shares with the next."""
        heard: list[int] = []
        logs: list[float] = []
        starts: list[float] = []
        for number, piece in enumerate(pieces):
            (start, stop), count = piece.span, len(piece.heard)
            begin = start if number == 0 else (pieces[number - 1].span[1] + start) / 2
            end = stop if number + 1 == len(pieces) else (stop + pieces[number + 1].span[0]) / 2
            first, last = (round((place - start) / max(1, stop - start) * count) for place in (begin, end))
            heard += piece.heard[first:last]
            logs += piece.logs[first:last]
            starts += piece.clock[0][first:last]
        clock = (tuple(starts), pieces[0].clock[1])
        return self._transcript(tuple(heard), tuple(logs), clock, (pieces[0].span[0], pieces[-1].span[1]))


def _frames_of(model: nn.Module, mask: Tensor | None, scores: Tensor) -> Tensor:
    """(B,) how many frames of each row are its own."""
    own: Any = getattr(model, "_get_feat_extract_output_lengths", None)
    count = scores.shape[1]
    if mask is None or own is None:
        return torch.full((len(scores),), count, dtype=torch.int64, device=scores.device)
    frames: Tensor = own(mask.sum(dim=1))
    return frames.to(torch.int64).clamp(max=count)
