"""What is heard of a sound, and the two ways in which a model can say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, final

import numpy as np
from torch import Tensor, nn

from sftlib.encoders.audio.decode import decode
from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.audio.preview import SoundPreview
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.models.sources import Head
from sftlib.tasks.base import Asked, LossSum


@final
@dataclass(frozen=True)
class Said:
    """A character or a word, and when it was said.

    Attributes:
        text: the character or word.
        start: seconds from the beginning of the sound to the first frame that says it.
        end: seconds to behind the last.
        probability: of its frames, the geometric mean.
    """

    text: str
    start: float
    end: float
    probability: float


@final
@dataclass(frozen=True)
class Transcript:
    """A text that was heard.

    Attributes:
        text: without control tokens.
        confidence: how probable it is, frame by frame or token by token: the geometric mean, 0 to 1.
        heard: what each frame, or each token, says; for putting pieces of a long sound together.
        span: the samples that this was heard in, at the rate of the model.
        characters: when each character of the text was said; empty of models that write token by token, which do not
            say it.
        clock: seconds at which each frame begins, and seconds to the next.
        logs: log-probability of what each frame says.
    """

    text: str
    confidence: float = field(default=0.0, compare=False)
    heard: tuple[int, ...] = field(default=(), repr=False, compare=False)
    span: tuple[int, int] = field(default=(0, 0), repr=False, compare=False)
    characters: tuple[Said, ...] = field(default=(), repr=False, compare=False)
    clock: tuple[tuple[float, ...], float] = field(default=((), 0.0), repr=False, compare=False)
    logs: tuple[float, ...] = field(default=(), repr=False, compare=False)

    @property
    def words(self) -> tuple[Said, ...]:
        """When each word was said; empty where ``characters`` is."""
        found = []
        for blank, run in groupby(self.characters, key=lambda one: one.text == " "):
            if not blank:
                own = list(run)
                likely = float(np.exp(np.mean([np.log(max(one.probability, 1e-30)) for one in own])))
                found.append(Said("".join(one.text for one in own), own[0].start, own[-1].end, likely))
        return tuple(found)

    def over(self, sound: object, *, rate: int = 16_000) -> SoundPreview:
        """The sound with what was heard drawn over it; in a notebook a waveform, a spectrogram and a player.

        Args:
            sound: that this was predicted of: a path, bytes, or ``{"array": ..., "sampling_rate": ...}``.
            rate: samples of a second that are drawn and played.

        Raises:
            DataError: it cannot be read.
        """
        words = tuple((one.start, one.end, one.text) for one in self.words)
        letters = tuple((one.start, one.end, one.text) for one in self.characters if one.text != " ")
        return SoundPreview(decode(sound, rate), rate, (), label=self.text, marks=(words, letters))

    def __repr__(self) -> str:
        return f"Prediction(text={self.text!r}, confidence={self.confidence:.4g})"


def words_until(prefixes: Iterable[str]) -> list[int]:
    """Of each beginning of a text the number of its last word.

    Example:
        >>> words_until(["", "a", "at", "at ", "at o"])
        [0, 0, 0, 0, 1]
    """
    return [max(0, len(prefix.split()) - 1) for prefix in prefixes]


class Way(ABC):
    """How a model says what it hears: a character for every frame, or token by token."""

    @property
    @abstractmethod
    def head(self) -> Head:
        """The head that a model needs."""

    @abstractmethod
    def prepare(self, model: nn.Module, encoder: AudioEncoder) -> None:
        """Give the encoder the tokenizer that is saved with it, and the model what it must know."""

    @abstractmethod
    def with_texts(self, encoded: Encoded, texts: Sequence[str] | None, encoder: AudioEncoder) -> Encoded:
        """The rows with what is to be learned of them.

        Args:
            encoded: (P) pieces of sounds.
            texts: normalised, of each sound; None where there are none.
            encoder: that made them.

        Raises:
            DataError: texts that cannot be learned, all of them.
        """

    @abstractmethod
    def place(self, batch: Batch, encoder: AudioEncoder) -> Batch:
        """The batch with what else the model reads."""

    @abstractmethod
    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        """What loss and predictions are made of."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed over what is written; the count is how much that is."""

    @abstractmethod
    def decode(self, outputs: Any, batch: Batch) -> list[Transcript]:
        """What the outputs of one pass say of each row; no text where writing one takes more passes."""

    def answer(self, model: Asked, batch: Batch, encoder: AudioEncoder, outputs: Any = None) -> list[Transcript]:
        """A text for each row, from outputs that are there already or from passes of its own."""
        return self.decode(model(batch) if outputs is None else outputs, batch)

    @abstractmethod
    def step_logs(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, S) the log-probability of each character or token of the text, given those before it.

        The last one's says that the text ends, too; beyond it stands 0.
        """

    @abstractmethod
    def step_words(self, text: str, ids: Sequence[int], encoder: AudioEncoder) -> list[int]:
        """The number of the word that each character or token is of; a blank is of the word before it.

        Args:
            text: that is learned.
            ids: (S,) its characters or tokens.
            encoder: that made the row.

        Raises:
            OptionError: a text that the model cannot say.
        """

    @abstractmethod
    def joined(self, pieces: Sequence[Transcript]) -> Transcript:
        """The text of a long sound from those of its pieces, which overlap."""
