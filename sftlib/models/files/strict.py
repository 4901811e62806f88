"""What a saved folder may ask for, decided before transformers reads any of it.

Sums only prove that a folder is what its writer wrote; whoever wrote it may have written sums over anything. So a
config is read here as data: what would import code, name a place, or build more than the weights' file holds is
refused.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
import transformers
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from sftlib.models.feature_extractors import known_extractors
from sftlib.models.image_processors import known_processors
from sftlib.models.opening import CONFIG, first_line
from sftlib.models.structure import hooked
from sftlib.support import storage

#: Files that a model of transformers writes.
MODEL_FILES = frozenset(
    {"config.json", "head.json", "model.safetensors", "attached.safetensors", "generation_config.json"}
)
#: Files that its tokenizers write.
TOKENIZER_FILES = frozenset(
    """tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json
    chat_template.jinja vocab.json vocab.txt merges.txt spiece.model spm.model spm_char.model sentencepiece.model
    sentencepiece.bpe.model tokenizer.model source.spm vocab-src.json prophetnet.tokenizer entity_vocab.json emoji.json
    byte_maps.json dict.txt bpe.codes""".split()
)

#: Files that its image processors write.
IMAGE_FILES = frozenset({"preprocessor_config.json"})

#: Files that feature extractors of sounds write.
AUDIO_FILES = frozenset({"preprocessor_config.json"})

GENERATION = "generation_config.json"
HEAD = "head.json"
_TOKENIZER = "tokenizer_config.json"
_SETTINGS_BYTES = 2**24  # of a config; a vocabulary lies in files of its own
_LARGEST_SETTING = 2**24  # of a feature extractor: samples of a quarter of an hour
_LARGEST_TABLE = 2**24  # of its filters: bands times frequencies
_LABELS = ("id2label", "label2id")  # hold the user's own words; compared with the task's
# Keys that make transformers import code, fetch kernels or weights, or open a file.
_REFUSED = re.compile(
    r"auto_map|custom_\w+|trust_remote_code|quantization_config|compression_config|adapters?|peft\w*|gguf\w*|"
    r"\w*attn_implementation\w*|\w*experts_implementation\w*|use_kernels?|kernel_config|\w*backbone\w*|"
    r"name_or_path|init_inputs|\w+_(?:files?|path|dir|url|repo)|_.*",
    re.IGNORECASE,
)
_BODY = "backbone_config"  # of detectors and segmenters; a name in its place would be fetched
_REPEATED = re.compile(r"layer|block|group|expert|depth|stage|types", re.IGNORECASE)
_MOST_REPEATS = 2**12  # of a part that may have no weights of its own
_LARGEST_NUMBER = 2**27
_BUFFERS = 2**28  # bytes of tables that a model computes rather than stores
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Stored(NamedTuple):
    """A weight as a file declares it."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


def stored_weights(path: Path) -> dict[str, Stored]:
    """What a safetensors file declares; its library has compared that with the file's size.

    Raises:
        ValueError: it is no such file, or one that declares more than it holds.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: Stored(tuple(part.get_shape()), _DTYPES.get(part.get_dtype())) for name, part in slices.items()
            }
    except (safetensors.SafetensorError, OverflowError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def read_config(folder: Path, stored: Mapping[str, Stored]) -> dict[str, Any]:
    """The config of a verified folder.

    Args:
        folder: holds it.
        stored: the weights it is for, which bound its numbers.

    Raises:
        ValueError: it asks for something that is not allowed.
    """
    config = _settings(folder / CONFIG)
    if not isinstance(config.get("model_type"), str) or config["model_type"] not in transformers.CONFIG_MAPPING:
        raise ValueError(f"{CONFIG} has model_type {config.get('model_type')!r:.80}, which transformers does not know")
    _check_class(CONFIG, config.get("tokenizer_class"))
    check_numbers(config, stored, CONFIG)
    return config


def check_numbers(config: Mapping[str, Any], stored: Mapping[str, Stored], name: str) -> None:
    """Refuse a config whose numbers are far beyond the weights that are there.

    Args:
        config: read from a file.
        stored: what the weights' file declares.
        name: of the file, for messages.

    Raises:
        ValueError: naming the first.
    """
    elements = sum(_count(weight.shape) for weight in stored.values())
    for place, value in _entries(config):
        most = max(len(stored), _MOST_REPEATS) if _REPEATED.search(place) else max(elements, _LARGEST_NUMBER)
        if isinstance(value, int) and abs(value) > most:
            raise ValueError(f"{name} has {place}={value!r:.40}, far more than {len(stored):,} stored weights allow")


def settings_in(path: Path) -> dict[str, Any]:
    """The entries of a file of settings, none of which asks for more than data.

    Raises:
        ValueError: naming the one that does.
    """
    return _settings(path)


def read_generation(folder: Path) -> dict[str, Any] | None:
    """What the folder says about generating; None where it says nothing."""
    return _settings(folder / GENERATION) if (folder / GENERATION).exists() else None


def check_tokenizer(folder: Path) -> None:
    """Refuse tokenizer settings that ask for more than data.

    Raises:
        ValueError: naming the setting.
    """
    for name in (_TOKENIZER, "special_tokens_map.json"):
        if not (folder / name).exists():
            continue
        settings = _settings(folder / name)
        _check_class(name, settings.get("tokenizer_class"))


def check_image_processor(folder: Path) -> None:
    """Refuse settings of an image processor that ask for more than data.

    Raises:
        ValueError: naming the setting.
    """
    (name,) = IMAGE_FILES
    kind = _settings(folder / name).get("image_processor_type")
    if kind not in known_processors():
        raise ValueError(f"{name} has image_processor_type {kind!r:.80}, which transformers does not know")


def check_feature_extractor(folder: Path) -> None:
    """Refuse settings of a feature extractor that ask for more than data, or for tables that would fill the memory.

    Raises:
        ValueError: naming the setting.
    """
    (name,) = AUDIO_FILES
    settings = _settings(folder / name)
    kind = settings.get("feature_extractor_type")
    if kind not in known_extractors():
        raise ValueError(f"{name} has feature_extractor_type {kind!r:.80}, which transformers does not know")
    numbers = {place: value for place, value in _entries(settings) if isinstance(value, int | float)}
    for place, value in numbers.items():
        if not abs(value) <= _LARGEST_SETTING:
            raise ValueError(f"{name} has {place:.80}={value!r:.40}, more than anything that hears needs")
    bands = max(numbers.get("feature_size", 1), numbers.get("num_mel_bins", 1))
    if bands * max(numbers.get("n_fft", 1), numbers.get("fft_window_size", 1), 512) > _LARGEST_TABLE:
        raise ValueError(f"{name} asks for a table of {bands:,} bands, more than anything that hears needs")


def is_own_tokenizer(kind: object) -> bool:
    """Whether a class is a tokenizer of transformers' own."""
    if not isinstance(kind, type) or not kind.__module__.startswith("transformers."):
        return False
    return issubclass(kind, transformers.PreTrainedTokenizerBase)


@contextlib.contextmanager
def bounded(stored: Mapping[str, Stored]) -> Iterator[None]:
    """Inside, a module on the meta device is given up as soon as it is larger than a file.

    Args:
        stored: what the file declares.

    Raises:
        ValueError: more weights, a larger one, or larger tables than the file accounts for.
    """
    here = threading.get_ident()
    sizes = [_count(weight.shape) for weight in stored.values()]
    most, largest, room = 2 * len(sizes) + 16, max(sizes, default=0), _BUFFERS + 16 * sum(sizes)
    made = [0, 0]  # weights, bytes of tables

    def weight(module: nn.Module, name: str, value: Tensor | None) -> None:
        if value is None or value.device.type != "meta" or threading.get_ident() != here:
            return
        made[0] += 1
        if made[0] > most or value.numel() > largest:
            raise ValueError(f"{CONFIG} describes more weights, or larger ones, than the {len(sizes):,} that are there")

    def table(module: nn.Module, name: str, value: Tensor | None) -> None:
        if value is None or threading.get_ident() != here:
            return
        made[1] += value.numel() * value.element_size()
        if made[1] > room:
            raise ValueError(f"{CONFIG} describes tables of {made[1]:,} bytes, far more than its weights")

    hooks = [
        register_module_parameter_registration_hook(weight),
        register_module_buffer_registration_hook(table),
    ]
    with hooked(hooks):
        yield


def check_weights_fit(model: nn.Module, stored: Mapping[str, Stored]) -> None:
    """Compare names, shapes and number formats of a module, on the meta device or not, with those of a file.

    Weights that are one and the same under several names are stored once.

    Raises:
        ValueError: naming the first that differ.
    """
    own: dict[str, Tensor] = model.state_dict(keep_vars=True)
    there = {id(value) for name, value in own.items() if name in stored}
    wrong = [
        f"{name} has {stored[name].shape} there, {tuple(value.shape)} here"
        for name, value in own.items()
        if name in stored and stored[name].shape != tuple(value.shape)
    ]
    wrong += [
        f"{name} has another number format than {value.dtype}"
        for name, value in own.items()
        if name in stored and stored[name].dtype != value.dtype
    ]
    wrong += [f"{name} is not there" for name, value in own.items() if id(value) not in there]
    wrong += [f"{name} is not here" for name in stored if name not in own]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"the weights do not fit {type(model).__name__}: {'; '.join(wrong[:3])}{more}")


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever libraries raise over a folder's content, panics of compiled ones too, into a `ValueError`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        raise ValueError(f"{what}: {type(error).__name__}: {first_line(error)}") from error


def _settings(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _SETTINGS_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, expected at most {_SETTINGS_BYTES:,}")
    settings = storage.read_json(path, finite=True)
    for place, value in _entries(settings):
        if _is_refused(place.rpartition(".")[2], value):
            raise ValueError(f"{path.name} has {place:.80}, which is not allowed here")
    return settings


def _is_refused(key: str, value: object) -> bool:
    """Whether no folder may have an entry; what describes the body of a detector by numbers alone, it may.

    And that there is no other body, which transformers 5.0 wants to read of a detector: it would fetch one by default.
    """
    if "backbone" in key.lower() and (value is None or value is False):
        return False
    return bool(_REFUSED.fullmatch(key)) and not (key == _BODY and _is_plain_body(value))


def _is_plain_body(value: object) -> bool:
    """Whether it is a config of a class of transformers that opens nothing by a name."""
    kind = value.get("model_type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in transformers.CONFIG_MAPPING and "timm" not in kind


def without_refused(settings: Any) -> Any:
    """Settings without the entries that no folder may have, at any depth; the labels hold the user's own words."""
    if isinstance(settings, list):
        return [without_refused(item) for item in settings]
    if not isinstance(settings, dict):
        return settings
    return {
        key: value if key in _LABELS else without_refused(value)
        for key, value in settings.items()
        if key in _LABELS or not _is_refused(str(key), value)
    }


def _entries(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every entry at any depth under its path; items of a list bear the list's."""
    waiting = [(str(key), value) for key, value in settings.items() if key not in _LABELS]
    while waiting:
        place, value = waiting.pop()
        yield place, value
        if isinstance(value, dict):
            waiting += [(f"{place}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [(place, item) for item in value]


def _check_class(name: str, kind: object) -> None:
    if kind is None:
        return
    names = (kind, kind.removesuffix("Fast")) if isinstance(kind, str) else ()
    if not any(item.isidentifier() and is_own_tokenizer(getattr(transformers, item, None)) for item in names):
        raise ValueError(f"{name} has tokenizer_class {kind!r:.80}, which is no tokenizer of transformers' own")


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
