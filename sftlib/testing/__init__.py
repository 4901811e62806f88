"""What tests need, and notebooks that are to run anywhere: tiny models, made on the spot, and data that can be learned.

::

    tokenizers.py      a tiny tokenizer, and sentences it knows the words of
    models.py          tiny language models of every family, and folders as the hub has them

Nothing is downloaded, and equal arguments make equal things. The package itself never imports this.
"""

from __future__ import annotations

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
from sftlib.testing.tokenizers import MAX_LENGTH, SENTENCES, SPECIAL, tiny_tokenizer

__all__ = [
    "DECODERS",
    "ENCODERS",
    "FAMILIES",
    "LANGUAGE_MODELS",
    "MAX_LENGTH",
    "SENTENCES",
    "SPECIAL",
    "TWO_STACKS",
    "tiny_config",
    "tiny_folder",
    "tiny_model",
    "tiny_tokenizer",
]
