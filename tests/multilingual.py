"""A model with the vocabulary of a multilingual one, 250,000 tokens, and rows that use few of them."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForSequenceClassification

VOCABULARY = 250_000
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # ids 0 to 3, as XLM-R has them


def multilingual_tokenizer() -> PreTrainedTokenizerFast:
    """Words ``w4`` to ``w249999``, each a token."""
    words = {**{token: number for number, token in enumerate(_SPECIAL)}, **{f"w{i}": i for i in range(4, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )


def multilingual_model(width: int, layers: int = 1) -> XLMRobertaForSequenceClassification:
    """XLM-R of this width, with random weights."""
    torch.manual_seed(0)
    return XLMRobertaForSequenceClassification(
        XLMRobertaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 32),
            intermediate_size=4 * width,
            max_position_embeddings=514,
            type_vocab_size=1,
        )
    )


def multilingual_rows(count: int) -> list[dict[str, object]]:
    """Rows of 5 to 50 words, frequent ones and rare ones from the whole vocabulary, with two labels."""
    numbers = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i in range(count):
        ranks = np.exp(numbers.uniform(0, np.log(VOCABULARY - 4), numbers.integers(5, 50))).astype(int)
        scattered = 4 + (ranks * 7_919) % (VOCABULARY - 4)
        rows.append({"text": " ".join(f"w{token}" for token in scattered), "label": i % 2})
    return rows
