"""Reliability and coverage, drawn (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sftlib.support.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sftlib.sure.calibration import Bin
    from sftlib.sure.deciding import Answered


def draw_reliability(series: Mapping[str, Sequence[Bin]], axes: Axes | None) -> Axes:
    """How often the model was right over how sure it was; the larger a dot, the more rows."""
    axes = axes or _new_axes(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls="--")
    for (name, bins), marker in zip(series.items(), "os^", strict=False):
        most = max(part.rows for part in bins)
        sure, right = [part.probability for part in bins], [part.accuracy for part in bins]
        (line,) = axes.plot(sure, right, lw=1, alpha=0.8)
        sizes = [12 + 90 * part.rows / most for part in bins]
        axes.scatter(sure, right, s=sizes, marker=marker, color=line.get_color(), label=name)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="how sure the model is", ylabel="how often it is right")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_coverage(parts: Sequence[Answered], promised: float, axes: Axes | None) -> Axes:
    """Accuracy of the answers over the share of rows that are answered."""
    axes = axes or _new_axes(5.4, 3.8)
    answered = [part.coverage for part in parts]
    axes.plot(answered, [part.accuracy for part in parts], marker="o", ms=3, label="accuracy of answers")
    axes.plot(answered, [part.at_least for part in parts], lw=1, ls=":", label="at least, with confidence")
    axes.axhline(promised, color="0.6", lw=0.8, ls="--", label=f"promised: {promised:.4g}")
    axes.set(xlim=(0, 1.02), xlabel="share of rows answered", ylabel="accuracy")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _new_axes(width: float, height: float) -> Axes:
    pyplot = require("matplotlib.pyplot", extra="plot", purpose="plot()")
    axes: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return axes
