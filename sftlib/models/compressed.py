"""Weights in fewer bits: GGUF files, which are opened in full precision, and bases that stay quantised on a GPU."""

from __future__ import annotations

import os
from typing import Any

import torch
import transformers

from sftlib.errors import ArtifactError
from sftlib.support.checking import nearest
from sftlib.support.extras import require

_SUFFIX = ".gguf"


def is_gguf(name: str) -> bool:
    """Whether a file is called as GGUF files are.

    Example:
        >>> is_gguf("SmolLM2.Q4_1.gguf")
        True
    """
    return name.lower().endswith(_SUFFIX)


def gguf_problem(value: object) -> str | None:
    """What is wrong with a value of ``gguf_file=``, as far as that can be known without a model.

    Raises:
        MissingExtraError: the package that reads such files is not installed.

    Example:
        >>> gguf_problem("../model.gguf")
        "gguf_file='../model.gguf': expected the name of a .gguf file in the model's folder, without a path, or None"
    """
    if value is None:
        return None
    if not isinstance(value, str) or not is_gguf(value) or os.path.basename(value) != value or "\\" in value:
        return (
            f"gguf_file={value!r:.60}: expected the name of a {_SUFFIX} file in the model's folder, without a path, "
            "or None"
        )
    require("gguf", extra="gguf", purpose="gguf_file=")
    return None


def check_gguf(folder: str, name: str) -> None:
    """Refuse a file that a folder does not hold.

    Raises:
        ArtifactError: naming what it holds instead.
    """
    if os.path.isfile(os.path.join(folder, name)):
        return
    others = sorted(item for item in os.listdir(folder) if is_gguf(item))
    hint = f"; {nearest(name, others)}" if others else f"; it holds no {_SUFFIX} file at all"
    raise ArtifactError(f"gguf_file={name!r}: there is no such file in {folder!r}{hint}")


def as_described(tokenizer: Any) -> Any:
    """A tokenizer of a GGUF file in the class that knows nothing but what it is told.

    Transformers 5.0 opens that of a Llama as one of Code Llama: it takes the first token of a text for the last, knows
    no padding, and splits words another way when it is read back from a folder.
    """
    plain: Any = transformers.PreTrainedTokenizerFast
    if type(tokenizer) is plain:
        return tokenizer
    marks = {}
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        number = tokenizer.init_kwargs.get(f"{role}_id")  # as the file has it
        if isinstance(number, int) and 0 <= number < len(tokenizer):
            marks[role] = tokenizer.convert_ids_to_tokens(number)
    return plain(tokenizer_object=tokenizer.backend_tokenizer, chat_template=tokenizer.chat_template, **marks)


def gguf_hint(folder: str) -> str:
    """How to open the GGUF file of a folder, where there is one."""
    found = sorted(item for item in os.listdir(folder) if is_gguf(item)) if os.path.isdir(folder) else []
    return f"; to open the GGUF file in it: Pretrained({folder!r}, gguf_file={found[0]!r})" if found else ""


def quantize_problem(value: object, *, adapter: object, device: object) -> str | None:
    """What is wrong with a value of ``quantize=`` for this adapter, on this machine.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if value is None:
        return None
    if adapter is None:
        return f"quantize={value!r}: quantised weights cannot be trained; add adapter='lora'"
    if not torch.cuda.is_available() or str(device).partition(":")[0] not in ("auto", "cuda"):
        where = f"device={str(device)!r}" if torch.cuda.is_available() else "this machine has none"
        return f"quantize={value!r}: needs a CUDA GPU, and {where}; leave it out, or use a smaller model"
    require("bitsandbytes", extra="quantize", purpose="quantize=")
    return None


def weights_as(quantize: str | None, *, gguf: bool) -> dict[str, Any]:
    """What ``from_pretrained`` is told of the form that weights take in memory."""
    if gguf:
        config = getattr(transformers, "GgufConfig", None)  # before it came, such files were always opened in full
        return {} if config is None else {"quantization_config": config(dequantize=True)}
    if quantize is None:
        return {}
    settings: dict[str, Any] = {"load_in_8bit": True}
    if quantize == "4bit":  # NormalFloat, with its scales quantised too (Dettmers et al., 2023)
        wide = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        kind = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": wide}
        settings = {"load_in_4bit": True, **kind}
    config = transformers.BitsAndBytesConfig(**settings)  # type: ignore[no-untyped-call]
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}
