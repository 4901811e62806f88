"""Tiny models that listen, and what prepares sounds for them."""

from __future__ import annotations

from typing import Any

from transformers import ASTFeatureExtractor, PreTrainedModel, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.models.auto.configuration_auto import AutoConfig

from sftlib.support.checking import choice, raise_together
from sftlib.testing.models import built
from sftlib.testing.tokenizers import MAX_LENGTH, vocabulary

AUDIO_FAMILIES = ("wav2vec2", "hubert", "wavlm", "ast", "whisper")
AUDIO_SECONDS = 1  # that Whisper's kind listens to

_MELS = 16
_LINES = 40  # of a spectrogram, that AST's kind looks at
_KINDS = {"ast": "audio-spectrogram-transformer"}  # what transformers calls them
_SIDE = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}  # of Whisper's encoder, and of its decoder


def tiny_audio_config(family: str, *, num_labels: int = 2, dropout: float = 0.1) -> Any:
    """The configuration of one family at toy size; its tokens are those of `tiny_tokenizer`.

    Args:
        family: one of `AUDIO_FAMILIES`.
        num_labels: classes of a sound.
        dropout: at every site the family has, of whole layers too; 0 also turns masking off.

    Raises:
        OptionError: an unknown family.
    """
    raise_together([choice("family", family, AUDIO_FAMILIES)])
    drops = {"attention_dropout": dropout, "activation_dropout": dropout}
    sides = {f"{name}_{key}": size for name in ("encoder", "decoder") for key, size in _SIDE.items()}
    samples: dict[str, Any] = {
        **drops,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (5, 4, 4),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "classifier_proj_size": 16,
        "hidden_dropout": dropout,
        "feat_proj_dropout": dropout,
        "final_dropout": dropout,
        "layerdrop": dropout,
        "mask_time_prob": dropout / 2,
        "mask_time_length": 2,
        "ctc_loss_reduction": "sum",
        "pad_token_id": 0,
    }
    own: dict[str, dict[str, Any]] = {
        "wav2vec2": samples,
        "hubert": samples,
        "wavlm": samples,
        "ast": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "patch_size": 8,
            "frequency_stride": 4,
            "time_stride": 8,
            "max_length": _LINES,
            "num_mel_bins": _MELS,
        },
        "whisper": {
            **drops,
            **sides,
            "d_model": 32,
            "num_mel_bins": _MELS,
            "max_source_positions": 50 * AUDIO_SECONDS,
            "max_target_positions": MAX_LENGTH,
            "classifier_proj_size": 16,
            "dropout": dropout,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "decoder_start_token_id": 2,
            "suppress_tokens": [],
            "begin_suppress_tokens": [],
        },
    }
    words = {} if family == "ast" else {"vocab_size": len(vocabulary())}
    return AutoConfig.for_model(_KINDS.get(family, family), num_labels=num_labels, **words, **own[family])


def tiny_audio_model(
    family: str = "wav2vec2",
    num_labels: int = 2,
    dropout: float = 0.1,
    seed: int = 0,
    *,
    auto_class: str = "AutoModelForAudioClassification",
) -> PreTrainedModel:
    """A model of sounds with random weights: equal for equal arguments, torch's own generator untouched.

    Args:
        family: one of `AUDIO_FAMILIES`.
        num_labels: classes of a sound.
        dropout: at every site the family has.
        seed: of the weights.
        auto_class: the class of transformers that makes it, such as ``"AutoModelForCTC"`` or
            ``"AutoModelForSpeechSeq2Seq"``.

    Returns:
        The model in evaluation mode, as ``from_pretrained`` leaves it.

    Raises:
        OptionError: an unknown family.

    Example:
        >>> import torch
        >>> tiny_audio_model("wav2vec2", 3)(torch.zeros(1, 4000)).logits.shape
        torch.Size([1, 3])
    """
    return built(tiny_audio_config(family, num_labels=num_labels, dropout=dropout), auto_class, seed)


def tiny_feature_extractor(family: str = "wav2vec2") -> Any:
    """What makes the inputs of a family out of samples at 16 kHz; Whisper's hears up to a second, AST's 0.4 s.

    Args:
        family: one of `AUDIO_FAMILIES`.

    Raises:
        OptionError: an unknown family.
    """
    raise_together([choice("family", family, AUDIO_FAMILIES)])
    if family == "whisper":
        return WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
            feature_size=_MELS, chunk_length=AUDIO_SECONDS
        )
    if family == "ast":
        return ASTFeatureExtractor(num_mel_bins=_MELS, max_length=_LINES)  # type: ignore[no-untyped-call]
    return Wav2Vec2FeatureExtractor(return_attention_mask=True)  # type: ignore[no-untyped-call]
