"""The ratios of the sections as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import FOLDER, Figures, load

#: Section -> its title in the plot.
PANELS = {
    "training": "Training, sentences",
    "training-banking77": "Training, banking77",
    "long-texts": "Training, 256 tokens",
    "predicting": "Predicting, sentences",
    "frozen": "Later epochs, body frozen",
    "starting": "Start of Python to first step",
    "datapath": "Making a batch",
    "memory": "Peak of memory",
}
SHORT = {
    "HF Trainer.predict, default (batch 8), tokenised before": "HF Trainer, default",
    "HF Trainer.predict, bf16, batch 128, by length, tokenised before": "HF Trainer, bf16, batch 128, by length",
    "HF Trainer, body frozen": "HF Trainer",
    "HF Trainer, body frozen, bf16, grouped by length": "HF Trainer, bf16, by length",
}


def draw(path: Path, folder: Path = FOLDER) -> bool:
    """Draw the sections of the machine that was measured last.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.figure import Figure

    panels = newest(folder)
    if not panels:
        return False
    heights = [len(figures.ratios) + 1.2 for figures in panels.values()]
    figure = Figure(figsize=(8, 0.27 * sum(heights) + 0.8), facecolor="white", layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (section, found) in zip(axes, panels.items(), strict=True):
        bars(axis, PANELS[section], found.ratios)
    figure.suptitle("Times the time (memory: times the memory) of sftlib; longer is worse", fontsize=11)
    figure.savefig(path, dpi=130)
    return True


def newest(folder: Path) -> dict[str, Figures]:
    """Section -> its figures on one machine: that of the newest file that can be drawn."""
    found = {section: load(section, folder) for section in PANELS}
    days = [(figures.measured, machine) for runs in found.values() for machine, figures in runs.items()]
    if not days:
        return {}
    machine = max(days)[1]
    return {section: runs[machine] for section, runs in found.items() if machine in runs and runs[machine].ratios}


def bars(axis: Any, title: str, ratios: Mapping[str, Sequence[float]]) -> None:
    """One panel: a bar a contender, its ratio at its end, the range of the rounds as a line."""
    names = [SHORT.get(name, name) for name in ratios]
    middles = [ratio[0] for ratio in ratios.values()]
    errors = [[m - low for m, low, _ in ratios.values()], [high - m for m, _, high in ratios.values()]]
    ours = [name.split(": ")[-1].startswith("sftlib") for name in names]
    colours = ["black" if mine else "0.75" for mine in ours]
    axis.barh(names, middles, xerr=errors, color=colours, edgecolor="black", linewidth=0.6, ecolor="0.45", capsize=2)
    widest = max(high for _, _, high in ratios.values())
    for row, (middle, _, high) in enumerate(ratios.values()):
        axis.text(high + 0.012 * widest, row, f"{middle:.3g}x", va="center", fontsize=8)
    axis.axvline(1, color="black", linewidth=0.6, linestyle=":")
    axis.set_xlim(0, 1.1 * widest)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
