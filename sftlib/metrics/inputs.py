"""Reading what users give: columns, metric functions, label names, numbers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, TypeAlias

from sftlib.errors import DataError, OptionError
from sftlib.metrics.labels import Label, LabelIndex

MetricFunction: TypeAlias = Callable[[Any, Any], float]


def as_list(values: Any, *, what: str) -> list[Any]:
    """A list of Python's own values from a list, tuple, array, tensor, series or other iterable.

    Raises:
        DataError: one string, a mapping, a set, something that is not iterable, or an array of more than one dimension.
    """
    if isinstance(values, str | bytes | Mapping | Set):
        raise DataError(f"{what} must be a list with one element a row, got {type(values).__name__} {values!r:.50}")
    if getattr(values, "ndim", 1) != 1:
        raise DataError(
            f"{what} must have one dimension, got an array of shape {tuple(values.shape)}: "
            "give one label or value a row (for several labels a row, a list of label lists)"
        )
    convert = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    try:
        return list(convert() if convert else values)
    except TypeError:
        raise DataError(f"{what} must be a list with one element a row, got {type(values).__name__}") from None


def attribute(predictions: list[Any], name: str) -> list[Any]:
    """The attribute ``name`` of each Prediction, or the predictions themselves when they are bare values.

    Raises:
        DataError: some are Predictions and some are not.
    """
    has = [hasattr(prediction, name) for prediction in predictions]
    if not any(has):
        return predictions
    if not all(has):
        row = has.index(not has[0])
        raise DataError(f"predictions, row {row}: all must be Prediction objects with .{name}, or none")
    return [getattr(prediction, name) for prediction in predictions]


def called(function: MetricFunction, references: Any, predictions: Any) -> float:
    """The value of a user function, as a float or an OptionError that names it."""
    value = function(references, predictions)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise OptionError(f"metric {function.__name__}() returned {value!r:.50}, expected a number") from None


def listed(names_or_functions: Any) -> list[str | MetricFunction]:
    """The names and functions as a list; one alone is a list of one."""
    if isinstance(names_or_functions, str) or callable(names_or_functions):
        return [names_or_functions]
    if not isinstance(names_or_functions, Iterable):
        raise OptionError(f"metrics {names_or_functions!r:.80}: expected names or functions")
    return list(names_or_functions)


def function_name(item: object) -> str:
    """The name under which a function stands, or an OptionError when it has none."""
    name = getattr(item, "__name__", None)
    if not callable(item) or not isinstance(name, str) or name == "<lambda>":
        shown = "a lambda" if name == "<lambda>" else f"{item!r:.80}"
        raise OptionError(f"metric {shown}: expected a name, or a named function f(references, predictions)")
    if not _takes_two(item):
        raise OptionError(f"metric {name}() cannot be called with two arguments, f(references, predictions)")
    return name


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # some built-in functions do not tell
        return True
    return True


def distinct_labels(given: Iterable[Label] | None) -> tuple[Label, ...] | None:
    """Label names that can be used, or the error that says why not; none at all count as not given."""
    if isinstance(given, str):
        raise OptionError(f"label_names={given!r}: expected a sequence of labels")
    return LabelIndex(given, closed=True).names or None if given is not None else None


def number(option: str, value: Any) -> float:
    """A float from a number or a tensor of one, or a DataError that names the option."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{option}={value!r:.50}: expected a number") from None


def exponential(value: float) -> float:
    """The exponential function, infinite where it is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
