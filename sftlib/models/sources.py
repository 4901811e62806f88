"""The one import boundary to transformers: from what a user calls "a model" to a module with the right head.

A `ModelSource` remembers where a model comes from and builds a fresh, seeded copy of it as often as asked, so that a
second ``fit`` starts from the original weights and a model object that was passed in is never changed.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
import transformers
from torch import Tensor, nn

from sftlib.errors import ArtifactError, OptionError
from sftlib.models.adapters.removal import has_adapter, merged
from sftlib.models.attempts import attempt
from sftlib.models.compressed import check_gguf, gguf_hint, is_gguf, weights_as
from sftlib.models.head_rows import follow_labels
from sftlib.models.opening import (
    CONFIG,
    check_weights,
    first_line,
    found_in,
    looks_like_a_path,
    neighbours,
    open_feature_extractor,
    open_image_processor,
    open_tokenizer,
    opening,
    quiet,
)
from sftlib.models.pooling import pool, pooling_of
from sftlib.models.pretrained import Pretrained
from sftlib.models.seeds import seeded
from sftlib.models.sizes import dropout_rates, parts_of
from sftlib.models.ties import loosen_as_in
from sftlib.models.tried import Tried
from sftlib.support.checking import nearest, nearest_folder, raise_together
from sftlib.support.checkpoints import checkpoint_hint

#: What asks for a model that nobody has trained, and the longest row it can take unless a longer one is asked for.
NEW, _POSITIONS = "new:encoder", 512


@final
@dataclass(frozen=True)
class Head:
    """What a task wants on top of a pretrained body.

    Attributes:
        auto_class: transformers' Auto class, such as ``"AutoModelForSequenceClassification"``.
        outputs: width of a new output layer; None where the model brings the one it was trained with.
        problem_type: transformers' name of the problem, stored for its pipelines, where it has one.
        labels: the label of each output as a string; empty when outputs are not classes.
        more: further fields of a transformers config that the head needs, such as the size of a vocabulary.
        advice: what a user may do whose model has no such head, to end a message with.
        rate: what all of a model with this head usually wants to be trained at, where that is not the usual rate.
    """

    auto_class: str
    outputs: int | None = None
    problem_type: str | None = None
    labels: tuple[str, ...] = ()
    advice: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None

    def settings(self) -> dict[str, Any]:
        """The fields of a transformers config that say the same."""
        if self.outputs is None:
            return dict(self.more)
        names = self.labels or tuple(f"LABEL_{i}" for i in range(self.outputs))
        return {
            "num_labels": self.outputs,
            **({} if self.problem_type is None else {"problem_type": self.problem_type}),
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
            **self.more,
        }


class ModelSource(ABC):
    """Where a model comes from.

    Attributes:
        drawn: names of the weights that the last `build` drew at random, since the source does not hold them.
        told: what is to be said of the last `build` before the first step.
        lost: of that, what says that something trained is not used: said also where nothing else is shown.
        usual_rate: the learning rate that its models usually want, where that is another than of pretrained ones.
    """

    drawn: frozenset[str] = frozenset()
    told: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    usual_rate: float | None = None

    @property
    def config(self) -> Any:
        """The config of a model of transformers, None for any other."""
        return None

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in messages."""

    @abstractmethod
    def tokenizer(self) -> Any:
        """The tokenizer that belongs to the model, or None."""

    @property
    def tried(self) -> Tried:
        """What trials found of models from here; nothing, unless each of them begins with the very same weights."""
        return Tried()

    def image_processor(self) -> Any:
        """The image processor that belongs to the model, or None."""
        return None

    def reading(self, vocabulary: int | None, longest: int | None) -> ModelSource:
        """This source for inputs that are read in one way; another one only where models are made to measure.

        Args:
            vocabulary: how many tokens the inputs may be made of; None where they are of something else.
            longest: tokens of the longest row that was asked for, or None.
        """
        return self

    def feature_extractor(self) -> Any:
        """The feature extractor that belongs to a model of sounds, or None."""
        return None

    @abstractmethod
    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        """A fresh fp32 copy with the head; what the weights do not hold is drawn from ``seed``.

        Args:
            head: what the task wants.
            dropout: replaces every dropout rate of the model when not None.
            seed: of newly initialised weights.
            pooled: whether a new head is to read what the model was trained to say, where its folder tells; a layer may
                be added for that, so that the model is no longer the one that lies there.

        Raises:
            ArtifactError: the weights cannot be opened.
            OptionError: the model has no such head.
        """


@final
class PretrainedSource(ModelSource):
    """A local folder or the name of a model on the hub."""

    def __init__(
        self, name: str, *, gguf_file: str | None = None, quantize: str | None = None, pooling: str | None = None
    ) -> None:
        self._name = os.path.expanduser(name)
        self._from = {} if gguf_file is None else {"gguf_file": gguf_file}
        self._quantize, self._pooling = quantize, pooling
        self._local = os.path.isdir(self._name)
        self._config: Any = None
        if not name.strip():
            raise OptionError(f"model={name!r}: expected a model's name, its folder, or a torch.nn.Module")
        if os.path.isfile(self._name):
            hint = (
                f"; FineTuner(Pretrained({(os.path.dirname(name) or '.')!r}, gguf_file={os.path.basename(name)!r}))"
                if is_gguf(name)
                else ""
            )
            raise ArtifactError(f"model={name!r} is a file; expected the folder that holds a model's {CONFIG}{hint}")
        if self._local and gguf_file is not None:
            check_gguf(self._name, gguf_file)
        elif self._local and not os.path.isfile(os.path.join(self._name, CONFIG)):
            raise ArtifactError(f"model={name!r}: {_no_model(self._name)}")
        if not self._local and looks_like_a_path(name):
            raise ArtifactError(f"model={name!r}: there is no such folder{neighbours(self._name)}")

    @property
    def is_plain(self) -> bool:
        """Whether the weights are opened as they lie there, and not in fewer bits."""
        return self._quantize is None and not self._from

    @property
    def name(self) -> str:
        return Path(self._name).name if self._local else self._name

    def tokenizer(self) -> Any:
        self._read_config()  # a model that is not there is to be told as that
        return open_tokenizer(self._name, option="model", more=self._from)

    def image_processor(self) -> Any:
        self._read_config()
        return open_image_processor(self._name, option="model")

    def feature_extractor(self) -> Any:
        self._read_config()
        return open_feature_extractor(self._name, option="model")

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        config = copy.deepcopy(self._read_config())
        _adjust(config, head, dropout)
        model, facts = self._opened(head, config, seed)
        check_weights(self._name, model, facts)
        others = {item[0] for item in facts["mismatched_keys"]}
        self.drawn = frozenset([*facts["missing_keys"], *others])
        said, new = follow_labels(
            model,
            head,
            self._read_config(),
            held=model.state_dict().keys() - set(facts["missing_keys"]),
            old=lambda: self._trained_head(head, seed) if others else dict(model.state_dict()),
            fresh=lambda: dict(model.state_dict()) if others else _drawn(head, config, seed),
        )
        self.drawn = self.drawn | new
        read = self._pool(model, head) if pooled else ""
        self.told, self.lost = tuple(line for line in (said, read) if line), (said,) if new else ()
        return model  # type: ignore[no-any-return]

    def _pool(self, model: Any, head: Head) -> str:
        """Have a head that is drawn read what the folder says, or what was asked for."""
        body = f"{model.base_model_prefix}."
        own = [name for name in model.state_dict() if not name.startswith(body)]
        if head.auto_class != "AutoModelForSequenceClassification" or not self.drawn.issuperset(own):
            return ""
        return pool(model, self._pooling or pooling_of(self._name, local=self._local))

    def _opened(self, head: Head, config: Any, seed: int) -> tuple[Any, Mapping[str, Any]]:
        """The model with a head as its config says, and what transformers tells of its weights."""
        with quiet(), seeded(seed), opening(self._name, head.auto_class, config, head.advice):
            model, facts = getattr(transformers, head.auto_class).from_pretrained(
                self._name,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=self._local,
                ignore_mismatched_sizes=True,  # of the head; those of the body are refused
                output_loading_info=True,
                **self._from,
                **weights_as(self._quantize, gguf=bool(self._from)),
            )
        return model, facts

    def _trained_head(self, head: Head, seed: int) -> dict[str, Tensor]:
        """The weights outside of the body, of the sizes that they were trained in."""
        model, _ = self._opened(head, copy.deepcopy(self._read_config()), seed)
        prefix = f"{model.base_model_prefix}."
        return {name: weight for name, weight in model.state_dict().items() if not name.startswith(prefix)}

    @property
    def config(self) -> Any:
        return self._read_config()

    def _read_config(self) -> Any:
        if self._config is None:
            try:
                with quiet():
                    self._config = transformers.AutoConfig.from_pretrained(
                        self._name, trust_remote_code=False, local_files_only=self._local, **self._from
                    )
            except Exception as error:  # whatever it is that transformers stumbles over
                raise ArtifactError(f"model={self._name!r}{self._trouble()}: {first_line(error)}") from error
        return self._config

    def _trouble(self) -> str:
        if self._local:
            return f": its {CONFIG} cannot be used"
        near = nearest_folder(Path(self._name))
        return f" is neither a folder here{f' ({near})' if near else ''} nor a model that the hub can give"


@final
class ObjectSource(ModelSource):
    """A transformers model object; it is copied, never changed."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def config(self) -> Any:
        return _as_it_came(self._model)

    @property
    def name(self) -> str:
        return type(self._model).__name__

    def tokenizer(self) -> Any:
        return None

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        given = _plain(self._model)
        config = copy.deepcopy(given.config)
        _adjust(config, head, dropout)
        with opening(self.name, head.auto_class, config, head.advice):
            model = _from_config(head, config, seed)
        copied = _copy_weights(given, model)
        self.drawn = frozenset(name for name, _ in model.named_parameters() if name not in copied)
        if not copied:
            raise OptionError(
                f"model={self.name}: no weight of it fits {type(model).__name__}; pass its body or its folder"
            )
        weights = given.state_dict()
        said, new = follow_labels(
            model,
            head,
            _as_it_came(given),
            held=weights.keys(),
            old=lambda: weights,
            fresh=lambda: _drawn(head, config, seed),
        )
        self.drawn, self.told, self.lost = self.drawn | new, (said,) if said else (), (said,) if new else ()
        if all(getattr(one, "generation_config", None) is not None for one in (self._model, model)):
            model.generation_config = copy.deepcopy(self._model.generation_config)  # its config does not hold it
        return model  # type: ignore[no-any-return]


@final
class ModuleSource(ModelSource):
    """Any other `torch.nn.Module`: called with ``input_ids`` and what else its ``forward`` names."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def name(self) -> str:
        return type(self._module).__name__

    def tokenizer(self) -> Any:
        return None

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        module = copy.deepcopy(self._module).float()
        for child in module.modules():
            if dropout is not None and isinstance(child, nn.Dropout):
                child.p = dropout
        return module


@final
class NewSource(ModelSource):
    """A small encoder from random weights, for inputs that no checkpoint was made for.

    A BERT of four layers and 128 values a position: about 0.8 million weights beside its vocabulary.

    Args:
        vocabulary: how many tokens there are; None before anybody knows.
        longest: tokens of the longest row.
    """

    usual_rate = 5e-4

    def __init__(self, vocabulary: int | None = None, longest: int = _POSITIONS) -> None:
        self._vocabulary = vocabulary
        self._longest = longest

    @property
    def name(self) -> str:
        return NEW

    def tokenizer(self) -> Any:
        return None

    @property
    def config(self) -> Any:
        return transformers.BertConfig(
            vocab_size=self._vocabulary or 8,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=self._longest,
        )

    def reading(self, vocabulary: int | None, longest: int | None) -> NewSource:
        return NewSource(vocabulary, max(longest or 0, _POSITIONS))

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        if self._vocabulary is None:
            raise OptionError(f"model={NEW!r}: it reads texts and sequences, and this task reads something else")
        config = self.config
        _adjust(config, head, dropout)
        with quiet(), seeded(seed), opening(self.name, head.auto_class, config, head.advice):
            model: nn.Module = getattr(transformers, head.auto_class).from_config(config, dtype=torch.float32)
        self.drawn = frozenset(name for name, _ in model.named_parameters())
        return model


@final
class AdaptedSource(ModelSource):
    """A model whose body went on learning from texts; what that body lacks comes from where the model came from.

    Args:
        origin: of the model.
        model: the body as it is now, under another head; kept in memory.
    """

    def __init__(self, origin: ModelSource, model: nn.Module) -> None:
        self._origin = origin
        self.usual_rate = origin.usual_rate
        self._model = model.cpu().eval()

    @property
    def config(self) -> Any:
        return self._origin.config

    @property
    def name(self) -> str:
        name = self._origin.name
        return name if name.endswith(_ADAPTED) else name + _ADAPTED

    def tokenizer(self) -> Any:
        return self._origin.tokenizer()

    def image_processor(self) -> Any:
        return self._origin.image_processor()

    def reading(self, vocabulary: int | None, longest: int | None) -> AdaptedSource:
        return AdaptedSource(self._origin.reading(vocabulary, longest), self._model)

    def feature_extractor(self) -> Any:
        return self._origin.feature_extractor()

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        model = self._origin.build(head, dropout=dropout, seed=seed, pooled=pooled)
        self.drawn = self._origin.drawn - _copy_weights(self._model, model)
        self.told, self.lost = self._origin.told, self._origin.lost
        return model


@final
class HeldSource(ModelSource):
    """A model that is opened once and copied in memory as often as it is asked for.

    Args:
        origin: where it comes from.
    """

    def __init__(self, origin: ModelSource) -> None:
        self._origin = origin
        self.usual_rate = origin.usual_rate
        self._asked: tuple[Head, float | None, int, bool] | None = None
        self._model: nn.Module | None = None
        self._tokenizer: Any = None
        self._tried = Tried()

    @property
    def tried(self) -> Tried:
        return self._tried

    @property
    def config(self) -> Any:
        return self._origin.config

    @property
    def name(self) -> str:
        return self._origin.name

    def tokenizer(self) -> Any:
        if self._tokenizer is None:  # whoever opens it makes a copy
            self._tokenizer = self._origin.tokenizer()
        return self._tokenizer

    def image_processor(self) -> Any:
        return self._origin.image_processor()

    def feature_extractor(self) -> Any:
        return self._origin.feature_extractor()

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        asked = (head, dropout, seed, pooled)
        if self._model is None or self._asked != asked:
            self._model, self._asked = self._origin.build(head, dropout=dropout, seed=seed, pooled=pooled), asked
            self.drawn, self.told = self._origin.drawn, self._origin.told
        return copy.deepcopy(self._model)


def held(source: ModelSource) -> ModelSource:
    """The same, its weights kept in memory; as it is where they are there already, or lie in fewer bits."""
    return HeldSource(source) if isinstance(source, PretrainedSource) and source.is_plain else source


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


def is_of_class(config: Any, auto_class: str) -> bool:
    """Whether a model as it came is of the class that transformers opens such models in.

    Args:
        config: as it came, or None.
        auto_class: transformers' Auto class, such as ``"AutoModelForTokenClassification"``.
    """
    mapping = getattr(transformers, auto_class)._model_mapping
    found = mapping[type(config)] if type(config) in mapping.keys() else ()  # noqa: SIM118 - a lazy mapping
    names = {kind.__name__ for kind in (found if isinstance(found, tuple) else (found,))}
    return not names.isdisjoint(getattr(config, "architectures", None) or ())


_ADAPTED = " (adapted)"


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
            os.fspath(model.name), gguf_file=model.gguf_file, quantize=model.quantize, pooling=model.pooling
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


def _no_model(folder: str) -> str:
    """What a folder without a config is instead, and how to get a model of it."""
    if hint := checkpoint_hint(folder):
        return hint
    if os.path.isfile(os.path.join(folder, "adapter_config.json")):
        own = os.path.isfile(os.path.join(folder, "sftlib.json"))
        return "it holds an adapter alone, which stands on a base: " + (
            f"FineTuner.load({folder!r}, model=base).fit(...) goes on with it"
            if own
            else f"FineTuner(peft.PeftModel.from_pretrained(base, {folder!r}), tokenizer=...) goes on from the two"
        )
    return f"the folder holds no {CONFIG}, so it is no model{found_in(folder)}{gguf_hint(folder)}"


def _plain(model: Any) -> Any:
    """A model as it is, or a copy of it with its adapter added to its weights.

    Raises:
        OptionError: that cannot be done.
    """
    if not has_adapter(model):
        return model
    tried = attempt(lambda: merged(model), kinds=(Exception,))
    if tried.value is None or has_adapter(tried.value):
        why = f": {tried.reason}" if tried.value is None else ""
        raise OptionError(
            f"model={type(model).__name__}: its adapter cannot be merged into its weights{why}; merge it yourself, or "
            "pass its base"
        ) from tried.error
    return tried.value


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


def _from_config(head: Head, config: Any, seed: int) -> Any:
    """A model with random weights."""
    with quiet(), seeded(seed):
        return getattr(transformers, head.auto_class).from_config(config, dtype=torch.float32)


def _drawn(head: Head, config: Any, seed: int) -> dict[str, Tensor]:
    """Every weight of a model as it is drawn."""
    found: dict[str, Tensor] = _from_config(head, config, seed).state_dict()
    return found


def _as_it_came(model: Any) -> Any:
    """The config of a model object, which says what kind of model it is, as that of a folder does."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    return config


def _adjust(config: Any, head: Head, dropout: float | None) -> None:
    config.update(head.settings())
    if getattr(config, "architectures", ()) is None:
        config.architectures = []  # transformers goes through them where there are several classes
    if dropout is None:
        return
    for part in (config, *parts_of(config)):
        for name in dropout_rates(part):
            setattr(part, name, dropout)


def _copy_weights(source: nn.Module, target: Any) -> Set[str]:
    """Copy every weight of the same name, with or without the body's prefix, and the same shape; return their names.

    What is frozen in the source is frozen in the target.
    """
    prefix = f"{target.base_model_prefix}."
    loosen_as_in(target, source.state_dict())
    own = target.state_dict()
    frozen = {name for name, parameter in source.named_parameters() if not parameter.requires_grad}
    copied = {}
    for name, weight in source.state_dict().items():
        for candidate in (name, prefix + name, name.removeprefix(prefix)):
            if candidate in own and own[candidate].shape == weight.shape:
                copied[candidate] = weight
                if name in frozen:
                    target.get_parameter(candidate).requires_grad_(False)
                break
    target.load_state_dict(copied, strict=False)
    return copied.keys()
