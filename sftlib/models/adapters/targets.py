"""Where an adapter goes: which layers get one, and what is trained whole beside it."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from sftlib.errors import OptionError
from sftlib.models.adapters.kinds import EVERYTHING, LoRA, as_lora
from sftlib.models.structure import body_of

_TASKS = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModel": "FEATURE_EXTRACTION",
}


def settled(model: nn.Module, adapter: Any, head: str, drawn: Collection[str], frozen: Collection[str]) -> Any:
    """The config of `peft` for this very model."""
    config = as_lora(adapter).config() if isinstance(adapter, str | LoRA) else copy.deepcopy(adapter)
    for field in ("target_modules", "exclude_modules", "feedforward_modules"):
        setattr(config, field, _as_names(model, config, getattr(config, field, None)))
    asked = [name for name, _ in model.named_modules() if _hit(name, config.modules_to_save or ())]
    whole = _outermost([*_trained_whole(model, drawn), *asked])
    whole = [part for name in whole for part in _told_apart(model, name)]
    layers = dict(_linear_layers(model, whole))
    closed = [name for name in layers if f"{name}.weight" in frozen]
    if config.target_modules == EVERYTHING:
        wanted = [name for name in layers if name not in closed]
        if not wanted:
            raise OptionError(f"adapter={adapter!r:.60}: {_no_layers(model, bool(layers))}")
        config.target_modules = sorted(_shortened(wanted, model))
    left_out = [name for name in closed if config.target_modules is None or _hit(name, config.target_modules)]
    config.exclude_modules = [*(config.exclude_modules or ()), *left_out] or None
    if hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = bool(layers) and all(type(layer).__name__ == "Conv1D" for layer in layers.values())
    config.modules_to_save = whole or None
    config.task_type = config.task_type or _TASKS.get(head)
    config.base_model_name_or_path, config.inference_mode = None, False
    return config


def _as_names(model: nn.Module, config: Any, given: Any) -> Any:
    """Names of modules for what a config says of them: `peft` takes a text for a regular expression."""
    if given is None or given == EVERYTHING:
        return given
    if isinstance(given, str):
        try:
            found = [name for name, _ in model.named_modules() if name and re.fullmatch(given, name)]
        except re.error as error:
            raise OptionError(
                f"adapter={type(config).__name__}: {given!r:.60} is no regular expression: {error}"
            ) from None
        return _shortened(found, model)
    return sorted(given) if isinstance(given, set) else list(given)


def _outermost(names: list[str]) -> list[str]:
    """Each once, and none that lies within another."""
    return [name for name in dict.fromkeys(names) if not any(name.startswith(f"{other}.") for other in names)]


def _told_apart(model: nn.Module, name: str) -> list[str]:
    """A module to train whole, or its children: `peft` asks how names end, and takes what ends alike within it too."""
    module = model.get_submodule(name)
    alike = [part for part, _ in module.named_modules(prefix=name) if part != name and part.endswith(name)]
    if not alike:
        return [name]
    if any(True for _ in module.parameters(recurse=False)):
        raise OptionError(
            f"adapter=: {name!r} cannot be trained whole, as it has weights of its own and holds {alike[0]!r}, which "
            "ends alike; name the parts of it in modules_to_save"
        )
    children = [f"{name}.{child}" for child, part in module.named_children() if any(True for _ in part.parameters())]
    return [part for child in children for part in _told_apart(model, child)]


def train_new_rows(model: Any, config: Any, tokens: Sequence[int]) -> None:
    """Have the embeddings of new tokens trained, and saved with the adapter."""
    if not tokens:
        return
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table)
    if not hasattr(config, "trainable_token_indices"):
        config.modules_to_save = [*(config.modules_to_save or ()), name]
    elif config.trainable_token_indices is None:
        config.trainable_token_indices = {name: list(tokens)}
    else:
        given = config.trainable_token_indices
        named = given if isinstance(given, Mapping) else {name: given}
        config.trainable_token_indices = {part: sorted({*ids, *tokens}) for part, ids in named.items()}


def _trained_whole(model: nn.Module, drawn: Collection[str]) -> list[str]:
    """Modules that are trained and saved whole: the head, unless it is a language model's, and what is new."""
    body, table = _body(model)
    if body is None:
        return []
    heads = [
        name
        for name, child in model.named_children()
        if body is not model
        and child is not body
        and table not in set(child.modules())
        and any(True for _ in child.parameters())
    ]
    return _outermost([*heads, *(parent for name in drawn if (parent := name.rpartition(".")[0]))])


def _linear_layers(model: nn.Module, whole: Collection[str]) -> Iterator[tuple[str, nn.Module]]:
    """Every matrix of the body that an adapter can stand beside."""
    body, table = _body(model)
    inside = set() if body is None else set(body.modules()) - {table}
    for name, module in model.named_modules():
        is_linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        if module in inside and is_linear and not any(_under(name, part) for part in whole):
            yield name, module


def _body(model: Any) -> tuple[nn.Module | None, nn.Module | None]:
    """The pretrained body, and a language model's own head; T5, or a model without a head, is its own body."""
    table = getattr(model, "get_output_embeddings", lambda: None)()
    return body_of(model) or (model if getattr(model, "base_model", None) is model else None), table


def _no_layers(model: nn.Module, any_at_all: bool) -> str:
    if any_at_all:
        return "every linear layer is frozen, and frozen layers get no adapter; freeze less, or leave adapter= out"
    return (
        f"the linear layers of {type(model).__name__} cannot be told from its head; name them: "
        "LoRA(targets=[...]), or a config of peft with target_modules and modules_to_save"
    )


def _shortened(names: list[str], model: nn.Module) -> list[str]:
    """The last parts of names where they mean the same modules, else the names."""
    short = sorted({name.rpartition(".")[2] for name in names})
    hit = [name for name, _ in model.named_modules() if _hit(name, short)]
    return short if sorted(hit) == sorted(names) else names


def _hit(name: str, targets: Collection[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _under(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.") or f".{part}." in f".{name}."
