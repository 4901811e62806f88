"""The options of `FineTuner`: one record, checked as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from sftlib.encoders.base import Inputs
from sftlib.errors import OptionError
from sftlib.models.adapters import LoRA, adapter_problem
from sftlib.models.compressed import quantize_problem
from sftlib.models.frozen.freezing import BACKBONE, Freeze, freeze_problem
from sftlib.models.pooling import HEAD
from sftlib.models.pretrained import Pretrained
from sftlib.models.sources import NEW
from sftlib.support.checking import (
    above_zero,
    choice,
    nearest,
    one_of_types,
    raise_together,
    real_number,
    share,
    true_or_false,
    whole_number,
)
from sftlib.support.elsewhere import ELSEWHERE
from sftlib.support.values import Problem
from sftlib.tasks import TASKS, find_task
from sftlib.tasks.base import Task
from sftlib.tasks.labels import ClassWeights, weights_problems
from sftlib.train.callbacks import EarlyStopping
from sftlib.train.schedules import SCHEDULES

#: Options that say where something is kept, and so are no part of a result and in no record of it.
PLACES = ("cache_dir",)

#: Options that are recipes: runs around the run; and what they are for a run by itself.
RECIPES: Mapping[str, Any] = {"few_shot": None}

#: Shorthands of fields of ``inputs``.
OF_INPUTS = ("tokenizer", "max_length")

#: Shorthands of fields of ``task``, and what they are when they are not given.
OF_TASK: Mapping[str, Any] = {"class_weights": None, "label_smoothing": 0.0}

#: Settings that say what was, and are never given to a tuner that is loaded; its folder has what the task was.
TOLD_ONLY = ("model", "task", *OF_TASK, "tokenizer", "device", "adapter", *PLACES)

_TASK, _MODEL = "it belongs to the task now", "it belongs to the model now"

#: Options of version 0.1 -> where each went.
MOVED: Mapping[str, str] = {
    "huber_delta": f"{_TASK}: task=TextRegression(huber_delta=1.0)",
    "stride": f"{_TASK}: task=QuestionAnswering(stride=64), or TokenClassification(stride=64)",
    "max_answer_length": f"{_TASK}: task=QuestionAnswering(max_answer_length=20)",
    "max_target_length": f"{_TASK}: task=Seq2Seq(max_target_length=32)",
    "negative_label": f"{_TASK}: task=RelationExtraction(negative_label='none')",
    "train_on": f"{_TASK}: task=CausalLM(train_on='last')",
    "over_long": f"{_TASK}: task=CausalLM(over_long='split')",
    "mask_probability": f"{_TASK}: task=MaskedLM(mask_probability=0.15)",
    "embedding_loss": f"{_TASK}, as objective: task=TextEmbedding(objective='triplet')",
    "embedding_scale": f"{_TASK}, as scale: task=TextEmbedding(scale=20.0)",
    "embedding_margin": f"{_TASK}, as margin: task=TextEmbedding(margin=0.3)",
    "generation": f"{_TASK}: task=CausalLM(generation=Generation(max_new_tokens=64)), or Seq2Seq(generation=...)",
    "thresholds": f"{_TASK}: task=MultiLabelClassification(thresholds='valid')",
    "pooling": f"{_MODEL}: model=Pretrained('folder', pooling='mean')",
    "gguf_file": f"{_MODEL}: model=Pretrained('folder', gguf_file='model.gguf')",
    "quantize": f"{_MODEL}: model=Pretrained('folder', quantize='4bit')",
}


def _owned() -> dict[str, str]:
    """Options of values that are options themselves -> which of them have it, as it is written there."""
    owners: dict[str, list[str]] = {}
    readers = dict.fromkeys(task.inputs for task in TASKS)
    kinds: list[tuple[str, str, Sequence[str]]] = [
        *(("task", task.__name__, task.option_names()) for task in TASKS),
        *(("inputs", kind.__name__, [item.name for item in fields(kind)]) for kind in readers),
        ("model", "Pretrained", [item.name for item in fields(Pretrained) if item.name != "name"]),
        ("adapter", "LoRA", [item.name for item in fields(LoRA)]),
    ]
    for option, owner, names in kinds:
        before = "name, " if owner == "Pretrained" else ""
        for name in names:
            owners.setdefault(name, []).append(f"{option}={owner}({before}{name}=...)")
    return {
        name: f"it belongs to {' or '.join(some[:3])}{' and others' * (len(some) > 3)}" for name, some in owners.items()
    }


#: Options that are none -> what to write instead.
HINTS: Mapping[str, str] = {**_owned(), **ELSEWHERE, **MOVED}

_QUANTIZED = "shard=True and quantize= do not go together: weights in fewer bits are not cut; leave one of them out"
_LARGEST_SEED = 2**64 - 1  # what torch's and numpy's generators take


@final
@dataclass
class Arguments:
    """What a `FineTuner` was asked for; see there for the meaning of each. numpy's numbers become Python's."""

    model: Any
    task: Task | str | None
    inputs: Inputs | None
    tokenizer: Any
    epochs: int
    max_steps: int | None
    learning_rate: float | str | None
    head_learning_rate: float | None
    layer_decay: float
    batch_size: int
    micro_batch_size: int | str
    max_length: int | None
    weight_decay: float
    schedule: str
    warmup: float | int
    max_grad_norm: float | None
    class_weights: ClassWeights
    label_smoothing: float
    dropout: float | None
    freeze: Freeze
    adapter: Any
    few_shot: bool | str | None
    padding_free: bool | str
    checkpointing: bool | str
    shard: bool
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

    def of_a_result(self) -> dict[str, Any]:
        """Options that are a part of the result, without places; a tokenizer on disk by its last name."""
        values = {name: value for name, value in self.as_dict().items() if name not in PLACES}
        if isinstance(self.tokenizer, str | os.PathLike):
            values["tokenizer"] = Path(self.tokenizer).name
        return values

    def plain_values(self) -> dict[str, Any]:
        """What of the run is a plain value, without places; objects by what they are called.

        What the task and its inputs are asked for is theirs to describe.
        """
        named = {"tokenizer": Path(self.tokenizer).name if isinstance(self.tokenizer, str) else None}
        frozen = {"freeze": list(self.freeze) if isinstance(self.freeze, list | tuple) else self.freeze}
        opened = {"gguf_file": self.pretrained.gguf_file, "quantize": self.quantize} if self.pretrained else {}
        values = {name: v for name, v in self.as_dict().items() if name not in PLACES and name not in OF_TASK}
        return {name: v for name, v in values.items() if _is_plain(v)} | named | frozen | opened

    @property
    def pretrained(self) -> Pretrained | None:
        """The model, where it is opened in a form of its own."""
        return self.model if isinstance(self.model, Pretrained) else None

    @property
    def quantize(self) -> str | None:
        """The fewer bits that the model's weights are held in, or None."""
        return None if self.pretrained is None else self.pretrained.quantize

    @property
    def task_name(self) -> str | None:
        """The name of the task, or None while data are to decide it."""
        return self.task.name if isinstance(self.task, Task) else self.task

    def learning(self, kind: type[Task]) -> Task:
        """A task as it is asked for: ``task``, with its flat shorthands; before any data.

        Raises:
            OptionError: a shorthand that the task does not have, or one that is given twice.
        """
        asked = self.task.untaught() if isinstance(self.task, Task) else kind()
        given = {name: getattr(self, name) for name, usual in OF_TASK.items() if getattr(self, name) != usual}
        known = asked.option_names()
        raise_together(
            [
                *(
                    f"{name}={value!r:.60}: {asked.name} has no such option; it has {', '.join(known) or 'none'}"
                    for name, value in given.items()
                    if name not in known
                ),
                *(
                    f"{name} is given twice: {name}={given[name]!r:.60}, and in task={asked!r:.80}"
                    for name in given
                    if name in known and getattr(asked, name) != OF_TASK[name]
                ),
            ]
        )
        return replace(asked, **given)

    def of(self, task: Task) -> Arguments:
        """The same with this task, which has what the shorthands say."""
        return replace(self, task=task.untaught(), **OF_TASK)

    def reading(self, task: Task) -> Inputs:
        """How the inputs of a task are to be read: ``inputs``, with its flat shorthands.

        Raises:
            OptionError: inputs of another kind, a shorthand that they do not have, or one that is given twice.
        """
        kind, given = task.inputs, {name: getattr(self, name) for name in OF_INPUTS}
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
        raise_together([*problems, *self._given_twice()])
        return replace(asked, **given)

    def _given_twice(self) -> list[Problem]:
        """Shorthands that are given beside the field of ``inputs`` that they stand for."""
        return [
            f"{name} is given twice: {name}={getattr(self, name)!r:.60}, and in inputs={self.inputs!r:.80}"
            for name in OF_INPUTS
            if getattr(self, name) is not None and getattr(self.inputs, name, None) is not None
        ]

    def check(self) -> None:
        """Refuse values that no option can have, all of them at once.

        Raises:
            OptionError: naming each option, its value and what was expected.
        """
        raise_together([*self._problems_of_the_run(), *self._problems_of_choices(), *self._given_twice()])
        if self.task is not None:
            self.learning(find_task(self.task_name or ""))

    def _problems_of_the_run(self) -> list[Problem]:
        return [
            whole_number("epochs", self.epochs, at_least=1),
            self.max_steps is not None and whole_number("max_steps", self.max_steps, at_least=1),
            self.learning_rate not in (None, "find")
            and real_number(
                "learning_rate", self.learning_rate, 0, expected="a finite number of at least 0, 'find', or None"
            ),
            self.head_learning_rate is not None
            and real_number(
                "head_learning_rate", self.head_learning_rate, 0, expected="a finite number of at least 0, or None"
            ),
            self.layer_decay != 1
            and real_number("layer_decay", self.layer_decay, 0, 1, ends=False, expected="a number above 0, up to 1"),
            whole_number("batch_size", self.batch_size, at_least=1),
            self.micro_batch_size != "auto"
            and whole_number("micro_batch_size", self.micro_batch_size, at_least=1, other="'auto' or "),
            self.max_length is not None and whole_number("max_length", self.max_length, at_least=2),
            real_number("weight_decay", self.weight_decay, 0, expected="a finite number of at least 0"),
            self._check_warmup(),
            self.max_grad_norm is not None
            and above_zero("max_grad_norm", self.max_grad_norm, otherwise="None for no limit"),
            share("label_smoothing", self.label_smoothing),
            self.dropout is not None and share("dropout", self.dropout),
            *weights_problems(self.class_weights),
            whole_number("seed", self.seed, at_least=0, at_most=_LARGEST_SEED),
        ]

    def _problems_of_choices(self) -> list[Problem]:
        return [
            self._check_task(),
            choice("schedule", self.schedule, SCHEDULES),
            freeze_problem(self.freeze),
            adapter_problem(self.adapter),
            quantize_problem(self.quantize, adapter=self.adapter, device=self.device),
            self._check_what_is_trained(),
            self._check_few_shot(),
            one_of_types("inputs", self.inputs, Inputs | None, "such as Text(max_length=256), or None"),
            _switch("padding_free", self.padding_free),
            _switch("checkpointing", self.checkpointing),
            true_or_false("shard", self.shard),
            self.shard is True and self.quantize is not None and _QUANTIZED,
            choice("precision", self.precision, ["auto", "fp32", "bf16", "fp16"]),
            choice("on_nonfinite", self.on_nonfinite, ["error", "skip"]),
            one_of_types("device", self.device, str | torch.device, "a name such as 'auto', 'cpu' or 'cuda:0'"),
            self._check_metrics(),
            one_of_types("cache_dir", self.cache_dir, str | os.PathLike | None, "the path of a folder, or None"),
            self.keep_best is not None
            and one_of_types("keep_best", self.keep_best, str, "the name of a metric, such as 'loss', or None"),
            self.early_stopping is not None
            and one_of_types("early_stopping", self.early_stopping, EarlyStopping, self._stopping_instead()),
        ]

    def _check_task(self) -> str | None:
        given: object = self.task
        if given is None or isinstance(given, Task):
            return None
        if isinstance(given, type) and issubclass(given, Task):
            return f"task={given.__name__}: expected a value, not its class: task={given.__name__}()"
        return choice("task", given, [task.name for task in TASKS])

    def _check_what_is_trained(self) -> str | None:
        if isinstance(self.model, str) and self.model == NEW and (self.adapter is not None or self.freeze is not None):
            return (
                f"model={NEW!r}: nothing in it was trained yet, so all of it has to be: leave adapter= and freeze= out"
            )
        if self.quantize is not None and self.freeze is not None:
            return "quantize= and freeze= do not go together: weights in fewer bits are frozen as they are"
        if self.adapter is not None and self.pretrained is not None:
            pooling, layers = self.pretrained.pooling, self.pretrained.layers
            changed = f"pooling={pooling!r}" if pooling not in (None, HEAD) else f"layers={layers}" if layers else ""
            if changed:
                return (
                    f"{changed} and adapter= do not go together: an adapter stands on the model as it lies elsewhere, "
                    "with the layers that it has there"
                )
        if self.adapter is None or self.freeze != BACKBONE:
            return None
        return "freeze='backbone' leaves no layer for adapter= to stand in; an adapter freezes the rest by itself"

    def _check_few_shot(self) -> str | None:
        if self.few_shot is None or isinstance(self.few_shot, bool):
            return None
        if self.few_shot in ("contrast", "head-first"):
            return None
        return f"few_shot={self.few_shot!r:.60}: expected True, False, 'contrast' or 'head-first'"

    def _check_warmup(self) -> str | None:
        if isinstance(self.warmup, int) and not isinstance(self.warmup, bool):
            return whole_number("warmup", self.warmup, at_least=0)
        expected = "a share of the steps from 0 to 1, or a whole number of steps"
        return real_number("warmup", self.warmup, 0, 1, expected=expected)

    def _check_metrics(self) -> str | None:
        if self.metrics is None or isinstance(self.metrics, list | tuple):
            return None
        example = [self.metrics] if isinstance(self.metrics, str) else ["accuracy"]
        return f"metrics={self.metrics!r:.60}: expected a list of names or functions, such as {example}"

    def _stopping_instead(self) -> str:
        given = self.early_stopping
        metric = given if isinstance(given, str) else "loss"
        return f"EarlyStopping({metric!r}, patience=2), or None"


def without_recipes(options: Mapping[str, Any]) -> dict[str, Any]:
    """What to change in options so that a run is one run: no recipe, no race for the learning rate.

    Example:
        >>> without_recipes({"learning_rate": "find"}), without_recipes({"learning_rate": 1e-4})
        ({'few_shot': None, 'learning_rate': None}, {'few_shot': None})
    """
    return {**RECIPES, **({"learning_rate": None} if options["learning_rate"] == "find" else {})}


def own_options(value: Task | Inputs) -> tuple[str, ...]:
    """The names of the options of a value that is an option itself."""
    return value.option_names() if isinstance(value, Task) else tuple(item.name for item in fields(value))


def with_deep(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with changes, of which some concern a task or inputs: ``task__stride``.

    Raises:
        OptionError: there are no such options, all of them at once.
    """
    plain = {name: value for name, value in changes.items() if "__" not in name}
    unknown = [name for name in plain if name not in options]
    raise_together(f"FineTuner has no option {name!r}: {HINTS.get(name) or nearest(name, options)}" for name in unknown)
    found = {**options, **plain}
    for name in dict.fromkeys(name.partition("__")[0] for name in changes if "__" in name):
        deep = {key.partition("__")[2]: value for key, value in changes.items() if key.startswith(f"{name}__")}
        found[name] = _changed(name, found.get(name), deep)
    return found


def _changed(name: str, value: object, changes: Mapping[str, Any]) -> Task | Inputs:
    """A value with some of its own options changed."""
    if name == "task" and isinstance(value, str):
        value = find_task(value)()
    if not isinstance(value, Task | Inputs):
        listed = ", ".join(f"{name}__{own}" for own in changes)
        raise OptionError(f"{listed}: {name} is {value!r:.60}, and no value with options; task=QuestionAnswering() is")
    known = own_options(value)
    raise_together(
        f"{name}__{own}: {value!r:.80} has no option {own!r}: {nearest(own, known)}"
        for own in changes
        if own not in known
    )
    return replace(value, **changes)


def _switch(option: str, value: object) -> str | None:
    if isinstance(value, bool) or (isinstance(value, str) and value == "auto"):
        return None
    return f"{option}={value!r:.60}: expected 'auto', True or False"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
