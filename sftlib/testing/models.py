"""Tiny language models with random weights: their configs, the models, and folders as the hub has them.

A model has two layers of width 32, so that a training step takes milliseconds, and real dropout, so that tests of
randomness have something to find. All families share the vocabulary of `tiny_tokenizer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import EncoderDecoderConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig

from sftlib.errors import OptionError
from sftlib.support.checking import choice, raise_together
from sftlib.testing.tokenizers import MAX_LENGTH, WITHOUT_TEMPLATE, tiny_tokenizer, vocabulary

ENCODERS = ("bert", "roberta", "distilbert", "deberta-v2", "electra", "albert", "mpnet", "modernbert")
DECODERS = ("gpt2", "llama")
FAMILIES = ENCODERS + DECODERS
TWO_STACKS = ("t5", "bart", "marian", "encoder-decoder")
LANGUAGE_MODELS = WITHOUT_TEMPLATE  # GPT-2, Llama and those built like it

_POSITIONS = MAX_LENGTH + 2  # RoBERTa-like models start counting at pad_token_id + 1
_USUAL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": _POSITIONS,
}
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_LOCAL_AND_GLOBAL = ["sliding_attention", "full_attention"]
_LIKE_LLAMA: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"final_logit_softcapping": 3.0, "sliding_window": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {"sliding_window": 16, "layer_types": _LOCAL_AND_GLOBAL, "query_pre_attn_scalar": 16},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
}


def tiny_config(family: str, *, num_labels: int = 2, dropout: float = 0.1) -> Any:
    """The configuration of one family at toy size.

    Args:
        family: one of `ENCODERS`, `LANGUAGE_MODELS` and `TWO_STACKS`.
        num_labels: width of a head for classification.
        dropout: at every site the family has.

    Raises:
        OptionError: an unknown family.
    """
    raise_together([choice("family", family, (*ENCODERS, *LANGUAGE_MODELS, *TWO_STACKS))])
    if family == "encoder-decoder":
        sides = [tiny_config("bert", dropout=dropout) for _ in range(2)]
        return EncoderDecoderConfig.from_encoder_decoder_configs(*sides)
    own = {**_encoders(dropout), **_decoders(dropout), **_two_stacks(dropout)}[family]
    return AutoConfig.for_model(family, vocab_size=len(vocabulary()), num_labels=num_labels, **own)


def _encoders(dropout: float) -> dict[str, dict[str, Any]]:
    like_bert = {**_USUAL, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return {
        "bert": {**like_bert, "classifier_dropout": dropout},
        "roberta": {**like_bert, **_IDS, "classifier_dropout": dropout},
        "electra": {**like_bert, "embedding_size": 16, "classifier_dropout": dropout},
        "albert": {**like_bert, "embedding_size": 16, "classifier_dropout_prob": dropout},
        "mpnet": {**like_bert, **_IDS},
        "deberta-v2": {
            **like_bert,
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
            "max_position_embeddings": _POSITIONS,
            "dropout": dropout,
            "attention_dropout": dropout,
            "seq_classif_dropout": dropout,
        },
        "modernbert": {
            **_USUAL,
            **_IDS,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "local_attention": 16,
            "global_attn_every_n_layers": 2,
            "embedding_dropout": dropout,
            "attention_dropout": dropout,
            "mlp_dropout": dropout,
            "classifier_dropout": dropout,
        },
    }


def _decoders(dropout: float) -> dict[str, dict[str, Any]]:
    ends = {"bos_token_id": 3, "eos_token_id": 3}
    llama = {**_USUAL, **ends, "num_key_value_heads": 1, "attention_dropout": dropout}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": _POSITIONS, **ends}
    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    others = {name: {**llama, "head_dim": 16, "pad_token_id": 0, **more} for name, more in _LIKE_LLAMA.items()}
    return {"gpt2": {**gpt2, **drops}, "llama": llama, **others}


def _two_stacks(dropout: float) -> dict[str, dict[str, Any]]:
    side = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
    sides = {f"{name}_{key}": size for name in ("encoder", "decoder") for key, size in side.items()}
    drops = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    bart = {"d_model": 32, **sides, **drops, **_IDS, "max_position_embeddings": _POSITIONS}
    t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": dropout}
    return {
        "bart": {**bart, "decoder_start_token_id": 3, "forced_eos_token_id": None},
        "marian": {**bart, "decoder_start_token_id": 0, "forced_eos_token_id": None},
        "t5": {**t5, **_IDS, "decoder_start_token_id": 0},
    }


def tiny_model(
    family: str = "bert",
    num_labels: int = 2,
    dropout: float = 0.1,
    seed: int = 0,
    *,
    auto_class: str = "AutoModelForSequenceClassification",
) -> PreTrainedModel:
    """A model with random weights: equal for equal arguments, torch's own generator untouched.

    Args:
        family: one of `ENCODERS`, `LANGUAGE_MODELS` and `TWO_STACKS`.
        num_labels: width of a head for classification.
        dropout: at every site the family has.
        seed: of the weights.
        auto_class: the class of transformers that makes it, such as ``"AutoModelForCausalLM"``.

    Returns:
        The model in evaluation mode, as ``from_pretrained`` leaves it.

    Raises:
        OptionError: an unknown family.

    Example:
        >>> tiny_model("llama", auto_class="AutoModelForCausalLM").num_parameters() < 50_000
        True
    """
    return built(tiny_config(family, num_labels=num_labels, dropout=dropout), auto_class, seed)


def built(config: Any, auto_class: str, seed: int) -> PreTrainedModel:
    """A model of this config with random weights, in evaluation mode; torch's own generator is untouched.

    Raises:
        OptionError: transformers has no such class.
    """
    found = getattr(transformers, auto_class, None)
    if found is None:
        raise OptionError(f"auto_class={auto_class!r}: transformers has no class of that name")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = found.from_config(config).eval()
    return model


def tiny_folder(
    folder: str | Path,
    family: str = "bert",
    num_labels: int = 2,
    *,
    dropout: float = 0.1,
    seed: int = 0,
    auto_class: str = "AutoModelForSequenceClassification",
) -> str:
    """Save a model and its tokenizer as a model folder of the hub has them.

    Args:
        folder: to write to; made where it is not there.
        family: as of `tiny_model`, and so are the rest.
        num_labels: width of a head for classification.
        dropout: at every site the family has.
        seed: of the weights.
        auto_class: the class of transformers that makes it.

    Returns:
        The path.
    """
    tiny_model(family, num_labels, dropout, seed, auto_class=auto_class).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return str(folder)
