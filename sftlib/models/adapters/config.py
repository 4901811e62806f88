"""Which settings an adapter may have: one list, for what a user gives and for what is read from a folder.

A field that is not listed here is left out when an adapter is saved, refused when it is read, and refused in a user's
config unless it has its default: such fields import code, open files, change the base, or need more than a pass through
the model. Names of modules are plain: `peft` would read a text as a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sftlib.support import storage
from sftlib.support.checking import is_number, nearest
from sftlib.support.extras import require

SETTINGS = "adapter_config.json"
_BYTES = 2**20
_LARGEST = 2**16  # rank, layer, and how many names
_LARGEST_TOKEN = 2**31
_NAME = re.compile(r"[\w.\-]{1,500}")
_TASKS = "SEQ_CLS TOKEN_CLS QUESTION_ANS CAUSAL_LM SEQ_2_SEQ_LM FEATURE_EXTRACTION".split()

Check = Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= _LARGEST


def _rank(value: Any) -> bool:
    return _whole(value) and value >= 1


def _scale(value: Any) -> bool:
    return is_number(value) and 0 < value < 1e9


def _rate(value: Any) -> bool:
    return is_number(value) and 0 <= value < 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _LARGEST and all(map(_name, value))


def _one_of(*values: object) -> Check:
    return lambda value: any(value is item or (isinstance(item, str) and value == item) for item in values)


def _none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check) -> Check:
    def all_of(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and len(value) <= _LARGEST
            and _names(list(value))
            and all(map(check, value.values()))
        )

    return all_of


def _layers(value: Any) -> bool:
    return all(map(_whole, value)) if isinstance(value, list) else _whole(value)


def _token_ids(value: Any) -> bool:
    if isinstance(value, dict):
        return _names(list(value)) and all(map(_token_ids, value.values()))
    good = isinstance(value, list) and len(value) <= _LARGEST
    return good and all(type(item) is int and 0 <= item < _LARGEST_TOKEN for item in value)


_COMMON: dict[str, Check] = {
    "task_type": _none_or(_one_of(*_TASKS)),
    "peft_version": _none_or(lambda value: isinstance(value, str)),
    "base_model_name_or_path": _none_or(lambda value: isinstance(value, str)),  # never looked at
    "inference_mode": _flag,
    "target_modules": _names,
    "exclude_modules": _none_or(_names),
    "modules_to_save": _none_or(_names),
}
_PLACES: dict[str, Check] = {
    "layers_to_transform": _none_or(_layers),
    "layers_pattern": _none_or(lambda value: _name(value) or _names(value)),
    "rank_pattern": _none_or(_each(_rank)),
    "alpha_pattern": _none_or(_each(_scale)),
}
_LOW_RANK: dict[str, Check] = {
    **_PLACES,
    "r": _rank,
    "alpha": _scale,
    "rank_dropout": _rate,
    "module_dropout": _rate,
    "use_effective_conv2d": _flag,
}
#: Kind -> field -> what its value may be.
KINDS: dict[str, dict[str, Check]] = {
    "LORA": {
        **_COMMON,
        **_PLACES,
        "r": _rank,
        "lora_alpha": _scale,
        "lora_dropout": _rate,
        "fan_in_fan_out": _flag,
        "bias": _one_of("none"),
        "use_rslora": _flag,
        "use_dora": _flag,
        "init_lora_weights": _one_of(True, False, "gaussian"),
        "trainable_token_indices": _none_or(_token_ids),
        "ensure_weight_tying": _flag,
    },
    "IA3": {**_COMMON, "feedforward_modules": _names, "fan_in_fan_out": _flag, "init_ia3_weights": _flag},
    "LOHA": {**_COMMON, **_LOW_RANK, "init_weights": _flag},
    "LOKR": {
        **_COMMON,
        **_LOW_RANK,
        "init_weights": _one_of(True, False),
        "decompose_both": _flag,
        "decompose_factor": _whole,
        "rank_dropout_scale": _flag,
    },
}
_SETTLED_LATER = ("target_modules", "exclude_modules", "feedforward_modules")  # texts and None, until there is a model


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a saved adapter.

    Raises:
        StorageError: it is no JSON object.
        ValueError: a setting that is not allowed, or has a value it cannot have.
    """
    if path.stat().st_size > _BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, expected at most {_BYTES:,}")
    settings = storage.read_json(path, finite=True)
    kind = settings.get("peft_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{path.name} has peft_type={kind!r:.60}; known: {', '.join(KINDS)}")
    known = KINDS[kind]
    wrong = [f"{name!r:.60}: {nearest(name, known)}" for name in settings if name not in (*known, "peft_type")]
    wrong += [
        f"{name}={value!r:.60}, which it cannot have"
        for name, value in settings.items()
        if name in known and not known[name](value)
    ]
    wrong += [f"no {name}" for name in ("target_modules",) if name not in settings]
    if wrong:
        raise ValueError(f"{path.name} has {'; '.join(wrong[:3])}")
    ignored = ("base_model_name_or_path", "peft_version", "inference_mode")
    return {name: value for name, value in settings.items() if name not in ignored}


def settings_of(config: Any) -> dict[str, Any]:
    """The fields of a config of `peft` that are listed here, as JSON values: sets in order, names for what is one."""
    kind = str(config.peft_type.value)
    given = {name: getattr(value, "value", value) for name, value in config.to_dict().items() if name in KINDS[kind]}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in given.items()}
    return {"peft_type": kind, **{name: plain[name] for name in sorted(plain)}}


def config_problem(config: Any) -> str | None:
    """What is wrong with a user's config, as far as that can be known without a model."""
    name, kind = type(config).__name__, str(getattr(config.peft_type, "value", config.peft_type))
    if kind not in KINDS:
        return f"adapter={name}: {_why_not(config)}; known: {', '.join(KINDS)}"
    known = KINDS[kind]
    wrong = [
        f"{field}={value!r:.60}"
        for field, value in settings_of(config).items()
        if field in known
        and not known[field](value)
        and not (field in _SETTLED_LATER and isinstance(value, str | None))
    ]
    plain = type(config)()
    wrong += [
        f"{item.name}={getattr(config, item.name)!r:.60}"
        for item in fields(config)
        if item.name not in known and getattr(config, item.name) != getattr(plain, item.name)
    ]
    if not wrong:
        return None
    return (
        f"adapter={name}({', '.join(wrong)}): cannot be used here, since it would change the base, name files or code, "
        "or need more than a pass through the model; leave it out"
    )


def config_from(settings: Mapping[str, Any]) -> Any:
    """The config of `peft` with these settings."""
    mapping = require("peft.mapping", extra="lora", purpose="an adapter").PEFT_TYPE_TO_CONFIG_MAPPING
    plain = {name: value for name, value in settings.items() if name != "peft_type"}
    return mapping[settings["peft_type"]](**{**plain, "inference_mode": False})


def _why_not(config: Any) -> str:
    if getattr(config, "is_prompt_learning", False):
        return "it adds tokens to the input rather than layers to the model"
    return "adapters of this kind share state between layers, or need more than a pass through the model"
