"""Runs the Python examples of a Markdown page, in order, as one program in a prepared folder.

The page's own names work there: ``bert-base-uncased`` and the like are folders with tiny random models, and
``reviews.csv`` has sixty rows; ``valid.csv`` and ``test.csv`` have others of their kind. So a page is tested
exactly as it is printed, without a network.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from sftlib.testing import SENTENCES, tiny_folder

# Hub names used on pages; relative paths too, which is what makes them work here.
MODELS = {"bert-base-uncased": "bert", "sentence-transformers/all-MiniLM-L6-v2": "bert"}
OTHER_MODELS = {
    "google-t5/t5-small": ("t5", "AutoModelForSeq2SeqLM"),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llama", "AutoModelForCausalLM"),
}
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: Path) -> list[tuple[int, str]]:
    """Line number and text of every fenced ``python`` block, but for sessions with prompts, which doctest runs."""
    text = page.read_text(encoding="utf-8")
    found = [(text.count("\n", 0, match.start(1)), match[1]) for match in FENCE.finditer(text)]
    return [(line, code) for line, code in found if ">>>" not in code]


def prepare(folder: Path) -> None:
    """Put the files there that pages read."""
    for name, family in MODELS.items():
        (folder / name).mkdir(parents=True)
        tiny_folder(folder / name, family)
    for name, (family, auto_class) in OTHER_MODELS.items():
        tiny_folder(folder / name, family, auto_class=auto_class)
    for name, takes in {"reviews": range(4), "valid": range(4, 8), "test": range(8, 12)}.items():
        _write_rows(folder / f"{name}.csv", takes)


def _write_rows(path: Path, takes: range) -> None:
    rows = [
        {"review": f"{text} Take {number}.", "sentiment": "positive" if (index + number) % 2 else "negative"}
        for number in takes
        for index, text in enumerate(SENTENCES[:15])
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def run(page: Path) -> dict[str, Any]:
    """Execute a page's examples in the current folder; returns the names they defined."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, code in examples(page):
        # Empty lines in front, so that a traceback points at the line of the page.
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)
    return names
