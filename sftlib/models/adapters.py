"""Adapters: a few new weights beside frozen ones, by `peft`.

An adapter enters as a transform of the model before the optimizer is built. Its layers are put into the model itself,
which stays what transformers made of it: layouts, dropout masks and saved states meet the class they know. The head,
and whatever else the pretrained weights do not hold, is trained whole; the frozen weights underneath are never touched,
so that switching the adapter off gives the base again, to the bit.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.extras import require
from sftlib.models.adapter_config import config_from, config_problem, settings_of
from sftlib.models.backbone import seeded
from sftlib.models.opening import first_line
from sftlib.models.sizes import typical_width
from sftlib.models.strict import Stored, bounded
from sftlib.models.structure import body_of
from sftlib.options import checked_fields, real_number, true_or_false, whole_number

_WORD = "lora"
_EVERYTHING = "all-linear"
_NAME = "default"  # peft's own name for the only adapter
_LARGEST_RANK = 2**16
_TASKS = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModel": "FEATURE_EXTRACTION",
}


@final
@checked_fields
@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al., 2021): to every targeted matrix ``W`` a product ``B A`` of rank ``r`` is added.

    Attributes:
        r: rank.
        alpha: the product is scaled by ``alpha / r``, with ``rslora`` by ``alpha / sqrt(r)``; None for a scale of 2.
        dropout: rate on the input of the new layers; the masks are the library's own, whatever the layout.
        targets: names of modules, or their last parts, such as ``["q_proj", "v_proj"]``; None for every linear layer of
            the body.
        rslora: scale by the root of the rank (Kalajdzievski, 2023), which suits high ranks.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> LoRA(r=8)
        LoRA(r=8, alpha=None, dropout=0.0, targets=None, rslora=False)
    """

    r: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] | list[str] | None = None
    rslora: bool = False

    def __post_init__(self) -> None:
        targets = self.targets
        named = isinstance(targets, list | tuple) and targets and all(isinstance(name, str) for name in targets)
        found = [
            whole_number("r", self.r, at_least=1, at_most=_LARGEST_RANK),
            None
            if self.alpha is None
            else real_number("alpha", self.alpha, 0, expected="a number above 0", ends=False),
            real_number("dropout", self.dropout, 0, 1, expected="a number of at least 0 and below 1"),
            "dropout=1: expected a number of at least 0 and below 1" if self.dropout == 1 else None,
            None
            if targets is None or named
            else f"targets={targets!r:.60}: expected a list of names of modules, or None",
            true_or_false("rslora", self.rslora),
        ]
        problems = [f"LoRA: {problem}" for problem in found if problem]
        if problems:
            raise OptionError("\n".join(problems))

    @property
    def scaled_by(self) -> float:
        """``alpha`` as resolved."""
        return float(2 * (self.r**0.5 if self.rslora else self.r) if self.alpha is None else self.alpha)

    def config(self) -> Any:
        """The same in the words of `peft`; targets are settled when the model is there."""
        targets = None if self.targets is None else list(self.targets)
        return _peft().LoraConfig(
            r=self.r,
            lora_alpha=self.scaled_by,
            lora_dropout=self.dropout,
            target_modules=_EVERYTHING if targets is None else targets,
            use_rslora=self.rslora,
        )


@final
@dataclass(frozen=True)
class SavedAdapter:
    """An adapter that was read from a folder: what a loaded `FineTuner` starts from.

    Attributes:
        settings: the fields of `peft`'s config, checked.
        weights: name in the model -> weight.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    def __repr__(self) -> str:
        return f"SavedAdapter({self.settings['peft_type']}, {len(self.weights)} weights)"

    def config(self) -> Any:
        """The config of `peft`."""
        return config_from(self.settings)


def adapter_problem(value: object) -> str | None:
    """What is wrong with a value of ``adapter=``, as far as that can be known without a model.

    Raises:
        MissingExtraError: an adapter is asked for and `peft` is not installed.

    Example:
        >>> adapter_problem("lara")
        "adapter='lara': expected 'lora', LoRA(r=16, ...), a config of peft, or None"
    """
    if value is None:
        return None
    shown = f"adapter={value!r:.60}"
    if not (value == _WORD if isinstance(value, str) else isinstance(value, LoRA | SavedAdapter) or _is_peft(value)):
        hint = ": pass an object, not the class" if isinstance(value, type) else ""
        return f"{shown}: expected 'lora', LoRA(r=16, ...), a config of peft, or None{hint}"
    if isinstance(value, str | LoRA | SavedAdapter):
        _peft()
        return None
    if not isinstance(value, _peft().PeftConfig):
        return f"{shown}: expected 'lora', LoRA(r=16, ...), a config of peft, or None"
    return config_problem(value)


def described(adapter: object) -> str | None:
    """An adapter as a line of text, the same for equal adapters."""
    if adapter is None:
        return None
    if isinstance(adapter, SavedAdapter):
        return repr(adapter)
    if isinstance(adapter, str | LoRA):
        return repr(_as_lora(adapter))
    return f"{type(adapter).__name__}({json.dumps(settings_of(adapter), sort_keys=True)})"


def adapt(
    model: nn.Module, adapter: Any, *, head: str, drawn: Collection[str], new_tokens: Sequence[int], seed: int
) -> None:
    """Put an adapter into a model; afterwards nothing but the adapter and what is trained whole is trained.

    Parameters that are frozen already get no adapter, and stay frozen where they belong to the head.

    Args:
        model: with its head; changed.
        adapter: a value of ``adapter=``; None to leave the model as it is.
        head: transformers' Auto class of the task.
        drawn: names of weights that the source of the model does not hold.
        new_tokens: numbers of tokens whose embeddings it does not hold; they are trained, and no others.
        seed: of the new weights.

    Raises:
        OptionError: the adapter does not fit the model.
    """
    if adapter is None:
        return
    if hasattr(model, "peft_config"):
        raise OptionError(
            f"adapter={adapter!r:.60}: this model has an adapter already; merge it first, or leave it out"
        )
    frozen = {
        name
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and parameter.is_floating_point()  # quantised weights are no sign of a wish
    }
    before = _stamps(model)
    if isinstance(adapter, SavedAdapter):
        stored = {name: Stored(tuple(value.shape), value.dtype) for name, value in adapter.weights.items()}
        with seeded(seed), bounded(stored):
            _inject(model, adapter.config(), adapter, on_meta=True)
        _fill(model, adapter.weights)
    else:
        config = _settled(model, adapter, head, drawn, frozen)
        _add_tokens(model, config, new_tokens)
        with seeded(seed):
            _inject(model, config, adapter, on_meta=False)
    if _stamps(model) != before:
        raise OptionError(f"adapter={adapter!r:.60}: it changes weights of the model underneath; use another start")
    for name, parameter in model.named_parameters():
        if name.replace(f".modules_to_save.{_NAME}", "") in frozen:
            parameter.requires_grad_(False)


def rate_of_adapters(model: nn.Module) -> float:
    """A good learning rate for an adapter: ten times the model's own, more in narrow models than in wide ones.

    The rule is that of Schulman and others (LoRA Without Regret, 2025), which they fitted to Llamas; held to the range
    that is usual in practice.

    Example:
        >>> [f"{_rate_at(width):.0e}" for width in (384, 2048, 4096)]
        ['1e-03', '5e-04', '3e-04']
    """
    config = getattr(model, "config", None)
    width = getattr(config, "hidden_size", None)
    return _rate_at(width if isinstance(width, int) and width > 0 else max(typical_width(model), 1))


def _rate_at(width: int) -> float:
    return float(min(1e-3, max(1e-4, 5e-4 * (2000 / width) ** 0.78)))


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """Name in a PEFT folder, without its prefix -> weight: the adapter's, and those of what is trained whole."""
    # Embeddings are saved where they are trained; nothing is looked up elsewhere to decide that.
    found: dict[str, Tensor] = _peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def adapter_settings(model: nn.Module) -> dict[str, Any]:
    """The config of a model's adapter as JSON values: no place, and no path."""
    config: Any = model.peft_config[_NAME]  # type: ignore[index]
    return {**settings_of(config), "base_model_name_or_path": None, "inference_mode": True}


def _fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model's adapter.

    Raises:
        OptionError: names, shapes or number formats are not those of the adapter.
    """
    expected = _peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    wrong = [f"{name} is not there" for name in expected if name not in weights]
    wrong += [f"{name} is not here" for name in weights if name not in expected]
    wrong += [
        f"{name} has {tuple(weights[name].shape)} {weights[name].dtype} there, {tuple(value.shape)} {value.dtype} here"
        for name, value in expected.items()
        if name in weights and (weights[name].shape, weights[name].dtype) != (value.shape, value.dtype)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise OptionError(f"the adapter's weights do not fit {type(model).__name__}: {'; '.join(wrong[:3])}{more}")
    copies = {name: value.clone() for name, value in weights.items()}
    _peft().set_peft_model_state_dict(model, copies, low_cpu_mem_usage=True)
    left = [name for name, value in model.state_dict().items() if value.device.type == "meta"]
    if left:
        raise OptionError(f"the adapter's weights do not fit {type(model).__name__}: {left[0]} is not there")


def base_digest(model: nn.Module, plain: nn.Module | None = None) -> str:
    """Hex SHA-256 over the weights that a model's adapter stands on, by name; what is trained is no part of it.

    Args:
        model: with its adapter.
        plain: its base in full precision, when the model holds it in fewer bits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(_base_weights(model, plain), key=itemgetter(0)):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def merged(model: nn.Module) -> nn.Module:
    """A plain copy of a model with its adapter added to its weights, on the device of the model."""
    return _without(copy.deepcopy(model), merge=True).requires_grad_(True)


def without_adapter(model: nn.Module) -> nn.Module:
    """The base of a model with an adapter: a module of its own, made of the very same weights."""
    shared = {id(value): value for _, value in [*model.named_parameters(), *model.named_buffers()]}
    return _without(copy.deepcopy(model, memo=dict(shared)), merge=False)


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Within this context a model computes as if it had no adapter: its base, with the head that it began with.

    Args:
        model: with an adapter, or without any, which changes nothing.
    """
    parts: list[Any] = [part for part in model.modules() if _is_part(part)] if hasattr(model, "peft_config") else []
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for part in parts:
        part.enable_adapters(False)
    try:
        yield
    finally:
        for part in parts:
            part.enable_adapters(True)
        for parameter, before in required:
            parameter.requires_grad_(before)


def _is_part(module: Any) -> bool:
    """Whether a module is a layer with an adapter, or one that is trained whole."""
    layers = require("peft.tuners.tuners_utils", extra="lora", purpose="an adapter")
    other = require("peft.utils.other", extra="lora", purpose="an adapter")
    return isinstance(module, layers.BaseTunerLayer | other.AuxiliaryTrainingWrapper)


def with_adapter_of(model: nn.Module, base: nn.Module) -> nn.Module:
    """A base, in place, with the adapter of another model."""
    adapter = SavedAdapter(adapter_settings(model), adapter_weights(model))
    adapt(base, adapter, head="", drawn=(), new_tokens=(), seed=0)
    return base


def _without(model: Any, *, merge: bool) -> nn.Module:
    """Take the adapter out of a model, in place, added to its weights or not."""
    done: list[str] = []
    for name, module in [(name, module) for name, module in model.named_modules() if _is_part(module)]:
        if any(name.startswith(f"{part}.") for part in done):
            continue  # went with the module around it
        done.append(name)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _plain_part(module, merge=merge))
    del model.peft_config
    if hasattr(model, "_hf_peft_config_loaded"):
        model._hf_peft_config_loaded = False
    return model  # type: ignore[no-any-return]


def _plain_part(part: Any, *, merge: bool) -> nn.Module:
    if not merge and hasattr(part, "original_module"):
        return part.original_module  # type: ignore[no-any-return]
    if hasattr(part, "unload_and_optionally_merge_module"):
        return part.unload_and_optionally_merge_module(merge=merge, safe_merge=True, adapter_names=None)  # type: ignore[no-any-return]
    if merge:
        part.merge(safe_merge=True)
    return part.get_base_layer()  # type: ignore[no-any-return]


def _inject(model: Any, config: Any, adapter: object, *, on_meta: bool) -> None:
    try:
        _peft().inject_adapter_in_model(config, model, adapter_name=_NAME, low_cpu_mem_usage=on_meta)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise OptionError(
            f"adapter={adapter!r:.80}: it does not fit {type(model).__name__}: {first_line(error)}"
        ) from error
    if hasattr(model, "_hf_peft_config_loaded"):
        model._hf_peft_config_loaded = True  # so that the model's own disable_adapters() and save_pretrained() know


def _settled(model: nn.Module, adapter: Any, head: str, drawn: Collection[str], frozen: Collection[str]) -> Any:
    """The config of `peft` for this very model."""
    config = _as_lora(adapter).config() if isinstance(adapter, str | LoRA) else copy.deepcopy(adapter)
    for field in ("target_modules", "exclude_modules", "feedforward_modules"):
        setattr(config, field, _as_names(model, config, getattr(config, field, None)))
    asked = [name for name, _ in model.named_modules() if _hit(name, config.modules_to_save or ())]
    whole = _outermost([*_trained_whole(model, drawn), *asked])
    layers = dict(_linear_layers(model, whole))
    closed = [name for name in layers if f"{name}.weight" in frozen]
    if config.target_modules == _EVERYTHING:
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
    if given is None or given == _EVERYTHING:
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


def _add_tokens(model: Any, config: Any, tokens: Sequence[int]) -> None:
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


def _base_weights(model: nn.Module, plain: nn.Module | None) -> Iterator[tuple[str, Tensor]]:
    """Weights that the adapter does not train, under the names they have in a plain model."""
    state = model.state_dict()
    wrapped = {name.partition(".modules_to_save.")[0] for name in state if ".modules_to_save." in name}
    own, tokens = _own_names(model), {_plain_name(name): rows for name, rows in _trained_rows(model).items()}
    weights = {_plain_name(name): value for name, value in state.items() if name not in own}  # copies lie in `wrapped`
    for name, value in (weights if plain is None else plain.state_dict()).items():
        if not any(name.startswith(f"{part}.") for part in wrapped):
            yield name, _without_rows(value, tokens.get(name, ()))


def _plain_name(name: str) -> str:
    return re.sub(r"\.(?:base_layer|token_adapter|original_module)(?=\.)", "", name)


def _trained_rows(model: nn.Module) -> dict[str, Sequence[int]]:
    """Name of an embedding's weight -> the tokens whose rows are trained."""
    return {
        f"{name}.token_adapter.base_layer.weight": module.token_adapter.token_indices[_NAME]
        for name, module in model.named_modules()
        if hasattr(module, "token_adapter")
    }


def _without_rows(table: Tensor, rows: Sequence[int]) -> Tensor:
    """A table with some rows set to 0, whatever they were."""
    return table.index_fill(0, torch.tensor(list(rows), device=table.device), 0.0) if len(rows) else table


def _own_names(model: nn.Module) -> set[str]:
    """Names of the adapter's own weights and tables."""
    layers = require("peft.tuners.tuners_utils", extra="lora", purpose="an adapter")
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, layers.BaseTunerLayer):
            parts = (*module.adapter_layer_names, *module.other_param_names)
            found |= {f"{name}.{key}" for key in module.state_dict() if key.partition(".")[0] in parts}
    return found


def _stamps(model: nn.Module) -> dict[int, int]:
    """Where the base's weights lie and how often they were written to."""
    names = {name: value for name, value in model.named_parameters() if not value.is_meta}
    new = ("lora_", ".modules_to_save.")
    own = _own_names(model) if hasattr(model, "peft_config") else set()
    return {
        value.data_ptr(): value._version
        for name, value in names.items()
        if name not in own and not any(part in name for part in new)
    }


def _as_lora(adapter: str | LoRA) -> LoRA:
    return LoRA() if isinstance(adapter, str) else adapter


def _is_peft(value: object) -> bool:
    return not isinstance(value, type) and any(kind.__module__.startswith("peft.") for kind in type(value).__mro__)


def _peft() -> Any:
    return require("peft", extra="lora", purpose="an adapter")


__all__ = [
    "LoRA",
    "SavedAdapter",
    "adapt",
    "adapter_off",
    "adapter_problem",
    "adapter_settings",
    "adapter_weights",
    "base_digest",
    "described",
    "merged",
    "rate_of_adapters",
    "with_adapter_of",
    "without_adapter",
]
