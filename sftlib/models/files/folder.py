"""A model's own files in a saved folder, in the layout that transformers opens too."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import safetensors.torch
import torch
import transformers
from torch import Tensor, nn

from sftlib.models.feature_extractors import saved_extractor
from sftlib.models.files.strict import (
    AUDIO_FILES,
    GENERATION,
    IMAGE_FILES,
    Stored,
    bounded,
    check_feature_extractor,
    check_image_processor,
    check_tokenizer,
    check_weights_fit,
    is_own_tokenizer,
    read_config,
    read_generation,
    stored_weights,
    told,
    without_refused,
)
from sftlib.models.image_processors import saved_processor
from sftlib.models.language.generation import settings_of, take_settings
from sftlib.models.opening import CONFIG, quiet
from sftlib.models.seeds import seeded
from sftlib.models.sources import Head
from sftlib.models.ties import loosen_as_stored
from sftlib.models.units import plain_weights
from sftlib.support import storage

WEIGHTS = "model.safetensors"
ATTACHED = "attached.safetensors"
TOKENIZER = "tokenizer_config.json"


def is_transformers_model(model: nn.Module) -> bool:
    """Whether transformers can build the model from its config alone."""
    return isinstance(model, transformers.PreTrainedModel) and type(model).__module__.startswith("transformers.")


def write_model(model: nn.Module, folder: Path, attached: Sequence[str] = ()) -> None:
    """Write weights and config; never a pickle.

    Args:
        model: of any make.
        folder: to write to.
        attached: names of children that a task gave to the model: they lie in a file of their own, so that transformers
            finds what it expects and nothing else.
    """
    weights = _once(model)
    own = {name: weight for name, weight in weights.items() if name.partition(".")[0] not in attached}
    more = {name: weight for name, weight in weights.items() if name not in own}
    safetensors.torch.save_file(own, str(folder / WEIGHTS), metadata={"format": "pt"})
    if more:
        safetensors.torch.save_file(more, str(folder / ATTACHED), metadata={"format": "pt"})
    if is_transformers_model(model):
        model.config.architectures = [type(model).__name__]  # type: ignore[union-attr]
        generating = settings_of(model)
        if generating is not None:
            storage.write_json(folder / GENERATION, generating)
        model.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
        _leave_out_refused(folder / CONFIG)
        _count_labels(model.config, folder / CONFIG)


def _count_labels(config: Any, path: Path) -> None:
    """Write how many labels there are beside their names, where a class would open with a number of its own.

    PVT of transformers 5.0 does, with 1,000.
    """
    settings = storage.read_json(path)
    if type(config).from_dict(dict(settings)).num_labels != config.num_labels:
        path.write_text(_indented({**settings, "num_labels": config.num_labels}), encoding="utf-8")


def _leave_out_refused(path: Path) -> None:
    """Leave out what the base brought along and no folder may have, such as ``auto_map`` or the name in a GGUF file."""
    if path.is_file():
        settings = storage.read_json(path)
        if (allowed := without_refused(settings)) != settings:
            path.write_text(_indented(allowed), encoding="utf-8")


def _indented(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer's files."""
    tokenizer.save_pretrained(folder)
    settings = folder / TOKENIZER
    _leave_out_refused(settings)
    if not is_own_tokenizer(type(tokenizer)) and settings.is_file():  # opened by the class that any such file opens in
        known = {**storage.read_json(settings), "tokenizer_class": "PreTrainedTokenizerFast"}
        settings.write_text(_indented(known), encoding="utf-8")


def write_image_processor(processor: Any, folder: Path) -> None:
    """Write an image processor's file."""
    processor.save_pretrained(folder)
    (name,) = IMAGE_FILES
    _leave_out_refused(folder / name)


def read_image_processor(folder: Path) -> Any:
    """The folder's image processor, which needs pillow and nothing else.

    Raises:
        ValueError: its file asks for more than data, or cannot be used.
    """
    check_image_processor(folder)
    with quiet(), told("the image processor cannot be opened"):
        return saved_processor(folder, local=True)


def write_feature_extractor(extractor: Any, folder: Path) -> None:
    """Write a feature extractor's file."""
    extractor.save_pretrained(folder)
    (name,) = AUDIO_FILES
    _leave_out_refused(folder / name)


def read_feature_extractor(folder: Path) -> Any:
    """The folder's feature extractor.

    Raises:
        ValueError: its file asks for more than data, or cannot be used.
    """
    check_feature_extractor(folder)
    with quiet(), told("the feature extractor cannot be opened"):
        return saved_extractor(folder, local=True)


def _once(model: nn.Module) -> dict[str, Tensor]:
    """Every weight under the first of its names; of tied ones safetensors itself would choose by a hash."""
    first: dict[tuple[Any, ...], str] = {}
    weights = plain_weights(model)
    for name, weight in weights.items():
        place = (weight.data_ptr(), tuple(weight.shape), weight.stride()) if weight.numel() else (name,)
        first.setdefault(place, name)
    return {name: weights[name].contiguous() for name in first.values()}


@final
@dataclass(frozen=True)
class Described:
    """A model as a folder describes it: its config, which has been compared with its weights' file, and not yet built.

    Attributes:
        folder: that describes it.
        head: what the folder's task needs.
        config: of transformers.
        stored: what the weights' file declares.
    """

    folder: Path
    head: Head
    config: Any
    stored: Mapping[str, Stored]

    def build(self, attach: Callable[[nn.Module], object] = lambda _: None, attached: Sequence[str] = ()) -> nn.Module:
        """Build the model and fill it.

        Args:
            attach: gives a model the layers that only the task knows of.
            attached: names of the children that it gives.

        Raises:
            ValueError: the weights do not fit.
        """
        with quiet(), seeded(0), told(f"{CONFIG} cannot be used"):  # drawn before it is filled: not by the user's own
            model = _from_config(self.config, self.head)
        loosen_as_stored(model, self.stored)
        attach(model)
        fill_model(model, self.folder, attached)
        generating = read_generation(self.folder)
        if generating is not None:
            with told(f"{GENERATION} cannot be used"):
                take_settings(model, generating)
        return model


def describe_model(folder: Path, head: Head) -> Described:
    """Read what a folder says of its model, before any library reads it: opening a tokenizer opens the config too.

    Args:
        folder: verified already; nothing in it is executed.
        head: what the folder's task needs; decides the class, whatever the folder says.

    Raises:
        ValueError: the config asks for something else, or does not fit the weights.
    """
    stored = stored_weights(folder / WEIGHTS)
    config = read_config(folder, stored)
    _check_labels(config, head)
    plain = {key: value for key, value in config.items() if key != "model_type"}
    with quiet(), seeded(0), told(f"{CONFIG} cannot be used"), bounded(stored):
        built = transformers.AutoConfig.for_model(config["model_type"], **plain)
        _check_more(built, head)
        with torch.device("meta"):  # its shapes only, which cost nothing: compared before memory is spent
            shapes = _from_config(built, head)
            if isinstance(shapes, transformers.PreTrainedModel):
                shapes.tie_weights()  # which transformers 5.0 leaves out here
            loosen_as_stored(shapes, stored)
            check_weights_fit(shapes, stored)
    return Described(folder, head, built, stored)


def read_model(folder: Path, head: Head) -> nn.Module:
    """The model that a folder describes, filled; `describe_model` and `Described.build` in one."""
    return describe_model(folder, head).build()


def _from_config(config: Any, head: Head) -> nn.Module:
    auto_class = getattr(transformers, head.auto_class)
    model: nn.Module = auto_class.from_config(copy.deepcopy(config), dtype=torch.float32, trust_remote_code=False)
    return model


def _check_labels(config: Mapping[str, Any], head: Head) -> None:
    """Refuse a config whose outputs are not those of the task."""
    if head.outputs is None:
        return  # the output layer is the model's own
    config = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, **config}  # what transformers leaves out
    labels = config["id2label"]
    if not isinstance(labels, dict) or len(labels) != head.outputs:
        raise ValueError(f"{CONFIG} does not have the {head.outputs:,} outputs of the task")
    wanted = head.settings()
    names = {str(number): name for number, name in wanted["id2label"].items()}
    expected = {**wanted, "id2label": names}
    wrong = [name for name, value in expected.items() if name in config and config[name] != value]
    if wrong:
        raise ValueError(f"{CONFIG} has other outputs than the task: {', '.join(wrong)}")


def _check_more(config: Any, head: Head) -> None:
    """Refuse a config that lacks what the head needs, such as a vocabulary of the right size."""
    wrong = [name for name, value in head.more.items() if getattr(config, name, None) != value]
    if wrong:
        raise ValueError(f"{CONFIG} has other outputs than the task: {', '.join(wrong)}")


def fill_model(model: nn.Module, folder: Path, attached: Sequence[str] = ()) -> None:
    """Put the folder's weights into a model, and into the children that a task gave to it.

    Raises:
        ValueError: names or shapes do not fit.
    """
    children = {name: child for name, child in model.named_children() if name in attached}
    for name in children:
        delattr(model, name)
    try:
        _fill_own(model, folder)
    finally:
        for name, child in children.items():
            model.add_module(name, child)
    _fill_attached(children, folder / ATTACHED)


def _fill_attached(children: Mapping[str, nn.Module], path: Path) -> None:
    """Put the weights of a file into children, and see that it holds theirs and nothing else."""
    own = {f"{name}.{key}": value for name, child in children.items() for key, value in child.state_dict().items()}
    stored = stored_weights(path) if path.is_file() else {}
    if {k: (tuple(v.shape), v.dtype) for k, v in own.items()} != {k: (v.shape, v.dtype) for k, v in stored.items()}:
        raise ValueError(f"{path.name} does not hold what the task added to the model: {', '.join(own) or 'nothing'}")
    if own:
        with told(f"{path.name} cannot be used"):
            found = safetensors.torch.load_file(str(path))
        for name, value in own.items():
            value.copy_(found[name])


def _fill_own(model: nn.Module, folder: Path) -> None:
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
    """The folder's tokenizer.

    Raises:
        ValueError: its files ask for more than data, or cannot be used.
    """
    check_tokenizer(folder)
    if (folder / CONFIG).exists():  # transformers reads it here too
        read_config(folder, stored_weights(folder / WEIGHTS))
    with quiet(), told("the tokenizer cannot be opened"):
        found = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        found([""])  # transformers 5.0 takes settings of any kind, and stumbles over them when it reads
    return found
