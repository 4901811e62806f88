"""How sounds are to be heard, as a user writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sftlib.encoders.audio.augment import Augmentation, augmentations
from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.base import Inputs
from sftlib.errors import OptionError
from sftlib.models.feature_extractors import of_seconds, plain_extractor, usual_extractor
from sftlib.models.files.folder import read_feature_extractor, read_tokenizer
from sftlib.models.files.strict import AUDIO_FILES, TOKENIZER_FILES
from sftlib.models.opening import open_feature_extractor, open_tokenizer
from sftlib.models.sources import ModelSource
from sftlib.support.checking import checked_fields, is_number, raise_together, real_number, whole_number

_LONGEST = 3600.0  # seconds


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Audio(Inputs):
    """Sounds, read through a feature extractor; drawn and augmented in training, never in evaluation.

    Args:
        seconds: of what the model is shown of a sound in training: of a longer one a window, another in every epoch;
            all of it when None. A model of Whisper's kind, which fills every sound up, is cut to this length.
        longest: seconds that go through the model at once in evaluation and prediction; a longer sound is cut into
            pieces, and what is said of them is put together.
        overlap: seconds that two neighbouring pieces share.
        augment: ``"none"``, ``"light"`` (loudness and short gaps), ``"medium"`` (speed too, and longer gaps), or
            augmentations of `sftlib.encoders.audio.augment`, in order.
        processor: a feature extractor of transformers, or the folder or name of one; the model's own when None. Of a
            model that is passed as an object it is the one that its kind was published with.
        tokenizer: of what is said, for models that write it; the model's own when None.
        sampling_rate: samples of a second that a `torch.nn.Module` of one's own hears; they come to it with mean 0 and
            deviation 1.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Audio(seconds=3, augment="light")
        Audio(seconds=3, longest=30.0, overlap=5.0, augment='light', processor=None, tokenizer=None, sampling_rate=None)
    """

    seconds: float | None = None
    longest: float = 30.0
    overlap: float = 5.0
    augment: str | Augmentation | Sequence[Augmentation] = "none"
    processor: Any = None
    tokenizer: Any = None
    sampling_rate: int | None = None

    def __post_init__(self) -> None:
        expected = f"a number of seconds above 0 and at most {_LONGEST:,.0f}"
        rate = self.sampling_rate
        raise_together(
            [
                self.seconds is not None
                and real_number("seconds", self.seconds, 0, _LONGEST, expected=f"{expected}, or None", ends=False),
                real_number("longest", self.longest, 0, _LONGEST, expected=expected, ends=False),
                real_number("overlap", self.overlap, 0, _LONGEST, expected="a number of seconds of at least 0"),
                rate is not None and whole_number("sampling_rate", rate, at_least=1000, at_most=384_000),
            ]
        )
        augmentations(self.augment)
        if rate is not None and self.processor is not None:
            raise OptionError("sampling_rate= and processor= do not go together: a feature extractor has its own rate")

    def open(self, source: ModelSource) -> AudioEncoder:
        extractor = self._extractor(source)
        if self.seconds is not None:
            extractor = of_seconds(extractor, math.ceil(self.seconds))
        return AudioEncoder(
            extractor,
            seconds=self.seconds,
            longest=self.longest,
            overlap=self.overlap,
            augment=augmentations(self.augment),
            texts=lambda: self.texts(source),
        )

    def texts(self, source: ModelSource) -> Any:
        """The tokenizer of what is said.

        Raises:
            OptionError: the model comes without one, and none was given.
            ArtifactError: it cannot be opened.
        """
        within = getattr(self.processor, "tokenizer", None)
        if self.tokenizer is not None:
            return open_tokenizer(self.tokenizer)
        own = source.tokenizer() if within is None else within
        if own is None:
            raise OptionError(
                f"a model that is passed as an object ({source.name}) comes without a tokenizer of what it writes; "
                "give one: Audio(tokenizer=...)"
            )
        return own

    def _extractor(self, source: ModelSource) -> Any:
        if self.processor is not None:
            return open_feature_extractor(self.processor, option="processor")
        if self.sampling_rate is not None:
            return plain_extractor(self.sampling_rate)
        own = source.feature_extractor()
        own = usual_extractor(source.config) if own is None else own
        if own is None:
            raise OptionError(
                f"inputs=Audio(): a model that is passed as an object ({source.name}) comes without a feature "
                "extractor; say what it hears, Audio(sampling_rate=16000), or give one, Audio(processor=...)"
            )
        return own

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> AudioEncoder:
        names, texts = ("sampling_rate", "longest", "overlap"), facts.get("tokenizer")
        good = facts.keys() == {*names, "tokenizer"} and isinstance(texts, bool)
        if not good or not all(is_number(facts[name]) and 0 <= facts[name] < 1e7 for name in names):
            raise ValueError(f"inputs: found {dict(facts)!r:.80}, expected {', '.join(names)}")
        encoder = AudioEncoder(read_feature_extractor(folder), longest=facts["longest"], overlap=facts["overlap"])
        if encoder.rate != facts["sampling_rate"]:
            raise ValueError(
                f"inputs: the feature extractor hears {encoder.rate:,} samples a second, expected "
                f"{facts['sampling_rate']:,}"
            )
        encoder.tokenizer = read_tokenizer(folder) if texts else None
        return encoder

    @classmethod
    def files(cls) -> frozenset[str]:
        return AUDIO_FILES | TOKENIZER_FILES
