"""The tables of the README, "Beside others": speed from ``figures/``, trust from the table of ``docs/trust.md``.

``python -m tests.benchmarks.beside`` writes them; ``tests/test_readme.py`` holds the README to what it writes, so that
no figure stands there that was not measured, and none that was measured again is left as it was.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.figures import FOLDER, Figures, load, spread
from tests.benchmarks.measure import table
from tests.benchmarks.report import filled

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/benchmarks.md"


class Measured(NamedTuple):
    """A line of the table of speed: what was done, where it is told, and the names of who did it."""

    what: str
    section: str
    anchor: str
    default: str
    best: str
    others: tuple[str, str] = ("", "")


LINES = (
    Measured(
        "training, sentences",
        "training",
        "training-short-texts",
        "HF Trainer, default",
        "HF Trainer, bf16, grouped by length",
        ("Lightning, bf16-mixed", "skorch"),
    ),
    Measured(
        "training, texts of 256 tokens",
        "long-texts",
        "training-long-texts",
        "HF Trainer, default",
        "HF Trainer, bf16, grouped by length",
    ),
    Measured(
        "training, names in tweets",
        "entities",
        "names-and-questions",
        "HF Trainer, default",
        "HF Trainer, bf16, grouped by length",
    ),
    Measured(
        "later epochs, body frozen",
        "frozen",
        "a-body-that-keeps-its-weights",
        "HF Trainer, body frozen",
        "HF Trainer, body frozen, bf16, grouped by length",
    ),
    Measured(
        "predicting",
        "predicting",
        "predicting",
        "HF Trainer.predict, default (batch 8), tokenised before",
        "HF Trainer.predict, bf16, batch 128, by length, tokenised before",
    ),
    Measured("from Python's start to the first step", "starting", "starting-and-memory", "HF Trainer, default", ""),
    Measured(
        "peak of memory, texts of 256 tokens",
        "memory",
        "starting-and-memory",
        "texts cut at 256 tokens, 4 steps: HF Trainer, default",
        "texts cut at 256 tokens, 4 steps: HF Trainer, bf16",
    ),
)


def newest(section: str, folder: Path = FOLDER) -> Figures:
    """What was measured last."""
    return next(iter(load(section, folder).values()))


def speed(folder: Path = FOLDER) -> str:
    """Times the time of sftlib, a line for each thing that was measured."""
    lines = []
    for line in LINES:
        ratios = newest(line.section, folder).ratios
        cells = [spread(ratios[name]) if name in ratios else "" for name in (line.default, line.best, *line.others)]
        lines.append([f"[{line.what}]({PAGE}#{line.anchor})", "1", *cells])
    header = [
        "times the time of sftlib",
        "sftlib",
        "HF Trainer, as it comes",
        "in bf16, by length",
        "Lightning",
        "skorch",
    ]
    return f"{table(header, lines)}\n\n*{newest('training', folder).machine}; median, smallest and largest.*"


def level(folder: Path = FOLDER) -> str:
    """Where it is level or behind."""
    notes = " ".join(newest("accuracy", folder).notes)
    apart = re.search(r"of 3 seeds: (\S+) \(95 % interval (\S+) to (\S+)\)", notes)
    assert apart is not None
    spelled = {line[1]: line[2] for line in newest("pronunciation", folder).lines if line[0] == "mean"}
    worst = min(newest("heads", folder).lines, key=lambda line: float(line[-1].split()[0]))
    tokens = _row(PAGE, "datasets.map, batched")[-1].split()[0]
    return "\n".join(
        [
            "Where it is level, or behind:",
            "",
            f"- [accuracy]({PAGE}#accuracy-beside-the-speed) after the same steps as the Trainer's default: {apart[1]}",
            f"  (95 % interval {apart[2]} to {apart[3]}), so no difference that could be told",
            f"- [tokenising]({PAGE}#the-way-of-the-data): `datasets.map` takes {tokens} times the time",
            f"- a [small T5 from random weights]({PAGE}#pronunciations), barely trained:",
            f"  {spelled['sftlib']} of the words right, the Trainer's {spelled['Seq2SeqTrainer']}",
            f"- a head on a [frozen body]({PAGE}#a-body-that-keeps-its-weights), of five sets the worst, {worst[0]}:",
            f"  {worst[1]} right; a logistic regression on the same features: {worst[2]}",
        ]
    )


def _row(page: str, name: str) -> list[str]:
    """The cells of a row of a page's table."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return next(cells for cells in _cells(text) if cells[0] == name)


def _cells(text: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


def trust() -> str:
    """Which probes hold, as ``docs/trust.md`` has them."""
    text = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    header, _, *rows = _cells(text.split("<!-- peers: begin -->")[1].split("<!-- peers: end -->")[0])
    lines = [[row[1], *map(_held, row[2:])] for row in rows]
    names = [name.split(" (")[0] for name in header[2:]]
    sums = [_sum([line[place] for line in lines]) for place in range(1, len(names) + 1)]
    return table(["holds by what was seen", *names], [*lines, ["**together**", *sums]])


def _sum(cells: list[str]) -> str:
    return f"**{sum(cell.startswith('yes') for cell in cells)} of {sum(cell != 'n/a' for cell in cells)}**"


def _held(cell: str) -> str:
    if cell.startswith("n/a"):
        return "n/a"
    if not cell.startswith("**holds**"):
        return "no"
    return "yes, with a switch" if "nothing saved; with" in cell else "yes"


def write(page: Path = ROOT / "README.md") -> str:
    """The page with all tables as they are now."""
    text = page.read_text(encoding="utf-8")
    for section, content in (("speed", f"{speed()}\n\n{level()}"), ("trust", trust())):
        text = filled(text, section, content)
    return text


if __name__ == "__main__":
    (ROOT / "README.md").write_text(write(), encoding="utf-8")
