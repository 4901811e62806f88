"""Pictures of metrics (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import OptionError
from sftlib.metrics.labels import Label
from sftlib.support.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ANNOTATED = 20  # labels up to which each cell bears its count
TICKS = 40  # labels up to which each is named
PERCENTAGES = frozenset({"bleu", "chrf", "ter"})
DOTS = 5000  # rows up to which each is a dot


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure, in inches."""
    pyplot = require("matplotlib.pyplot", extra="plot", purpose="plot()")
    axes: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return axes


def draw_confusion(counts: NDArray[np.int64], labels: Sequence[Label], axes: Axes | None) -> Axes:
    """A confusion matrix (K, K): colours are shares of the row (recall on the diagonal), numbers are counts."""
    size = len(labels)
    side = 2.8 + 0.42 * min(size, ANNOTATED) if size <= ANNOTATED else min(4 + 0.16 * size, 14)
    axes = axes or new_axes(side + 1, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = axes.figure.colorbar(image, ax=axes, label="share of the label's rows", shrink=0.9)
    bar.outline.set_visible(False)
    if size <= ANNOTATED:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black" if count else "0.7"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=8 if size > 8 else 10)
    if size <= TICKS:
        names = [_short(label) for label in labels]
        steep = 0 if max(map(len, names), default=0) * size < 30 else 90 if size > 8 else 45
        axes.set_xticks(range(size), names, rotation=steep, ha="right" if steep == 45 else "center")
        axes.set_yticks(range(size), names)
        axes.tick_params(length=0, labelsize=8 if size > 8 else 10)
    axes.set(xlabel="prediction", ylabel="reference", title=f"{counts.sum():,} rows, {_percent(counts)} right")
    axes.spines[:].set_visible(False)
    return axes


def draw_bars(table: Mapping[Label, Mapping[str, float]], axes: Axes | None) -> Axes:
    """F1 of each label as bars, with the number of rows that bear it."""
    size = len(table)
    axes = axes or new_axes(7, min(1.4 + 0.32 * size, 24))
    values = [row["f1"] for row in table.values()]
    axes.barh(range(size), values, height=0.7)
    if size <= 2 * TICKS:
        for place, row in enumerate(table.values()):
            axes.text(row["f1"] + 0.01, place, f"{row['f1']:.2f}  ({row['support']:,.0f})", va="center", fontsize=8)
        axes.set_yticks(range(size), [_short(label) for label in table])
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.18), ylim=(size - 0.5, -0.5), xlabel="F1 (rows with the label)")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_values(values: Mapping[str, float], rows: int, axes: Axes | None) -> Axes:
    """Each metric as a bar: those up to 1 (rates) on one scale, percentages divided by 100."""
    size = len(values)
    axes = axes or new_axes(6, 1.4 + 0.36 * size)
    lengths = [value / 100 if name in PERCENTAGES else value for name, value in values.items()]
    axes.barh(range(size), np.nan_to_num(lengths), height=0.7)
    for place, value in enumerate(values.values()):
        axes.text(max(lengths[place], 0) + 0.01 if np.isfinite(value) else 0.01, place, f"{value:.4g}", va="center")
    axes.set_yticks(range(size), list(values))
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.18), ylim=(size - 0.5, -0.5), xlabel="share", title=f"{rows:,} rows")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_scatter(references: NDArray[np.float64], predictions: NDArray[np.float64], axes: Axes | None) -> Axes:
    """Predictions over references: dots, or of many rows the number in each hexagon; the line is a perfect model."""
    axes = axes or new_axes(5.6, 5)
    finite = np.isfinite(predictions)
    true, predicted = references[finite], predictions[finite]
    if len(true) <= DOTS:
        axes.scatter(true, predicted, s=14, alpha=0.4 if len(true) > 200 else 0.8, linewidths=0)
    else:
        image = axes.hexbin(true, predicted, gridsize=50, mincnt=1, bins="log", cmap="viridis", linewidths=0)
        axes.figure.colorbar(image, ax=axes, label="rows")
    if len(true):
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color="0.4", linewidth=1, linestyle="--", label="prediction = reference")
        axes.legend(frameon=False, loc="upper left")
    lost = f", {len(finite) - len(true):,} not finite" if len(true) < len(finite) else ""
    axes.set(xlabel="reference", ylabel="prediction", title=f"{len(finite):,} rows{lost}")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_parity(panels: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], axes: Axes | None) -> Axes:
    """A panel for each target, with its predictions (N,) over its references; of axes that are given the one panel.

    Returns:
        The axes, or those of the first panel.
    """
    if axes is not None:
        true, predicted = (np.concatenate([column[side] for column in panels.values()]) for side in (0, 1))
        return draw_scatter(true, predicted, axes)
    drawn = _panels(len(panels))
    for own, (name, (true, predicted)) in zip(drawn, panels.items(), strict=True):
        draw_scatter(true, predicted, own)
        own.set_title(f"{_short(name)}: {own.get_title()}")
    return drawn[0]


def _panels(count: int) -> list[Axes]:
    """So many axes of one figure, at most three a line."""
    pyplot = require("matplotlib.pyplot", extra="plot", purpose="plot()")
    across = min(count, 3)
    down = -(-count // across)
    figure = pyplot.figure(figsize=(0.4 + 4.2 * across, 4.2 * down), layout="constrained")
    return [figure.add_subplot(down, across, place + 1) for place in range(count)]


def parity_plot(predictions: Sequence[Any], references: Sequence[Any]) -> Axes:
    """Predictions over references, a panel for each target, and the interval of each where it was asked for.

    Args:
        predictions: of a regression, as ``predict`` gives them; with ``sets=True`` their intervals are drawn too, and
            the title says how many hold their reference.
        references: a number a row, or a mapping of targets, with None for gaps.

    Returns:
        The axes of the first panel; ``axes.figure.savefig("parity.png")`` writes the figure (extra ``plot``).

    Raises:
        OptionError: other predictions, or another number of references.

    Example:
        >>> from sftlib.tasks.regression import Regression
        >>> axes = parity_plot([Regression(1.0, 0.5, 1.5), Regression(2.0, 1.8, 2.2)], [1.2, 2.5])
        >>> axes.get_title()
        '2 rows, 50.0% in their interval'
    """
    if len(predictions) != len(references) or not references:
        raise OptionError(
            f"{len(predictions)} predictions and {len(references)} references: expected as many, and some"
        )
    pairs = list(zip(predictions, references, strict=True))
    if all(hasattr(one, "values") and isinstance(row, Mapping) for one, row in pairs):
        rows = {
            str(name): [(row[name], one.values[name]) for one, row in pairs if row.get(name) is not None]
            for name in predictions[0].values
        }
        return draw_parity({name: _columns(found) for name, found in rows.items()}, None)
    if not all(hasattr(one, "value") for one in predictions):
        raise OptionError("parity_plot takes predictions of a regression, with .value or .values, and their references")
    (axes,) = _panels(1)
    true, value = _columns([(row, one.value) for one, row in pairs])
    draw_scatter(true, value, axes)
    if all(getattr(one, "low", None) is not None for one in predictions):
        low, high = _columns([(one.low, one.high) for one in predictions])
        axes.vlines(true, low, high, alpha=0.35, linewidth=1)
        held = np.mean((low <= true) & (true <= high))
        axes.set_title(f"{axes.get_title()}, {held:.1%} in their interval")
    return axes


def _columns(rows: Sequence[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _short(label: Label) -> str:
    text = str(label).replace("$", r"\$")  # matplotlib would read what stands between two as mathematics
    return text if len(text) <= 24 else text[:23] + "…"


def _percent(counts: NDArray[np.int64]) -> str:
    return f"{np.trace(counts) / max(counts.sum(), 1):.1%}"
