"""`search`: which options are best, and which of them cannot be told from the best."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.run.choose import require_labelled
from sftlib.selection.folds import Groups, check_folds, group_names
from sftlib.selection.found import Found, Trial
from sftlib.selection.identity import identity_of
from sftlib.selection.kept import Kept
from sftlib.selection.options import Candidate, candidates_of
from sftlib.selection.race import Race, units_of
from sftlib.selection.trial import Question, check_tuner, question_of
from sftlib.support.checking import above_zero, checked, raise_together, true_or_false, whole_number
from sftlib.tasks import find_task

__all__ = ["Found", "Trial", "search"]

_FACTOR = 3


@checked
def search(
    tuner: FineTuner,
    train: TaskDataset,
    valid: TaskDataset | None = None,
    *,
    options: Any,
    folds: int | str = 3,
    trials: int | None = None,
    halving: bool | int = True,
    metric: str | None = None,
    groups: Groups = None,
    minutes: float | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    refit: bool = True,
    progress: bool = True,
) -> Found:
    """Try options, and say which are best and which cannot be told from the best.

    The tuner's own options are always among the trials. Trials share tokens, the weights as they were opened, and
    outputs of frozen layers; all are judged on the same rows, which none of them has seen, and compared row by row.

    With ``halving`` every candidate first runs for a ninth and then for a third of its steps, each time with a complete
    schedule, on one fold; one leaves when it is not among the better third *and* the interval of its difference to the
    last of these excludes 0 at 80 %. Who is left runs for all steps on all folds.

    Args:
        tuner: its options are those of the first candidate; it is not changed.
        train: labelled rows.
        valid: rows to judge by; without them folds of ``train`` are held out in turn.
        options: option -> list of values, or -> `Range`; ``task__...`` and ``inputs__...`` too; or a list of such maps.
        folds: how many, or ``"groups"``, as of `cross_validate`; not used with ``valid``.
        trials: how many to try where there is a `Range`, or of a grid that is too large; spread evenly, by the seed.
        halving: True; False to run all candidates in full; or the factor by which candidates shrink.
        metric: to rank by; the first of the tuner's or the task's when None.
        groups: as of `cross_validate`.
        minutes: after which no further trial begins; what was not tried is listed.
        output_dir: a folder for results; called again with the same, a search that was killed goes on.
        refit: whether the best is fitted anew on all of ``train``, as ``found.tuner``.
        progress: a line a trial.

    Returns:
        `Found`: ``trials``, ``best``, ``equals``, ``simplest``, ``tuner``.

    Raises:
        OptionError: options that do not exist, values they cannot have, the same twice, folds that the data cannot have
            or an unknown metric; all at once, before any training.
        DataError: rows that ``fit`` would refuse.
        CheckpointError: ``output_dir`` holds another search.
        SftlibError: all trials failed; the error of the first.

    Example:
        >>> from sftlib import Text
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> rows = {"text": [*SENTENCES], "label": ["film"] * 12 + ["bank"] * 4}
        >>> tuner = FineTuner(tiny_model(), inputs=Text(tokenizer=tiny_tokenizer()), epochs=1)
        >>> options = {"learning_rate": [1e-4, 1e-2]}
        >>> found = search(tuner, TaskDataset(rows), folds=2, options=options, progress=False)
        >>> len(found.trials), list(found.best), found.best in found.equals
        (3, ['learning_rate'], True)
    """
    check_tuner(tuner)
    require_labelled(train, "search (train)", tuner.task)
    raise_together(
        [
            true_or_false("progress", progress),
            true_or_false("refit", refit),
            None
            if isinstance(halving, bool)
            else whole_number("halving", halving, at_least=1, other="True, False or "),
            minutes is not None and above_zero("minutes", minutes, otherwise="None for no limit"),
        ]
    )
    if valid is None:
        check_folds(train, folds, 1, groups)
    question = question_of(tuner, train, metric, judged=valid)
    usual, holding = find_task(question.task.name), tuner.holding()
    candidates = candidates_of(holding, options, usual=usual, trials=trials, seed=question.seed)
    _check(candidates, train, valid, question)
    units = units_of(train, valid, folds, groups, question.seed)
    factor = _FACTOR if halving is True else int(halving) or 1
    asked = {
        "folds": folds if valid is None else valid.fingerprint(),
        "groups": None if groups is None else str(groups),
        "halving": factor,
        "trials": [f"{dict(candidate.changes)!r:.200}" for candidate in candidates],
    }
    kept = Kept(output_dir, identity_of("search", tuner, train, question, asked), question.task)
    named_groups = group_names(train if valid is None else valid, groups)
    race = Race(candidates, question, units, kept, factor=factor, minutes=minutes, progress=progress)
    race.run(named_groups)
    found = race.found(named_groups)
    best = race.refitted(train, valid) if refit else None
    return replace(found, tuner=best, seconds=time.perf_counter() - race.started)


def _check(candidates: Sequence[Candidate], train: TaskDataset, valid: TaskDataset | None, question: Question) -> None:
    """Refuse options that do not go with the data, of all candidates at once."""
    problems: dict[str, None] = {}
    for candidate in candidates:
        try:
            question_of(candidate.tuner, train, question.metric, judged=valid)
        except OptionError as error:
            problems.update(dict.fromkeys(str(error).splitlines()))
    raise_together(problems)
