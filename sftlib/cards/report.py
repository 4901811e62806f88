"""`FineTuner.report_card`: which parts a report has, in which order."""

from __future__ import annotations

import os
from typing import Any

from sftlib._version import __version__
from sftlib.audits.report import Audit
from sftlib.cards import parts, sounds
from sftlib.cards.page import page
from sftlib.cards.parts import Facts
from sftlib.cards.pictures import worst_pictures
from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of
from sftlib.run.choose import check_data, require_labelled
from sftlib.support.checking import folder_path
from sftlib.support.redaction import redacted


def write_report(
    tuner: FineTuner,
    path: str | os.PathLike[str],
    *,
    test: TaskDataset,
    train: TaskDataset | None,
    audit: Audit | None,
    errors: int,
) -> None:
    """Write the report of a fitted tuner.

    Args:
        tuner: fitted.
        path: of the file.
        test: rows to judge by.
        train: rows that it learned from, where they are known.
        audit: of the training rows, or None.
        errors: how many errors are explained.

    Raises:
        DataError: rows that cannot be judged by.
        OptionError: another ending, or an audit that is none.
    """
    target = folder_path(path)
    if target.suffix not in (".html", ".htm"):
        raise OptionError(f"path={os.fspath(path)!r}: expected a name that ends in .html")
    if audit is not None and not isinstance(audit, Audit):
        raise OptionError(f"audit={audit!r:.60}: expected what sftlib.audit(tuner, train) found")
    fitted = fitted_of(tuner, "report_card")
    require_labelled(test, "report_card", fitted.task.name)
    check_data(fitted.task, test, "report_card")
    facts = Facts(
        tuner=tuner,
        task=fitted.task,
        settings=_shown(dict(fitted.settings)),
        test=test,
        train=train,
        metrics=tuner.evaluate(test),
        predictions=tuner.predict(test),
        references=fitted.task.references(test),
        audit=audit,
    )
    made = [
        parts.scores(facts),
        parts.data(facts),
        parts.curves_of(facts),
        parts.by_label(facts),
        parts.confusion(facts),
        worst_pictures(facts),
        parts.certainty(facts),
        parts.slices(facts),
        parts.issues(facts),
        sounds.words(facts),
        sounds.worst(facts, errors),
        parts.errors(facts, errors),
        parts.limits(facts),
        parts.settings(facts),
        parts.loading(facts),
    ]
    title = f"{fitted.task.name}: {fitted.settings['model']}"
    subtitle = f"Report of a model tuned with sftlib {__version__}; judged by {len(test):,} rows that were set aside."
    text = page(redacted(title), subtitle, [part for part in made if part is not None])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def _shown(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = redacted(settings)
    return found
