"""What a folder of a run looks like from outside: checkpoints are states of a run, and no models."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: Name of a checkpoint, with its optimizer step.
STEP = re.compile(r"step-(\d{8,})")


def checkpoint_hint(path: str | os.PathLike[str]) -> str | None:
    """How to get a model out of a folder of a run, or of one of its checkpoints; None for any other folder.

    Example:
        >>> print(checkpoint_hint("runs/first"))
        None
    """
    folder = Path(path)
    if not folder.is_dir() or any((folder / name).is_file() for name in ("config.json", "sftlib.json")):
        return None
    if STEP.fullmatch(folder.resolve().name) and (folder / "manifest.json").is_file():
        shown, what = os.path.normpath(os.path.join(path, os.pardir)), "a checkpoint of a run"
    elif any(STEP.fullmatch(item.name) and not (item / "config.json").is_file() for item in folder.iterdir()):
        shown, what = os.fspath(path), "the output_dir of a run"
    else:
        return None
    return (
        f"it is {what}, which holds what changes in training and no model: "
        f"fit(train, valid, output_dir={shown!r}, resume=True) with the options and the data of that run goes on with "
        "it, or gives its result at once if it is over; save(...) then writes a model"
    )
