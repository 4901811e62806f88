"""Models of a folder or of the hub."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
import transformers
from torch import Tensor, nn

from sftlib.errors import ArtifactError, OptionError
from sftlib.models.compressed import as_described, check_gguf, gguf_hint, is_gguf, weights_as
from sftlib.models.head_rows import follow_labels
from sftlib.models.lowest import check_lowest, keep_lowest
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
from sftlib.models.seeds import seeded
from sftlib.models.sources.base import Head, ModelSource
from sftlib.models.sources.making import adjust, drawn
from sftlib.support.checking import nearest_folder
from sftlib.support.checkpoints import checkpoint_hint


@final
class PretrainedSource(ModelSource):
    """A local folder or the name of a model on the hub."""

    def __init__(
        self,
        name: str,
        *,
        gguf_file: str | None = None,
        quantize: str | None = None,
        pooling: str | None = None,
        layers: int | None = None,
    ) -> None:
        self._name = os.path.expanduser(name)
        self._from = {} if gguf_file is None else {"gguf_file": gguf_file}
        self._quantize, self._pooling, self._layers = quantize, pooling, layers
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
        found = open_tokenizer(self._name, option="model", more=self._from)
        return as_described(found) if self._from else found

    def image_processor(self) -> Any:
        self._read_config()
        return open_image_processor(self._name, option="model")

    def feature_extractor(self) -> Any:
        self._read_config()
        return open_feature_extractor(self._name, option="model")

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        config = copy.deepcopy(self._read_config())
        adjust(config, head, dropout)
        model, facts = self._opened(head, config, seed)
        check_weights(self._name, model, facts)
        if self._layers is not None:
            check_lowest(model, self._layers)
        others = {item[0] for item in facts["mismatched_keys"]}
        self.drawn = frozenset([*facts["missing_keys"], *others])
        said, new = follow_labels(
            model,
            head,
            self._read_config(),
            held=model.state_dict().keys() - set(facts["missing_keys"]),
            old=lambda: self._trained_head(head, seed) if others else dict(model.state_dict()),
            fresh=lambda: dict(model.state_dict()) if others else drawn(head, config, seed),
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
            if self._layers is not None:
                keep_lowest(self._config, self._layers)
        return self._config

    def _trouble(self) -> str:
        if self._local:
            return f": its {CONFIG} cannot be used"
        near = nearest_folder(Path(self._name))
        return f" is neither a folder here{f' ({near})' if near else ''} nor a model that the hub can give"


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
