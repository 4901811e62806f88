"""Draws the pictures of the page on masks and packing: ``PYTHONPATH=. python docs/figures/masks_and_packing.py``.

What they show is asked of the library with a tiny random model, not made up: the pieces of a preview, the windows of an
encoded row, and which token's words reach which hidden state, by gradients.

Letters: ``B`` rows, ``T`` tokens of the longest, ``N`` tokens of all rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from sftlib import CausalLM, FineTuner, TaskDataset
from sftlib.run.assemble import assemble
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled
from sftlib.testing import tiny_config
from tests.chat_templates import FORMATS

FOLDER = Path(__file__).parent.parent / "how-to"
LEARNED, SHOWN, PADDING = "#c8f0d0", "#eeeeee", "#ffffff"
ROWS = ("#7fb2e5", "#f0b36a", "#9ad08c", "#d79bd1")
TALK = [
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "The Rhine."},
    {"role": "user", "content": "Another one?"},
    {"role": "assistant", "content": "The Nile."},
]


def tuner(**options: Any) -> FineTuner:
    """A tuner of a random Llama with ChatML's template."""
    config = tiny_config("llama", dropout=0.0)
    config.vocab_size, config.max_position_embeddings = 300, 256
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    return FineTuner(model, tokenizer=FORMATS["chatml"].tokenizer(), precision="fp32", device="cpu", **options)


def ready(data: TaskDataset, *, over_long: str = "truncate", **options: Any) -> Fitted:
    """All parts of a run, before its first step."""
    made = tuner(**options)
    return assemble(made._arguments, made._source, CausalLM(over_long=over_long).learned_from(data))


def draw_masks(path: Path) -> None:
    """What each ``train_on`` learns of one conversation."""
    from matplotlib.figure import Figure

    data = TaskDataset({"messages": [TALK]})
    figure = Figure(figsize=(9, 1.9), facecolor="white")
    for place, train_on in enumerate(("completion", "last", "all")):
        axis = figure.add_axes((place / 3 + 0.01, 0.02, 1 / 3 - 0.01, 0.86))
        seen = tuner(task=CausalLM(train_on=train_on)).preview(data, 0)
        write(axis, [(piece.text, piece.learned) for piece in seen])
        axis.set_title(f'train_on="{train_on}"', family="DejaVu Sans Mono", fontsize=9, loc="left")
    figure.savefig(path, dpi=140)


def write(axis: Any, pieces: list[tuple[str, bool]]) -> None:
    """Text in lines, letter by letter, what is learned on a green ground; ends of lines are shown as arrows."""
    from matplotlib.patches import Rectangle

    line = column = 0
    for text, learned in pieces:
        for letter in text.replace("\n", "⏎\n"):
            if letter == "\n":
                line, column = line + 1, 0
                continue
            if learned:
                axis.add_patch(Rectangle((column, -line - 0.42), 1.03, 0.84, facecolor=LEARNED, linewidth=0))
            ink = {"color": "#112233" if learned else "#777777", "fontsize": 8, "family": "DejaVu Sans Mono"}
            axis.text(column + 0.5, -line, letter, ha="center", va="center_baseline", **ink)
            column += 1
    axis.set(xlim=(-0.5, 38), ylim=(-line + 0.4, 0.7))
    axis.axis("off")


def draw_packing(path: Path) -> None:
    """Four rows side by side and end to end, and what each token sees."""
    from matplotlib.figure import Figure

    data = TaskDataset({"text": ["abcdefgh", "cde", "abcdf", "ab"]}, task="causal-lm")
    lengths, sees = reach(data)
    starts = np.cumsum([0, *lengths[:-1]])
    side, longest, total = len(lengths), max(lengths), sum(lengths)
    figure = Figure(figsize=(10.5, 4.6), facecolor="white", layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
    padded, flat = left.subplots(2, 1, height_ratios=[side, 1.6])
    for row, (length, start) in enumerate(zip(lengths, starts, strict=True)):
        for place in range(longest):
            real = place < length
            cell(padded, place, -row, ROWS[row] if real else PADDING, str(place) if real else "pad")
        for place in range(length):
            cell(flat, start + place, 0, ROWS[row], str(place))
    padded.set(xlim=(-0.1, longest + 0.1), ylim=(-side + 0.9, 1.1))
    padded.set_title(f"side by side: {side} by {longest}, {side * longest} places, for {total} tokens", fontsize=10)
    flat.set(xlim=(-0.1, total + 0.1), ylim=(-0.2, 1.2))
    flat.set_title("end to end: every place a token; positions begin anew with each row", fontsize=10)
    attention = right.subplots()
    attend(attention, sees, lengths, starts)
    for axis in (padded, flat):
        axis.set_aspect("equal")
        axis.axis("off")
    figure.savefig(path, dpi=130)


def cell(axis: Any, x: float, y: float, colour: str, text: str) -> None:
    """One token."""
    from matplotlib.patches import Rectangle

    padding = colour == PADDING
    style = {"hatch": "////", "edgecolor": "#cccccc"} if padding else {"edgecolor": "white"}
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, linewidth=1, **style))
    if not padding:
        axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color="#222222")


def attend(axis: Any, sees: NDArray[np.bool_], lengths: list[int], starts: NDArray[np.int64]) -> None:
    """(N, N) which token (across) reaches which (down), each row in its colour."""
    total = len(sees)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for i, j in zip(*np.nonzero(sees), strict=True):
        colour = ROWS[owner[i]] if owner[i] == owner[j] else "#cc0000"
        cell(axis, int(j), -int(i) - 1, colour, "")
    for start in starts[1:].tolist():
        axis.axhline(-start, color="#bbbbbb", linewidth=0.8, zorder=0)
        axis.axvline(start, color="#bbbbbb", linewidth=0.8, zorder=0)
    axis.set(xlim=(0, total), ylim=(-total, 0), xticks=[], yticks=[])
    axis.set_xlabel("is seen", fontsize=9)
    axis.set_ylabel("sees", fontsize=9)
    axis.set_title("what a token sees: itself and its own row before it", fontsize=10)
    axis.set_aspect("equal")


def reach(data: TaskDataset) -> tuple[list[int], NDArray[np.bool_]]:
    """Lengths of the rows in the order they lie in, and (N, N) whether a token moves another one's hidden state."""
    fitted = ready(data, padding_free=True)
    encoded = fitted.encode(data)
    fitted = settled(fitted, encoded)
    forward = fitted.forward()
    batch = fitted.feed(encoded).of(np.arange(len(encoded)))
    kept: list[torch.Tensor] = []
    hook = fitted.model.get_input_embeddings().register_forward_hook(lambda _, __, made: kept.append(made))  # type: ignore[operator]
    fitted.model.eval()
    with forward.prepared():
        states = forward(batch).states  # (B, T, H)
    hook.remove()
    lengths = batch.cost.tolist()
    flat = [states[row, place].square().sum() for row, length in enumerate(lengths) for place in range(length)]
    moved = [torch.autograd.grad(one, kept[-1], retain_graph=True)[0].abs().sum(-1)[0] > 0 for one in flat]
    return lengths, torch.stack(moved).numpy()


def draw_long_rows(path: Path) -> None:
    """One row that is too long, cut and split."""
    from matplotlib.figure import Figure

    turns = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "one two three four five"}]
    data = TaskDataset({"messages": [turns]})
    figure = Figure(figsize=(9, 2.0), facecolor="white", layout="constrained")
    axis = figure.subplots()
    line = 0.0
    rows: tuple[tuple[str, dict[str, Any]], ...] = (
        ("the row", {}),
        ('over_long="truncate", max_length=40', {"max_length": 40}),
        ('over_long="split", max_length=40', {"max_length": 40, "over_long": "split"}),
    )
    for title, options in rows:
        encoded = ready(data, **options).encode(data)
        axis.text(0, line + 1.2, title, family="monospace", fontsize=9)
        start = 0
        for window in range(len(encoded)):
            targets = encoded.targets["tokens"][window]
            for place, target in enumerate(targets):
                colour = LEARNED if target != -100 else SHOWN
                cell(axis, start + place, line, colour, "")
            start += len(targets) - 1
            line -= 1.15
        line -= 1.3
    axis.set(xlim=(-0.2, 47.2), ylim=(line + 2.1, 2.2))
    axis.set_aspect("equal")
    axis.axis("off")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw_masks(FOLDER / "masks.png")
    draw_packing(FOLDER / "packing.png")
    draw_long_rows(FOLDER / "long-rows.png")
