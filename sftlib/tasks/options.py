"""Options of `FineTuner` that shape a task: each says which of them it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sftlib.errors import OptionError
from sftlib.support.checking import is_number, nearest
from sftlib.tasks.base import Label


def refuse_options(task: str, options: Mapping[str, Any], *, known: tuple[str, ...]) -> None:
    """Refuse loss options that were set although the task has no use for them.

    Raises:
        OptionError: naming each.
    """
    unused = [name for name, value in options.items() if name not in known and value not in (None, 0.0)]
    if unused:
        listed = ", ".join(f"{name}={options[name]!r}" for name in unused)
        has = f"it has {', '.join(known)}" if known else "it has no loss options"
        raise OptionError(f"{task} has no use for {listed}; {has}")


def label_weights(
    option: str | Mapping[Label, float] | None, labels: Iterable[Label], names: Sequence[Label]
) -> list[float] | None:
    """A weight for each label name; ``"balanced"`` is scikit-learn's N / (K * count).

    Args:
        option: ``class_weights`` as it was given.
        labels: of all rows, or of all words.
        names: every label.

    Raises:
        OptionError: weights that do not fit the labels, all problems at once.
    """
    if option is None:
        return None
    if option == "balanced":
        counts = Counter(labels)
        present = [name for name in names if counts[name]]
        return [counts.total() / (len(present) * counts[name]) if counts[name] else 0.0 for name in names]
    if not isinstance(option, Mapping):
        raise OptionError(
            f"class_weights={option!r}: expected None, 'balanced', or a mapping from each label to a weight"
        )
    problems = [f"class_weights has no label {name!r}: {nearest(name, names)}" for name in option if name not in names]
    problems += [f"class_weights lacks the label {name!r}" for name in names if name not in option]
    problems += [
        f"class_weights[{name!r}]={weight!r:.60}: expected a finite number of at least 0"
        for name, weight in option.items()
        if not is_number(weight) or not 0 <= weight < float("inf")
    ]
    if not problems and not any(option.values()):
        problems = ["class_weights: all weights are 0, nothing would be learned"]
    if problems:
        raise OptionError("\n".join(problems))
    return [float(option[name]) for name in names]
