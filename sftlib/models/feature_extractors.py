"""Feature extractors of transformers, which make of samples what a model hears; without torchaudio and librosa."""

from __future__ import annotations

import os
from typing import Any

import transformers
from transformers.models.auto import feature_extraction_auto

_HZ = 16_000  # at which nearly all published models hear
_POSITIONS_A_SECOND = 50  # of Whisper's encoder


def saved_extractor(where: str | os.PathLike[str], *, local: bool) -> Any:
    """The feature extractor of a folder, or of a name on the hub.

    Raises:
        OSError: there is none, or it is not one that transformers knows.
    """
    return transformers.AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
        where, trust_remote_code=False, local_files_only=local
    )


def known_extractors() -> set[str]:
    """The classes of feature extractors that transformers itself has, by name."""
    names: Any = vars(feature_extraction_auto)["FEATURE_EXTRACTOR_MAPPING_NAMES"]
    return {name for name in names.values() if isinstance(name, str)}


def is_extractor(given: object) -> bool:
    """Whether an object is a feature extractor of sounds."""
    return isinstance(given, transformers.SequenceFeatureExtractor)


def plain_extractor(sampling_rate: int = _HZ) -> Any:
    """A feature extractor for a model that hears samples: they are brought to mean 0 and deviation 1."""
    return transformers.Wav2Vec2FeatureExtractor(  # type: ignore[no-untyped-call]
        sampling_rate=sampling_rate, return_attention_mask=True
    )


def usual_extractor(config: Any) -> Any:
    """The feature extractor that models with such a config were published with; None where nobody can say.

    Args:
        config: of a model of transformers, or None.
    """
    kind = getattr(config, "model_type", None)
    if kind == "whisper":
        seconds = config.max_source_positions // _POSITIONS_A_SECOND
        return transformers.WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
            feature_size=config.num_mel_bins, chunk_length=seconds
        )
    if kind == "audio-spectrogram-transformer":
        return transformers.ASTFeatureExtractor(  # type: ignore[no-untyped-call]
            num_mel_bins=config.num_mel_bins, max_length=config.max_length
        )
    return plain_extractor() if getattr(config, "conv_stride", None) and hasattr(config, "feat_extract_norm") else None


def of_seconds(extractor: Any, seconds: int) -> Any:
    """An extractor of Whisper's kind for shorter sounds; any other as it is."""
    if getattr(extractor, "chunk_length", None) is None or not hasattr(extractor, "nb_max_frames"):
        return extractor
    if seconds >= extractor.chunk_length:
        return extractor
    made = ("n_samples", "nb_max_frames", "chunk_length")  # of which the first two follow from the last
    settings = {name: value for name, value in extractor.to_dict().items() if name not in made}
    return type(extractor)(**settings, chunk_length=seconds)
