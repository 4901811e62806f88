"""The options of `FineTuner`: one record, checked as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch

from sftlib.encoders.base import Inputs
from sftlib.errors import OptionError
from sftlib.models.adapters import adapter_problem
from sftlib.models.compressed import gguf_problem, quantize_problem
from sftlib.models.frozen.freezing import BACKBONE, Freeze, freeze_problem
from sftlib.models.language.generation import Generation
from sftlib.support.checking import choice, raise_together, real_number, whole_number
from sftlib.tasks import TASKS
from sftlib.tasks.base import Task
from sftlib.tasks.text.text_embedding import LOSSES
from sftlib.train.callbacks import EarlyStopping
from sftlib.train.schedules import SCHEDULES

#: Options that shape a task; each task says which of them it has.
TASK_OPTIONS = (
    "class_weights",
    "label_smoothing",
    "huber_delta",
    "stride",
    "train_on",
    "over_long",
    "max_answer_length",
    "max_target_length",
    "mask_probability",
    "embedding_loss",
    "embedding_scale",
    "embedding_margin",
    "negative_label",
    "generation",
)

#: Options that say where something is kept, and so are no part of a result and in no record of it.
PLACES = ("cache_dir",)

#: Shorthands of fields of ``inputs``.
_OF_INPUTS = ("tokenizer", "max_length")

_LARGEST_SEED = 2**64 - 1  # what torch's and numpy's generators take

Problem = str | Literal[False] | None


@final
@dataclass
class Arguments:
    """What a `FineTuner` was asked for; see there for the meaning of each. numpy's numbers become Python's."""

    model: Any
    task: str | None
    inputs: Inputs | None
    tokenizer: Any
    epochs: int
    max_steps: int | None
    learning_rate: float | None
    batch_size: int
    micro_batch_size: int | str
    max_length: int | None
    max_target_length: int | None
    weight_decay: float
    schedule: str
    warmup: float | int
    max_grad_norm: float | None
    class_weights: str | Mapping[Any, float] | None
    label_smoothing: float
    huber_delta: float | None
    stride: int | None
    max_answer_length: int | None
    negative_label: str | int | bool | None
    train_on: str | None
    over_long: str | None
    mask_probability: float | None
    embedding_loss: str | None
    embedding_scale: float | None
    embedding_margin: float | None
    generation: Generation | None
    dropout: float | None
    freeze: Freeze
    adapter: Any
    gguf_file: str | None
    quantize: str | None
    padding_free: bool | str
    checkpointing: bool | str
    precision: str
    device: str | torch.device
    metrics: Sequence[Any] | None
    early_stopping: EarlyStopping | None
    keep_best: str | None
    on_nonfinite: str
    seed: int
    cache_dir: str | os.PathLike[str] | None

    def __post_init__(self) -> None:
        for name, value in self.as_dict().items():
            if isinstance(value, np.generic):
                setattr(self, name, value.item())

    def as_dict(self) -> dict[str, Any]:
        """Option -> value."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def plain_values(self) -> dict[str, Any]:
        """What of it is a plain value, without what says where something is kept; objects by what they are called."""
        named = {"tokenizer": Path(self.tokenizer).name if isinstance(self.tokenizer, str) else None}
        frozen = {"freeze": list(self.freeze) if isinstance(self.freeze, list | tuple) else self.freeze}
        values = {name: value for name, value in self.as_dict().items() if name not in PLACES}
        return {name: v for name, v in values.items() if _is_plain(v)} | named | frozen

    def reading(self, task: Task) -> Inputs:
        """How the inputs of a task are to be read: ``inputs``, with its flat shorthands.

        Raises:
            OptionError: inputs of another kind, a shorthand that they do not have, or one that is given twice.
        """
        kind, given = task.inputs, {name: getattr(self, name) for name in _OF_INPUTS}
        given = {name: value for name, value in given.items() if value is not None}
        known = {item.name for item in fields(kind)}
        asked = kind() if self.inputs is None else self.inputs
        if not isinstance(asked, kind):
            raise OptionError(f"inputs={asked!r:.80}: {task.name} reads {kind.__name__}: inputs={kind.__name__}(...)")
        problems = [
            f"{name}={value!r:.60}: {task.name} reads {kind.__name__}, which has no such option"
            for name, value in given.items()
            if name not in known
        ]
        problems += [
            f"{name} is given twice: {name}={given[name]!r:.60}, and in inputs={asked!r:.80}"
            for name in known & given.keys()
            if getattr(asked, name) is not None
        ]
        raise_together(problems)
        return replace(asked, **given)

    def task_options(self) -> dict[str, Any]:
        """Those that shape a task."""
        return {name: getattr(self, name) for name in TASK_OPTIONS}

    def check(self) -> None:
        """Refuse values that no option can have, all of them at once.

        Raises:
            OptionError: naming each option, its value and what was expected.
        """
        raise_together([*self._problems_of_the_run(), *self._problems_of_the_loss(), *self._problems_of_choices()])

    def _problems_of_the_run(self) -> list[Problem]:
        return [
            whole_number("epochs", self.epochs, at_least=1),
            self.max_steps is not None and whole_number("max_steps", self.max_steps, at_least=1),
            self.learning_rate is not None
            and real_number("learning_rate", self.learning_rate, 0, expected="a finite number of at least 0"),
            whole_number("batch_size", self.batch_size, at_least=1),
            self.micro_batch_size != "auto"
            and whole_number("micro_batch_size", self.micro_batch_size, at_least=1, other="'auto' or "),
            self.max_length is not None and whole_number("max_length", self.max_length, at_least=2),
            self.max_target_length is not None
            and whole_number("max_target_length", self.max_target_length, at_least=2),
            real_number("weight_decay", self.weight_decay, 0, expected="a finite number of at least 0"),
            self._check_warmup(),
            self.max_grad_norm is not None and _above_zero("max_grad_norm", self.max_grad_norm, "for no limit"),
            whole_number("seed", self.seed, at_least=0, at_most=_LARGEST_SEED),
        ]

    def _problems_of_the_loss(self) -> list[Problem]:
        return [
            _share("label_smoothing", self.label_smoothing),
            self.stride is not None and whole_number("stride", self.stride, at_least=0),
            self.max_answer_length is not None
            and whole_number("max_answer_length", self.max_answer_length, at_least=1),
            _expected("negative_label", self.negative_label, str | int | None, "one of the labels, or None"),
            self.huber_delta is not None and _above_zero("huber_delta", self.huber_delta, "for squared error"),
            self.mask_probability is not None
            and (_share("mask_probability", self.mask_probability) or _none_masked(self.mask_probability)),
            self.embedding_loss is not None and choice("embedding_loss", self.embedding_loss, LOSSES),
            self.embedding_scale is not None and _above_zero("embedding_scale", self.embedding_scale, "for 20"),
            self.embedding_margin is not None and _above_zero("embedding_margin", self.embedding_margin, "for 0.3"),
            self.dropout is not None and _share("dropout", self.dropout),
            _expected("generation", self.generation, Generation | None, "Generation(max_new_tokens=100), or None"),
            self._check_class_weights(),
        ]

    def _problems_of_choices(self) -> list[Problem]:
        return [
            self.task is not None and choice("task", self.task, [task.name for task in TASKS]),
            choice("schedule", self.schedule, SCHEDULES),
            freeze_problem(self.freeze),
            adapter_problem(self.adapter),
            gguf_problem(self.gguf_file),
            quantize_problem(self.quantize, adapter=self.adapter, device=self.device),
            self._check_what_is_trained(),
            _expected("inputs", self.inputs, Inputs | None, "such as Text(max_length=256), or None"),
            _switch("padding_free", self.padding_free),
            _switch("checkpointing", self.checkpointing),
            choice("precision", self.precision, ["auto", "fp32", "bf16", "fp16"]),
            choice("on_nonfinite", self.on_nonfinite, ["error", "skip"]),
            _expected("device", self.device, str | torch.device, "a name such as 'auto', 'cpu' or 'cuda:0'"),
            self._check_metrics(),
            _expected("cache_dir", self.cache_dir, str | os.PathLike | None, "the path of a folder, or None"),
            self.keep_best is not None
            and _expected("keep_best", self.keep_best, str, "the name of a metric, such as 'loss', or None"),
            self.early_stopping is not None
            and _expected("early_stopping", self.early_stopping, EarlyStopping, self._stopping_instead()),
        ]

    def _check_what_is_trained(self) -> str | None:
        if self.quantize is not None and self.freeze is not None:
            return "quantize= and freeze= do not go together: weights in fewer bits are frozen as they are"
        if self.adapter is None or self.freeze != BACKBONE:
            return None
        return "freeze='backbone' leaves no layer for adapter= to stand in; an adapter freezes the rest by itself"

    def _check_warmup(self) -> str | None:
        if isinstance(self.warmup, int) and not isinstance(self.warmup, bool):
            return whole_number("warmup", self.warmup, at_least=0)
        expected = "a share of the steps from 0 to 1, or a whole number of steps"
        return real_number("warmup", self.warmup, 0, 1, expected=expected)

    def _check_class_weights(self) -> str | None:
        weights = self.class_weights
        if weights is None or isinstance(weights, Mapping) or (isinstance(weights, str) and weights == "balanced"):
            return None
        return (
            f"class_weights={weights!r:.60}: expected None, 'balanced', or a mapping from each label to its weight, "
            "such as {'bad': 2.0, 'good': 1.0}"
        )

    def _check_metrics(self) -> str | None:
        if self.metrics is None or isinstance(self.metrics, list | tuple):
            return None
        example = [self.metrics] if isinstance(self.metrics, str) else ["accuracy"]
        return f"metrics={self.metrics!r:.60}: expected a list of names or functions, such as {example}"

    def _stopping_instead(self) -> str:
        given = self.early_stopping
        metric = given if isinstance(given, str) else "loss"
        return f"EarlyStopping({metric!r}, patience=2), or None"


def _switch(option: str, value: object) -> str | None:
    if isinstance(value, bool) or (isinstance(value, str) and value == "auto"):
        return None
    return f"{option}={value!r:.60}: expected 'auto', True or False"


def _share(option: str, value: object) -> str | None:
    problem = real_number(option, value, 0, 1, expected="a number of at least 0 and below 1")
    return problem or (f"{option}={value!r}: expected a number of at least 0 and below 1" if value == 1 else None)


def _above_zero(option: str, value: object, none: str) -> str | None:
    return real_number(option, value, 0, ends=False, expected=f"a finite number above 0, or None {none}")


def _expected(option: str, value: object, kind: Any, expected: str) -> str | None:
    return None if isinstance(value, kind) else f"{option}={value!r:.60}: expected {expected}"


def _none_masked(value: float) -> str | None:
    return None if value else "mask_probability=0: no token would be a gap; expected a number above 0 and below 1"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
