"""Tiny random models and a tiny real tokenizer, made on the spot: nothing is downloaded.

A model has two layers of width 32, so that a training step takes milliseconds, and real dropout, so that tests of
randomness have something to find. All families share one WordPiece vocabulary of some 200 entries.
"""

from __future__ import annotations

import functools
import re
import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import EncoderDecoderConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import AutoConfig

ENCODERS = ("bert", "roberta", "distilbert", "deberta-v2", "electra", "albert", "mpnet", "modernbert")
DECODERS = ("gpt2", "llama")
FAMILIES = ENCODERS + DECODERS
TWO_STACKS = ("t5", "bart", "marian", "encoder-decoder")
LANGUAGE_MODELS = (*DECODERS, "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "cohere", "granite")

MAX_LENGTH = 64  # tokens that every family can read
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # ids 0 to 4

SENTENCES = (
    "A wonderful film, warm and funny from start to end.",
    "A dull film, cold and slow from start to end.",
    "I loved the story, the music and every actor in it.",
    "I hated the story, the noise and every minute of it.",
    "The best picture of the year, a great joy to watch.",
    "The worst picture of the year, a great pain to watch.",
    "Not bad at all, but far too long for such a small idea.",
    "Nothing works: bad jokes, bad acting and an awful ending.",
    "A clever script makes this quiet drama a pleasure.",
    "A lazy script makes this loud drama a bore.",
    "What a beautiful, moving and honest piece of work!",
    "What an ugly, empty and dishonest piece of work!",
    "My card has not arrived yet, where is it?",
    "How do I change the PIN of my card?",
    "Please cancel the transfer of 100 pounds I made on Monday.",
    "Why was I charged twice for one payment?",
)


@functools.cache
def _vocabulary() -> dict[str, int]:
    """Special tokens, characters, a few endings, and every word of the sentences.

    Written down by rule rather than trained: the trainers of ``tokenizers`` break ties by the order of a hash map, so
    two processes would get two vocabularies.
    """
    words = {word for word in re.findall(r"[a-z]+", " ".join(SENTENCES).lower()) if len(word) > 1}
    characters = list(string.ascii_lowercase + string.digits)
    pieces = [
        *characters,
        *string.punctuation,
        *(f"##{c}" for c in characters),
        "##ing",
        "##ed",
        "##er",
        "##ly",
        "##es",
    ]
    return {entry: index for index, entry in enumerate([*SPECIAL, *pieces, *sorted(words)])}


def tiny_tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that lowercases, with a vocabulary of a few hundred entries.

    Encoders get ``[CLS] text [SEP] pair [SEP]``. Decoders get no template and, as GPT-2 and Llama do, no pad token:
    ``[SEP]`` is their end of text. Families that tell the two texts of a pair apart also get ``token_type_ids``.
    """
    tokenizer = Tokenizer(models.WordPiece(_vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    with_types = ["token_type_ids"] if family in ("bert", "electra", "albert", "deberta-v2") else []
    names = ["input_ids", *with_types, "attention_mask"]
    if family in LANGUAGE_MODELS:
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            unk_token="[UNK]",
            eos_token="[SEP]",
            model_max_length=MAX_LENGTH,
            model_input_names=names,
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]"} if family in ("t5", "bart", "marian") else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **ends,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
        model_input_names=names,
    )


def tiny_config(family: str, *, num_labels: int = 2, dropout: float = 0.1) -> Any:
    """The configuration of one family at toy size; ``dropout`` is set at every site the family has."""
    known = (*ENCODERS, *LANGUAGE_MODELS, *TWO_STACKS)
    if family not in known:
        raise ValueError(f"family={family!r}: known: {', '.join(known)}")
    if family == "encoder-decoder":
        sides = [tiny_config("bert", dropout=dropout) for _ in range(2)]
        return EncoderDecoderConfig.from_encoder_decoder_configs(*sides)
    positions = MAX_LENGTH + 2  # RoBERTa-like models start counting at pad_token_id + 1
    common: dict[str, Any] = {"vocab_size": len(_vocabulary()), "num_labels": num_labels}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    usual = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
    }
    hidden = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    own: dict[str, dict[str, Any]] = {
        "bert": {**usual, **hidden, "classifier_dropout": dropout},
        "roberta": {**usual, **hidden, **ids, "classifier_dropout": dropout},
        "electra": {**usual, **hidden, "embedding_size": 16, "classifier_dropout": dropout},
        "albert": {**usual, **hidden, "embedding_size": 16, "classifier_dropout_prob": dropout},
        "mpnet": {**usual, **hidden, **ids},
        "deberta-v2": {
            **usual,
            **hidden,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": 32,
            "cls_dropout": dropout,
            "pooler_dropout": dropout,
        },
        "distilbert": {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
            "max_position_embeddings": positions,
            "dropout": dropout,
            "attention_dropout": dropout,
            "seq_classif_dropout": dropout,
        },
        "modernbert": {
            **usual,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "local_attention": 16,
            "global_attn_every_n_layers": 2,
            "embedding_dropout": dropout,
            "attention_dropout": dropout,
            "mlp_dropout": dropout,
            "classifier_dropout": dropout,
        },
        "gpt2": {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": positions,
            "bos_token_id": 3,
            "eos_token_id": 3,
            "resid_pdrop": dropout,
            "embd_pdrop": dropout,
            "attn_pdrop": dropout,
        },
        **{
            family: {
                **usual,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "bos_token_id": 3,
                "eos_token_id": 3,
                "pad_token_id": 0,
                "attention_dropout": dropout,
                **more,
            }
            for family, more in (
                ("qwen2", {}),
                ("qwen3", {}),
                ("gemma", {}),
                ("gemma2", {"final_logit_softcapping": 3.0, "sliding_window": 16, "query_pre_attn_scalar": 16}),
                ("gemma3_text", {"sliding_window": 16, "layer_types": _LOCAL_AND_GLOBAL, "query_pre_attn_scalar": 16}),
                ("cohere", {"logit_scale": 0.25}),
                ("granite", {"logits_scaling": 4.0}),
            )
        },
        "llama": {
            **usual,
            "num_key_value_heads": 1,
            "bos_token_id": 3,
            "eos_token_id": 3,
            "attention_dropout": dropout,
        },
    }
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in _SIDE.items()}
    drops = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    bart = {"d_model": 32, **sides, **drops, **ids, "max_position_embeddings": positions}
    own["bart"] = {**bart, "decoder_start_token_id": 3, "forced_eos_token_id": None}
    own["marian"] = {**bart, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    own["t5"] = {
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 2,
        "dropout_rate": dropout,
        **ids,
        "decoder_start_token_id": 0,
    }
    return AutoConfig.for_model(family, **common, **own[family])


_LOCAL_AND_GLOBAL = ["sliding_attention", "full_attention"]
_SIDE = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}  # of BART's encoder, and of its decoder


def tiny_model(
    family: str = "bert",
    num_labels: int = 2,
    dropout: float = 0.1,
    seed: int = 0,
    *,
    auto_class: str = "AutoModelForSequenceClassification",
) -> PreTrainedModel:
    """A model with random weights: equal for equal arguments, torch's own generator untouched.

    It is in evaluation mode, as ``from_pretrained`` leaves it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = tiny_config(family, num_labels=num_labels, dropout=dropout)
        return getattr(transformers, auto_class).from_config(config).eval()


def tiny_folder(
    folder: str | Path,
    family: str = "bert",
    num_labels: int = 2,
    *,
    dropout: float = 0.1,
    seed: int = 0,
    auto_class: str = "AutoModelForSequenceClassification",
) -> str:
    """Save model and tokenizer as a model folder of the hub has them; returns its path."""
    tiny_model(family, num_labels, dropout, seed, auto_class=auto_class).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return str(folder)
