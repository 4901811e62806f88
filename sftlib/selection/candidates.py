"""What `compare` is given: pretrained models, and estimators of scikit-learn beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from torch import nn

from sftlib.errors import OptionError, SftlibError
from sftlib.finetuner import FineTuner
from sftlib.models.pretrained import Pretrained
from sftlib.selection.heads import is_estimator, usual_baseline
from sftlib.support.checking import raise_together
from sftlib.tasks.base import Task

_BASELINE = "words counted (tf-idf)"


@final
@dataclass(frozen=True)
class Candidate:
    """What is compared.

    Attributes:
        name: unlike all others.
        tuner: of a pretrained model.
        estimator: of scikit-learn.
    """

    name: str
    tuner: FineTuner | None = None
    estimator: Any = None


def candidates_of(models: object) -> list[Candidate]:
    """What was given, each by a name of its own.

    Args:
        models: names, folders, models, tuners or estimators.

    Raises:
        OptionError: what is none of these, or the same twice.
    """
    if isinstance(models, str | os.PathLike | nn.Module | FineTuner) or not isinstance(models, Sequence) or not models:
        raise OptionError(
            f"models={models!r:.60}: expected a list of names, folders, models, tuners or estimators, at least one"
        )
    found: list[Candidate] = []
    problems = []
    for place, model in enumerate(models):
        try:
            found.append(_candidate(model))
        except SftlibError as error:
            problems.append(f"models[{place}]: {error}")
    raise_together(problems)
    same = [one for place, one in enumerate(models) if any(one is other for other in models[:place])]
    named = [one for one in models if isinstance(one, str)]
    same += [one for place, one in enumerate(named) if one in named[:place]]
    raise_together([f"models: {same[0]!r:.60} comes twice" if same else None])
    return _named_apart(found)


def _candidate(model: Any) -> Candidate:
    if isinstance(model, FineTuner):
        return Candidate(_name(model), tuner=model.holding())
    if isinstance(model, str | os.PathLike | Pretrained | nn.Module):
        tuner = FineTuner(model)
        return Candidate(_name(tuner), tuner=tuner.holding())
    if is_estimator(model) and not isinstance(model, type):
        return Candidate(type(model).__name__, estimator=model)
    raise OptionError(f"{model!r:.60} is neither a model nor an estimator with fit and predict")


def _name(tuner: FineTuner) -> str:
    model = tuner.get_params(deep=False)["model"]
    if isinstance(model, Pretrained):
        model = model.name
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        return Path(name).name if os.path.isdir(name) else name
    return type(model).__name__


def _named_apart(entries: Sequence[Candidate]) -> list[Candidate]:
    """The same, those with equal names numbered."""
    names = [entry.name for entry in entries]
    return [
        replace(entry, name=f"{entry.name} #{names[: place + 1].count(entry.name)}")
        if names.count(entry.name) > 1
        else entry
        for place, entry in enumerate(entries)
    ]


def baseline_of(baseline: Any, task: Task, texts: Sequence[str] | None) -> list[Candidate]:
    """The simple one beside them, where there are texts that it can read.

    Args:
        baseline: as `compare` was given it.
        task: of the data.
        texts: what estimators read, or None.

    Raises:
        OptionError: something else than an estimator.
    """
    if baseline is None or texts is None:
        return []
    if isinstance(baseline, str) and baseline == "tf-idf":
        return [Candidate(_BASELINE, estimator=usual_baseline(task))]
    if is_estimator(baseline) and not isinstance(baseline, str | type):
        return [Candidate(f"baseline: {type(baseline).__name__}", estimator=baseline)]
    raise OptionError(f"baseline={baseline!r:.60}: expected 'tf-idf', an estimator of scikit-learn, or None")


def licence_of(tuner: FineTuner) -> str | None:
    """What the card in a model's folder says; None without one."""
    model = tuner.get_params(deep=False)["model"]
    card = Path(os.fspath(model)) / "README.md" if isinstance(model, str | os.PathLike) else None
    if card is None or not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace")[:4_000]
    found = re.search(r"^license:\s*([\w.-]+)", head, re.MULTILINE)
    return found[1] if found else None
