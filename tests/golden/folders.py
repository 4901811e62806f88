"""Folders that version 0.1 wrote, which every later version has to open.

::

    folders/<name>/    what `FineTuner.save` wrote, one for each task and a few more; options of tasks beside the usual
                       ones, so that whoever moves them has something to find
    folders/base/      a model as transformers saves it: the base of the adapter, and where the run begins
    folders/run/       the `output_dir` of a run that ended half-way

`write_all` makes them anew. That is for a folder that is added, never for one that no longer opens.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftlib import EarlyStopping, FineTuner, Generation, LoRA
from sftlib.testing import tiny_folder
from tests.golden.rows import COLUMNS, data_of
from tests.golden.runs import BATCH_SIZE, EVALUATED, Run, Words, predictions_of, tuner_for

PLACE = Path(__file__).parent / "folders"
BASE, RUN = PLACE / "base", PLACE / "run"
SAVED_AT, STEPS = 3, 6  # steps of the run


@dataclass(frozen=True)
class Saved:
    """What a folder was saved from.

    Attributes:
        run: the run that made it.
        needs: what `FineTuner.load` gets as ``model``: nothing, ``"base"`` or ``"words"``.
    """

    run: Run
    needs: str = ""

    def opened(self, place: Path) -> FineTuner:
        """The tuner that the folder holds."""
        if not self.needs:
            return FineTuner.load(place)
        return FineTuner.load(place, model=BASE if self.needs == "base" else Words())

    def numbers(self, tuner: FineTuner) -> dict[str, Any]:
        """What is held of a tuner that was opened."""
        task = self.run.task
        metrics = tuner.evaluate(data_of(self.run.rows or task, task, EVALUATED))
        return {
            "task": tuner.task,
            "label_names": None if tuner.label_names is None else list(tuner.label_names),
            "predictions": predictions_of(tuner, task, self.run.inputs),
            "metrics": {name: float(value).hex() for name, value in metrics.items()},
        }


_SMALL = "distilbert"  # the family with the smallest files
_SHORT = Generation(max_new_tokens=6)

#: Name of the folder -> what is in it.
FOLDERS: dict[str, Saved] = {
    "text-classification": Saved(
        Run(
            "text-classification",
            _SMALL,
            task_options={"class_weights": {"bad": 1.0, "good": 0.5, "so-so": 2.0}, "label_smoothing": 0.1},
            options={"early_stopping": EarlyStopping("loss", patience=2)},
        )
    ),
    "multi-label-classification": Saved(
        Run("multi-label-classification", _SMALL, options={"freeze": ["*.embeddings"], "metrics": ["f1_micro"]})
    ),
    "text-regression": Saved(
        Run(
            "text-regression",
            _SMALL,
            task_options={"huber_delta": 0.3},
            options={"schedule": "cosine", "warmup": 2, "keep_best": "loss"},
        )
    ),
    "token-classification": Saved(
        Run(
            "token-classification",
            _SMALL,
            task_options={"stride": 4, "class_weights": "balanced", "label_smoothing": 0.1},
            options={"max_length": 16},
        )
    ),
    "question-answering": Saved(
        Run(
            "question-answering",
            _SMALL,
            task_options={"stride": 3, "max_answer_length": 4},
            options={"max_length": 24},
        )
    ),
    "relation-extraction": Saved(Run("relation-extraction", _SMALL, task_options={"negative_label": "part_of"})),
    "seq2seq": Saved(Run("seq2seq", "t5", task_options={"max_target_length": 6, "generation": _SHORT})),
    "causal-lm": Saved(
        Run(
            "causal-lm",
            "gpt2",
            "conversations",
            task_options={"train_on": "last", "over_long": "split", "generation": _SHORT},
            template=True,
        )
    ),
    "masked-lm": Saved(Run("masked-lm", _SMALL, task_options={"mask_probability": 0.3})),
    "text-embedding": Saved(
        Run(
            "text-embedding",
            _SMALL,
            "triplets",
            task_options={"embedding_loss": "triplet", "embedding_margin": 0.4},
        )
    ),
    "adapter": Saved(Run("text-classification", _SMALL, options={"adapter": LoRA(r=4)}), needs="base"),
    "plain-module": Saved(
        Run("text-classification", "bert", "whole numbers", options={"max_length": 40}, model=Words), needs="words"
    ),
}


def tuner_of_the_run() -> FineTuner:
    """The tuner of the run that ended half-way, as it begins."""
    options = {"batch_size": BATCH_SIZE, "micro_batch_size": 4, "learning_rate": 1e-3, "max_steps": STEPS, "seed": 7}
    smoothed = {"task": "text-classification", "task_options": {"label_smoothing": 0.1}}
    return tuner_for(str(BASE), **smoothed, precision="fp32", device="cpu", **options)


def rows_of_the_run() -> Any:
    """What it learns from."""
    return data_of("text-classification", "text-classification")


def write_all() -> dict[str, Any]:
    """Write every folder anew; returns what is held of each, once it has been opened again."""
    shutil.rmtree(PLACE, ignore_errors=True)
    tiny_folder(BASE, _SMALL, len(set(COLUMNS["text-classification"]["label"])))
    found = {}
    for name, saved in FOLDERS.items():
        task = saved.run.task
        valid = data_of(saved.run.rows or task, task, EVALUATED)
        saved.run.fitted(BATCH_SIZE, valid=valid).save(PLACE / name)
        found[name] = saved.numbers(saved.opened(PLACE / name))
    _write_run()
    return found


def _write_run() -> None:
    """The whole run, without what came after the step at which it is to have ended."""
    tuner_of_the_run().fit(rows_of_the_run(), output_dir=RUN, save_every=SAVED_AT, progress=False)
    for place in RUN.iterdir():
        if place.name != f"step-{SAVED_AT:08}":
            shutil.rmtree(place) if place.is_dir() else place.unlink()
