"""What tests need, and notebooks that are to run anywhere: tiny models, made on the spot, and data that can be learned.

::

    tokenizers.py      a tiny tokenizer, and sentences it knows the words of
    models.py          tiny language models of every family, and folders as the hub has them
    image_models.py    tiny models that look, and their image processors
    audio_models.py    tiny models that listen, and their feature extractors
    pictures.py        pictures of shapes
    waves.py           sounds of a few pitches
    processes.py       several processes inside this one, with every exchange counted

Nothing is downloaded, and equal arguments make equal things. The package itself never imports this.
"""

from __future__ import annotations

from sftlib.testing.audio_models import AUDIO_FAMILIES, tiny_audio_config, tiny_audio_model, tiny_feature_extractor
from sftlib.testing.image_models import IMAGE_FAMILIES, tiny_image_config, tiny_image_model, tiny_image_processor
from sftlib.testing.models import (
    DECODERS,
    ENCODERS,
    FAMILIES,
    LANGUAGE_MODELS,
    TWO_STACKS,
    tiny_config,
    tiny_folder,
    tiny_model,
)
from sftlib.testing.pictures import SHAPES, pictures, write_pictures
from sftlib.testing.processes import Exchange, FakeProcesses
from sftlib.testing.tokenizers import MAX_LENGTH, SENTENCES, SPECIAL, tiny_speech_tokenizer, tiny_tokenizer
from sftlib.testing.waves import SOUNDS, waves, write_waves

__all__ = [
    "AUDIO_FAMILIES",
    "DECODERS",
    "ENCODERS",
    "FAMILIES",
    "IMAGE_FAMILIES",
    "LANGUAGE_MODELS",
    "MAX_LENGTH",
    "SENTENCES",
    "SHAPES",
    "SOUNDS",
    "SPECIAL",
    "TWO_STACKS",
    "Exchange",
    "FakeProcesses",
    "pictures",
    "tiny_audio_config",
    "tiny_audio_model",
    "tiny_config",
    "tiny_feature_extractor",
    "tiny_folder",
    "tiny_image_config",
    "tiny_image_model",
    "tiny_image_processor",
    "tiny_model",
    "tiny_speech_tokenizer",
    "tiny_tokenizer",
    "waves",
    "write_pictures",
    "write_waves",
]
