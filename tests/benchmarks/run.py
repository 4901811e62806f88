"""Measure, and write what was found to ``figures/MACHINE/SECTION.json`` and to ``docs/benchmarks.md``.

``python -m tests.benchmarks.run [section ...]``; without names, every section. A section keeps its last figures of a
machine until it is measured again there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch

from tests.benchmarks.figures import FOLDER, Asked, Figures, load, save
from tests.benchmarks.report import write_page

#: Section -> the module and the function that measure it.
SECTIONS: Mapping[str, tuple[str, str]] = {
    "training": ("speed", "training"),
    "training-banking77": ("speed", "banking"),
    "long-texts": ("speed", "long_texts"),
    "lengths": ("speed", "lengths"),
    "predicting": ("speed", "predicting"),
    "frozen": ("frozen", "frozen"),
    "folds": ("frozen", "folds"),
    "heads": ("heads", "heads"),
    "starting": ("processes", "starting"),
    "memory": ("processes", "memory"),
    "datapath": ("path", "datapath"),
    "growth": ("path", "growth"),
    "accuracy": ("accuracy", "accuracy"),
    "entities": ("words", "entities"),
    "entities-scores": ("words", "entities_scores"),
    "questions": ("words", "questions"),
    "questions-scores": ("words", "questions_scores"),
    "pronunciation": ("pronunciation", "pronunciation"),
    "domains": ("domains", "domains"),
    "instruction": ("instruction", "instruction"),
    "gpu": ("card", "gpu"),
}


def measure(section: str, asked: Asked) -> Figures:
    """Measure a section; its module is imported only then, with the peers that it needs."""
    module, function = SECTIONS[section]
    found: Callable[[Asked], Figures] = getattr(import_module(f"tests.benchmarks.{module}"), function)
    return found(asked)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sections asked for, and write each as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="what to measure (default: everything)")
    parser.add_argument("--quick", action="store_true", help="only try whether it runs; nothing is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs compared by scores")
    parser.add_argument("--figures", type=Path, help=f"folder of the figures (default: {FOLDER.name}; quick: .cache)")
    given = parser.parse_args(arguments)
    folder = given.figures or (Path(".cache/quick-figures") if given.quick else FOLDER)
    asked = Asked(given.quick, tuple(given.seeds), folder)
    for name in given.sections or [name for name in SECTIONS if name != "gpu" or torch.cuda.is_available()]:
        print(name, flush=True)
        start = time.perf_counter()
        path = save(name, measure(name, asked), folder)
        print(load(name, folder)[path.parent.name].markdown())
        print(f"{name}: {time.perf_counter() - start:.0f} s, {path}\n", flush=True)
        if folder == FOLDER:
            write_page()


if __name__ == "__main__":
    main()
