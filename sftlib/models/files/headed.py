"""A head of our own in a saved folder: the config of its body, and what the head was made with.

They lie in a file of their own rather than in ``config.json``, so that transformers does not take the folder for the
body alone, which it would fill with random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
import transformers
from torch import nn

from sftlib.models.files.folder import WEIGHTS, fill_model
from sftlib.models.files.strict import (
    HEAD,
    Stored,
    bounded,
    check_numbers,
    check_weights_fit,
    settings_in,
    stored_weights,
    told,
    without_refused,
)
from sftlib.models.opening import quiet
from sftlib.models.own_heads import HEADS, Headed
from sftlib.models.seeds import seeded
from sftlib.support import storage

_ENTRIES = {"head", "options", "body"}
_LABELS = ("id2label", "label2id")  # of what the body was trained on: a body has none
_LARGEST = 2**20  # of an option


def write_head(model: Headed, folder: Path) -> None:
    """Write what makes the model again, beside its weights."""
    body = model.body.config.to_diff_dict()  # type: ignore[union-attr, operator]
    settings = without_refused({key: value for key, value in body.items() if key not in _LABELS})
    storage.write_json(folder / HEAD, {"head": type(model).__name__, "options": model.options, "body": settings})


@final
@dataclass(frozen=True)
class DescribedHead:
    """A head of our own as a folder describes it, which was compared with its weights' file, and not yet built."""

    folder: Path
    kind: str
    options: Mapping[str, int]
    config: Any

    def build(self, attach: Callable[[nn.Module], object] = lambda _: None, attached: Sequence[str] = ()) -> nn.Module:
        """Build the model and fill it; arguments as of `sftlib.models.files.folder.Described.build`.

        Raises:
            ValueError: the weights do not fit.
        """
        with quiet(), seeded(0), told(f"{HEAD} cannot be used"):
            model = _made(self.kind, self.options, self.config)
        attach(model)
        fill_model(model, self.folder, attached)
        return model


def describe_head(folder: Path, outputs: int | None) -> DescribedHead:
    """Read what a folder says of its model.

    Args:
        folder: verified already; nothing in it is executed.
        outputs: how many labels the folder's task has; None where it has none.

    Raises:
        ValueError: it asks for something else, or does not fit the weights.
    """
    stored = stored_weights(folder / WEIGHTS)
    settings = settings_in(folder / HEAD)
    kind, options, body = (settings.get(name) for name in ("head", "options", "body"))
    if settings.keys() != _ENTRIES or kind not in HEADS or not isinstance(options, dict) or not isinstance(body, dict):
        raise ValueError(f"{HEAD}: expected head (one of {', '.join(HEADS)}), options and body")
    _check_options(options, outputs)
    _check_body(body, stored)
    plain = {key: value for key, value in body.items() if key != "model_type"}
    with quiet(), seeded(0), told(f"{HEAD} cannot be used"), bounded(stored):
        config = transformers.AutoConfig.for_model(body["model_type"], **plain)
        with torch.device("meta"):  # its shapes only, which cost nothing: compared before memory is spent
            check_weights_fit(_made(kind, options, config), stored)
    return DescribedHead(folder, kind, options, config)


def _check_options(options: Mapping[str, Any], outputs: int | None) -> None:
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LARGEST:
            raise ValueError(f"{HEAD} has {name:.40}={value!r:.40}: expected a whole number above 0")
    if outputs is not None and options.get("labels") != outputs:
        raise ValueError(f"{HEAD} does not have the {outputs:,} outputs of the task")


def _check_body(body: Mapping[str, Any], stored: Mapping[str, Stored]) -> None:
    kind = body.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise ValueError(f"{HEAD} has model_type {kind!r:.80}, which transformers does not know")
    check_numbers(body, stored, HEAD)


def _made(kind: str, options: Mapping[str, int], config: Any) -> nn.Module:
    body = transformers.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model: nn.Module = HEADS[kind](body, **options)
    return model
