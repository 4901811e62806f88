"""The options of `FineTuner`: one record, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, final

from sftlib.options import choice, raise_together
from sftlib.train.callbacks import EarlyStopping
from sftlib.train.schedules import SCHEDULES

#: Options that shape the loss; each task says which of them it has.
LOSS_OPTIONS = ("class_weights", "label_smoothing", "huber_delta")


@final
@dataclass
class Arguments:
    """What a `FineTuner` was asked for, as it was asked; see there for the meaning of each."""

    model: Any
    task: str | None
    tokenizer: Any
    epochs: int
    max_steps: int | None
    learning_rate: float
    batch_size: int
    micro_batch_size: int | str
    max_length: int | None
    weight_decay: float
    schedule: str
    warmup: float | int
    max_grad_norm: float | None
    class_weights: str | Mapping[Any, float] | None
    label_smoothing: float
    huber_delta: float | None
    dropout: float | None
    padding_free: bool | str
    precision: str
    device: str
    metrics: Sequence[Any] | None
    early_stopping: EarlyStopping | None
    keep_best: str | None
    on_nonfinite: str
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Option -> value, the very objects that were given."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def loss_options(self) -> dict[str, Any]:
        """Those that shape the loss."""
        return {name: getattr(self, name) for name in LOSS_OPTIONS}

    def check(self) -> None:
        """Refuse values that no option can have, all of them at once.

        Raises:
            OptionError: naming each option, its value and what was expected.
        """
        raise_together(
            [
                _whole("epochs", self.epochs, at_least=1),
                self.max_steps is not None and _whole("max_steps", self.max_steps, at_least=1),
                _number("learning_rate", self.learning_rate, 0.0, None),
                _whole("batch_size", self.batch_size, at_least=1),
                self.micro_batch_size != "auto" and _whole("micro_batch_size", self.micro_batch_size, 1, "'auto' or "),
                self.max_length is not None and _whole("max_length", self.max_length, at_least=2),
                _number("weight_decay", self.weight_decay, 0.0, None),
                choice("schedule", self.schedule, SCHEDULES),
                self._check_warmup(),
                self.max_grad_norm is not None and _number("max_grad_norm", self.max_grad_norm, 0.0, None),
                _number("label_smoothing", self.label_smoothing, 0.0, 1.0),
                self.dropout is not None and _number("dropout", self.dropout, 0.0, 1.0),
                None if self.padding_free in (True, False, "auto") else _padding_free(self.padding_free),
                choice("precision", self.precision, ["auto", "fp32", "bf16", "fp16"]),
                self._check_early_stopping(),
                choice("on_nonfinite", self.on_nonfinite, ["error", "skip"]),
                _whole("seed", self.seed, at_least=0),
            ]
        )

    def _check_warmup(self) -> str | None:
        if isinstance(self.warmup, int) and not isinstance(self.warmup, bool):
            return _whole("warmup", self.warmup, at_least=0)
        return _number("warmup", self.warmup, 0.0, 1.0, "a share of the steps from 0 to 1, or a whole number of steps")

    def _check_early_stopping(self) -> str | None:
        if self.early_stopping is None or isinstance(self.early_stopping, EarlyStopping):
            return None
        return f"early_stopping={self.early_stopping!r}: expected EarlyStopping('loss', patience=2), or None"


def _padding_free(value: object) -> str:
    return f"padding_free={value!r}: expected 'auto', True or False"


def _whole(option: str, value: object, at_least: int, other: str = "") -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= at_least:
        return None
    return f"{option}={value!r}: expected {other}a whole number of at least {at_least}"


def _number(option: str, value: object, low: float, high: float | None, expected: str = "") -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if good and low <= value <= (high if high is not None else 1e300):  # type: ignore[operator]
        return None
    shown = f"a number from {low:g} to {high:g}" if high is not None else f"a finite number of at least {low:g}"
    return f"{option}={value!r}: expected {expected or shown}"
