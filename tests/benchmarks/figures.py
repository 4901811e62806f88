"""What a section found, and the files it is kept in: ``figures/MACHINE/SECTION.json``, one folder for each machine."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

import torch

from tests.benchmarks.measure import Series, table

T = TypeVar("T")

FOLDER = Path(__file__).resolve().parent / "figures"


@dataclass(frozen=True)
class Asked:
    """How a section is to be measured.

    Attributes:
        quick: only try whether it runs; the figures mean nothing.
        seeds: of the runs that are compared by their scores.
        folder: where figures are written.
    """

    quick: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    folder: Path = FOLDER

    def size(self, full: int, quick: int) -> int:
        """A number of rounds, steps or rows."""
        return self.pick(full, quick)

    def pick(self, full: T, quick: T) -> T:
        """One of two, as with `size`."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Figures:
    """A table, what is to be said below it, and the numbers it was made from.

    Attributes:
        header: of the table.
        lines: of the table.
        notes: paragraphs.
        ratios: contender -> how many times sftlib's time it took: median, smallest and largest.
        seconds: contender -> one number a round.
        machine: what it was measured on.
        measured: the day.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[object]]
    notes: Sequence[str] = ()
    ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    machine: str = ""
    measured: str = ""

    def markdown(self) -> str:
        """The table, the notes, the machine and the day."""
        return "\n\n".join([table(self.header, self.lines), *self.notes, f"*{self.machine}; {self.measured}.*"])


def compared(
    title: str,
    found: Mapping[str, Series],
    unit: tuple[str, float],
    rate: tuple[str, float],
    *,
    notes: Sequence[str] = (),
) -> Figures:
    """A line for each contender; the first is what the others are compared with.

    Args:
        title: what was done.
        found: contender -> its rounds.
        unit: name and factor of the time that is shown.
        rate: name and number of what is done in a round, for a rate.
        notes: paragraphs below the table.
    """
    first = next(iter(found.values()))
    ratios = {name: series.ratio(first) for name, series in found.items()}
    lines = [
        [name, _short(series.median * unit[1]), _short(rate[1] / series.median), spread(ratios[name])]
        for name, series in found.items()
    ]
    seconds = {name: [round(value, 6) for value in series.seconds] for name, series in found.items()}
    return Figures([title, unit[0], rate[0], "times sftlib's time"], lines, notes, ratios, seconds)


def spread(ratio: Sequence[float]) -> str:
    """A median and its range."""
    middle, low, high = (f"{value:.0f}" if value >= 100 else f"{value:.2f}" for value in ratio)
    return f"{middle} ({low} to {high})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def processor() -> tuple[str, str]:
    """Its name, and what it has for bf16."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    units = [label for flag, label in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")) if flag in text]
    return (name[1].strip() if name else platform.processor() or platform.machine()), (units or ["no bf16 units"])[0]


def machine() -> str:
    """The machine and the versions, for a table."""
    import transformers

    name, units = processor()
    return (
        f"{torch.get_num_threads()} threads of {name} ({units}), torch {torch.__version__}, "
        f"transformers {transformers.__version__}, Python {platform.python_version()}"
    )


def slug() -> str:
    """The machine's folder."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(processor()).lower()).strip("-")


def save(section: str, figures: Figures, folder: Path = FOLDER) -> Path:
    """Write what a section found, with machine and day."""
    found = {**asdict(figures), "machine": machine(), "measured": date.today().isoformat()}
    path = folder / slug() / f"{section}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def load(section: str, folder: Path = FOLDER) -> dict[str, Figures]:
    """Machine's folder -> what was found there, the newest first."""
    found = {
        path.parent.name: Figures(**json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob(f"*/{section}.json"))
    }
    return dict(sorted(found.items(), key=lambda item: item[1].measured, reverse=True))
