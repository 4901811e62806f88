"""Models of real sizes with weights drawn at random, and texts for them: nothing is fetched.

Words are ``w0`` to ``w29999``, drawn as words of a language are: a few often, most seldom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

VOCABULARY = 30_000
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizer() -> Any:
    """A tokenizer of whole words, with BERT's special tokens."""
    words = [*_SPECIAL, *(f"w{i}" for i in range(VOCABULARY - len(_SPECIAL)))]
    made = tokenizers.Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, mask_token="[MASK]", eos_token="[SEP]", **names)


def texts(count: int, longest: int, *, seed: int = 0) -> list[str]:
    """Texts whose lengths differ as those of sentences do: half are shorter than a third of the longest."""
    drawn = np.random.default_rng(seed)
    lengths = np.clip(drawn.lognormal(np.log(longest / 4), 0.7, count), 2, longest - 2).astype(int)
    lengths[0] = longest - 2
    most = VOCABULARY - len(_SPECIAL)
    return [" ".join(f"w{min(most - 1, word - 1)}" for word in drawn.zipf(1.3, length)) for length in lengths]


TEXTS = texts(64, 512)


def sized(family: str, *, layers: int, width: int, auto_class: str = "AutoModelForSequenceClassification") -> Any:
    """A model of a family and its tokenizer, weights drawn from seed 0.

    Args:
        family: ``"bert"``, ``"modernbert"`` or ``"llama"``.
        layers: of the stack.
        width: of hidden states; heads have 64 features.
        auto_class: of transformers.
    """
    reads = tokenizer()
    heads = max(1, width // 64)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width if family != "llama" else 8 * width // 3 // 64 * 64,
        "pad_token_id": reads.pad_token_id,
        "num_labels": 2,
    }
    if family == "modernbert":
        shape |= dict.fromkeys(("cls_token_id", "bos_token_id"), 2)
        shape |= dict.fromkeys(("sep_token_id", "eos_token_id"), 3)
    if family == "llama":
        shape |= {"bos_token_id": 2, "eos_token_id": 3, "tie_word_embeddings": True, "max_position_embeddings": 2048}
    config = transformers.AutoConfig.for_model(family, **shape)
    torch.manual_seed(0)
    return getattr(transformers, auto_class).from_config(config), reads
