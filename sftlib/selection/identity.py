"""What a search, or a cross-validation, is known by when it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.finetuner import FineTuner
from sftlib.run.identity import described_options, libraries
from sftlib.selection.trial import Question


def identity_of(
    kind: str, tuner: FineTuner, data: TaskDataset, question: Question, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides results, as JSON values.

    Args:
        kind: what is done.
        tuner: whose options are those of the first candidate.
        data: the rows.
        question: what candidates are compared by.
        asked: what else was asked for.
    """
    options = tuner.get_params(deep=False)
    model = options["model"]
    name = Path(os.fspath(model)).name if isinstance(model, str | os.PathLike) else type(model).__name__
    return {
        "kind": kind,
        "options": described_options(Arguments(**options), name, ()),
        "data": {"rows": len(data), "fingerprint": data.fingerprint()},
        "metric": question.metric,
        "asked": dict(asked),
        "libraries": libraries(),
    }
