"""From what a user calls a model to its source, and what kind of model that is."""

from __future__ import annotations

import os

import transformers
from torch import nn

from sftlib.errors import OptionError
from sftlib.models.pretrained import Pretrained
from sftlib.models.sources.base import ModelSource
from sftlib.models.sources.new import NEW, NewSource
from sftlib.models.sources.objects import ModuleSource, ObjectSource
from sftlib.models.sources.pretrained import PretrainedSource
from sftlib.support.checking import nearest, raise_together


def open_source(model: object) -> ModelSource:
    """What a user calls a model: a name, a folder, a `Pretrained`, a transformers model, any module, or "new:encoder".

    Args:
        model: as the user gave it.

    Raises:
        ArtifactError: a path that does not exist.
        OptionError: something that is not a model.
    """
    model = _unwrapped(model)
    if isinstance(model, Pretrained):
        return PretrainedSource(
            os.fspath(model.name),
            gguf_file=model.gguf_file,
            quantize=model.quantize,
            pooling=model.pooling,
            layers=model.layers,
        )
    if isinstance(model, str) and model.startswith("new:"):
        raise_together([None if model == NEW else f"model={model!r}: {nearest(model, [NEW])}"])
        return NewSource()
    if isinstance(model, str | os.PathLike):
        return PretrainedSource(os.fspath(model))
    if isinstance(model, transformers.PreTrainedModel) and type(model).__module__.startswith("transformers."):
        return ObjectSource(model)
    if isinstance(model, nn.Module):
        return ModuleSource(model)
    kind = "a class; pass an object" if isinstance(model, type) else type(model).__name__
    raise OptionError(f"model={model!r:.60}: expected a model's name, its folder, or a torch.nn.Module, not {kind}")


def _unwrapped(model: object) -> object:
    """The model inside a `PeftModel`; anything else as it is.

    Raises:
        OptionError: what was learned lies outside of that model.
    """
    if not hasattr(model, "get_base_model") or not type(model).__module__.startswith("peft."):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):  # type: ignore[attr-defined]
        raise OptionError(
            f"model={type(model).__name__}: its adapter adds tokens to the input rather than layers to the model, and "
            "cannot be taken over; pass its base: model.get_base_model()"
        )
    return model.get_base_model()


def pretraining_of(source: ModelSource) -> str:
    """How a model goes on learning from plain texts: encoders by ``"masked-lm"``, decoders by ``"causal-lm"``.

    Raises:
        OptionError: it can do neither.
    """
    config = source.config
    if config is not None and not getattr(config, "is_encoder_decoder", False):
        if type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING:
            return "masked-lm"
        if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            return "causal-lm"
    raise OptionError(
        f"adapt: model={source.name} cannot go on learning from plain texts; that takes an encoder or a decoder of "
        "transformers with a head for its vocabulary"
    )
