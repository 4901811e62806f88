"""A model's own files in a saved folder, in the layout that transformers opens too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from torch import nn

from sftlib.models.backbone import Head, seeded
from sftlib.models.opening import quiet

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

#: Keys of a config that could make transformers import code or choose kernels; ours never have them.
_REFUSED = ("auto_map", "custom_pipelines", "trust_remote_code", "quantization_config")


def is_transformers_model(model: nn.Module) -> bool:
    """Whether transformers can build the model from its config alone."""
    return isinstance(model, transformers.PreTrainedModel) and type(model).__module__.startswith("transformers.")


def write_model(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write weights, config and tokenizer; never a pickle."""
    safetensors.torch.save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
    if is_transformers_model(model):
        model.config.architectures = [type(model).__name__]  # type: ignore[union-attr]
        model.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
    tokenizer.save_pretrained(folder)


def read_model(folder: Path, head: Head) -> nn.Module:
    """Build a model from its config and fill it; nothing in the folder is executed.

    Args:
        folder: verified already.
        head: what the folder's task needs; decides the class, whatever the folder says.

    Raises:
        ValueError: the config asks for something else, or the weights do not fit.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    refused = [key for key in _REFUSED if key in config]
    model_type = config.pop("model_type", None)
    if refused or model_type not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"{CONFIG} has {', '.join(refused) or f'model_type {model_type!r}'}, which is not allowed here"
        )
    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    with quiet(), seeded(0):  # weights are drawn before they are filled: not from the user's generator
        built = transformers.AutoConfig.for_model(model_type, **plain)
        model: nn.Module = getattr(transformers, head.auto_class).from_config(
            built, dtype=torch.float32, trust_remote_code=False
        )
    fill_model(model, folder)
    return model


def fill_model(model: nn.Module, folder: Path) -> None:
    """Put the folder's weights into a model.

    Raises:
        ValueError: names or shapes do not fit.
    """
    try:
        safetensors.torch.load_model(model, str(folder / WEIGHTS), strict=True)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{WEIGHTS} does not fit {type(model).__name__}{_difference(model, folder)}") from error


def _difference(model: nn.Module, folder: Path) -> str:
    """The first weights by which a model and a file differ."""
    try:
        with safetensors.safe_open(str(folder / WEIGHTS), framework="pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        return f": {error}"
    own = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    shapes = [
        f"{name} has {stored[name]} there, {own[name]} here"
        for name in own
        if name in stored and stored[name] != own[name]
    ]
    only = [f"{name} is not there" for name in own if name not in stored]
    more = [f"{name} is not here" for name in stored if name not in own]
    found = [*shapes, *only, *more]
    return f": {'; '.join(found[:3])}" + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def read_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer."""
    with quiet():
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
