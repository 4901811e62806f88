"""Draws the small pictures of the gallery: ``PYTHONPATH=. python docs/figures/thumbnails.py [NAME ...]``.

Each is a picture that the executed notebook holds, or, where a notebook shows none, drawn from what it printed.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
NOTEBOOKS, GALLERY = HERE.parents[1] / "notebooks", HERE.parent / "_static" / "gallery"
SIZE, MARGIN = (560, 350), 10
# Which of a notebook's pictures, counted from 0.
PICTURES = {
    "01_quickstart": 1,
    "05_pictures": 3,
    "07_molecules": 1,
    "08_few_labels": 0,
    "09_choosing": 0,
    "10_why_and_how_sure": 0,
    "11_wrong_labels": 0,
}
INK, BLUE, ORANGE, GREEN = "#1c2330", "#1f77b4", "#d9700f", "#2e8b57"


def cells(name: str) -> list[dict[str, Any]]:
    """The cells of an executed notebook."""
    found: list[dict[str, Any]] = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return found


def outputs(name: str) -> list[dict[str, Any]]:
    """What all its cells gave."""
    return [output for cell in cells(name) for output in cell.get("outputs", ())]


def printed(name: str) -> str:
    """All that it printed."""
    return "".join("".join(one["text"]) for one in outputs(name) if one["output_type"] == "stream")


def pictured(name: str) -> Image.Image:
    """A picture that the notebook holds, on a white card."""
    found = [one["data"]["image/png"] for one in outputs(name) if "image/png" in one.get("data", {})]
    with Image.open(io.BytesIO(base64.b64decode("".join(found[PICTURES[name]])))) as picture:
        shown = picture.convert("RGBA")
    card = Image.new("RGBA", SIZE, "white")
    shown.thumbnail((SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN), Image.Resampling.LANCZOS)
    card.alpha_composite(shown, ((SIZE[0] - shown.width) // 2, (SIZE[1] - shown.height) // 2))
    return card.convert("RGB")


def drawn(draw: Callable[[Any], None]) -> Image.Image:
    """A card that is drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), facecolor="white")
    axis = figure.add_axes((0.05, 0.05, 0.9, 0.9))
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.axis("off")
    draw(axis)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    with Image.open(buffer) as picture:
        return picture.convert("RGB")


def entities(axis: Any) -> None:
    """The sentence that the notebook asks about, with what was found in it."""
    colours = {"PER": BLUE, "LOC": GREEN, "YEAR": ORANGE}
    found = re.findall(r"^'(.+)'\s+([A-Z]+)\s+([\d.]+) True$", printed("02_entities"), re.MULTILINE)
    for line, (text, label, score) in enumerate(found):
        height = 0.8 - 0.3 * line
        box = {"boxstyle": "round,pad=0.35", "facecolor": colours[label], "alpha": 0.22, "lw": 0}
        axis.text(0.05, height, text, fontsize=24, color=INK, va="center", bbox=box)
        axis.text(0.97, height, f"{label}  {score}", fontsize=15, color=colours[label], va="center", ha="right")


def questions(axis: Any) -> None:
    """The notebook's questions, and their answers."""
    found = re.findall(r"^(.+\?)\s+(?:'(.*)'|\"(.*)\")\s+[\d.]+  no answer", printed("03_questions"), re.MULTILINE)
    for line, (question, one, other) in enumerate(found):
        height, answer = 0.95 - 0.25 * line, one or other
        axis.text(0, height, question, fontsize=14, color=INK, va="center", alpha=0.85)
        axis.text(0.06, height - 0.1, answer or "no answer", fontsize=17, va="center", color=BLUE if answer else ORANGE)


def instructions(axis: Any) -> None:
    """What the language model says to the first question, before and after."""
    question, before, after = re.search(  # type: ignore[union-attr]  # the notebook prints it
        r"^(What is .+)\n  before: (.+)\n  after:  (.+)$", printed("04_instructions"), re.MULTILINE
    ).groups()
    axis.text(0, 0.93, question, fontsize=16, color=INK, va="top", fontweight="bold")
    for height, name, text, colour in ((0.74, "before", before, ORANGE), (0.25, "after", after, BLUE)):
        axis.text(0, height, name, fontsize=12, color=colour, va="top")
        axis.text(0, height - 0.09, _lines(str(ast.literal_eval(text)), 46, 3), fontsize=14, color=INK, va="top")


def sounds(axis: Any) -> None:
    """The letters of a spoken digit, where they stand in time; the higher a letter's ground, the surer it is."""
    pattern = r"^Said\(text='(.)', start=([\d.]+), end=([\d.]+), probability=([\d.]+)\)$"
    found = re.findall(pattern, printed("06_sounds"), re.MULTILINE)
    last = max(float(end) for _, _, end, _ in found)
    for letter, *numbers in found:
        start, end, sure = map(float, numbers)
        axis.bar(start / last, 0.62 * sure, (end - start) / last * 0.97, 0.14, align="edge", color=BLUE, alpha=0.25)
        axis.text((start + end) / 2 / last, 0.42, letter, fontsize=30, color=INK, ha="center", va="center")
    axis.plot([0, 1], [0.12, 0.12], color=INK, lw=1)
    axis.text(0, 0.02, "0 s", fontsize=13, color=INK)
    axis.text(1, 0.02, f"{last:.2f} s", fontsize=13, color=INK, ha="right")
    axis.text(0, 0.92, f"heard: {''.join(letter for letter, *_ in found)}", fontsize=19, color=BLUE, va="center")


def _lines(text: str, width: int, most: int) -> str:
    import textwrap

    lines = textwrap.wrap(text, width)
    return "\n".join(lines[:most]) + (" …" if len(lines) > most else "")


DRAWN = {"02_entities": entities, "03_questions": questions, "04_instructions": instructions, "06_sounds": sounds}


def main() -> None:
    """Write those that are named, or all."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or sorted([*PICTURES, *DRAWN]):
        card = drawn(DRAWN[name]) if name in DRAWN else pictured(name)
        card.quantize(128, dither=Image.Dither.NONE).save(GALLERY / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
