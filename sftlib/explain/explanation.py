"""What an explanation is, and how it is shown: in a terminal, in a notebook, as a picture."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import OptionError
from sftlib.explain.faithful import Faithfulness
from sftlib.explain.pieces import Text
from sftlib.support.checking import folder_path
from sftlib.support.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_BAR, _SHOWN = 24, 16
# Blue speaks for, orange against: told apart by people who see no red or green, on light ground and on dark.
FOR, AGAINST = (31, 119, 180), (230, 120, 20)
ENOUGH_GAP = 0.01
ADDS_UP = "integrated-gradients"


@final
@dataclass(frozen=True)
class Word:
    """A word of the input, and what it did.

    Attributes:
        text: as it stands there.
        start: its first character in its text.
        end: the one after its last.
        score: what it adds to the number that is explained: above 0 it speaks for the target, below against it.
        role: the role of its text.
    """

    text: str
    start: int
    end: int
    score: float
    role: str = "text"


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What all explanations have.

    Attributes:
        target: the label that is explained; None of a number.
        probability: of the target; None of a number.
        score: the number that is explained: the target's score before softmax, or the value.
        baseline: the same with everything taken away.
        gap: what the scores fail to add up to, as a share of ``score - baseline``; only integrated gradients are meant
            to add up.
        method: that was used.
        steps: that the way from nothing to the input was cut into, or settings that were tried.
        faithfulness: what happens without the pieces that speak for the target, beside random ones.
    """

    target: Any
    probability: float | None
    score: float
    baseline: float
    gap: float
    method: str
    steps: int
    faithfulness: Faithfulness = field(repr=False)

    @property
    def comprehensiveness(self) -> float:
        """What the probability loses without the fifth of the pieces that speak for the target most."""
        return self.faithfulness.comprehensiveness

    @property
    def sufficiency(self) -> float:
        """What the probability loses when only these are left; small is good."""
        return self.faithfulness.sufficiency

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be said before it is believed."""
        found = []
        if self.gap > ENOUGH_GAP and self.method == ADDS_UP:
            found.append(
                f"the scores miss {self.gap:.1%} of the difference after {self.steps} steps: "
                "method='leave-one-out' does not depend on steps"
            )
        if not self.faithfulness.beats_chance:
            what = self.faithfulness
            found.append(
                "this explains nothing: without what it names, the answer moves by "
                f"{what.comprehensiveness:+.3f}, without what chance names by {what.random_comprehensiveness:+.3f}"
            )
        return tuple(found)

    def _headline(self) -> str:
        what = "the value" if self.target is None else repr(self.target)
        sure = f"value {self.score:.4g}" if self.probability is None else f"probability {self.probability:.3f}"
        missing = f", gap {self.gap:.1%}" if self.method == ADDS_UP else ""
        return f"what speaks for {what} ({sure}); {self.method}{missing}"

    def _measured(self) -> str:
        what = self.faithfulness
        return (
            f"without the best fifth {what.comprehensiveness:+.3f} (random {what.random_comprehensiveness:+.3f}), "
            f"with it alone {what.sufficiency:+.3f} (random {what.random_sufficiency:+.3f})"
        )


@final
@dataclass(frozen=True, kw_only=True)
class Explanation(Explained):
    """Which words made a model say what it says; prints as bars, and is coloured text in a notebook.

    Attributes:
        words: all words of the input, in order; their scores add up to ``score - baseline``, but for the gap.
        texts: the texts of the input.
        unread: words that were cut off before the model read them; their score is 0.
    """

    words: tuple[Word, ...]
    texts: tuple[Text, ...] = field(repr=False)
    unread: int = 0

    @property
    def scores(self) -> tuple[float, ...]:
        """One for each word."""
        return tuple(word.score for word in self.words)

    @property
    def notes(self) -> tuple[str, ...]:
        cut = (f"{self.unread} words were cut off before the model read them",) if self.unread else ()
        return (*super().notes, *cut)

    def top(self, count: int = 5) -> list[Word]:
        """The words with the largest scores, for or against, largest first."""
        return sorted(self.words, key=lambda word: -abs(word.score))[:count]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        plain = {name: getattr(self, name) for name in PLAIN}
        return {**plain, "faithfulness": asdict(self.faithfulness), "words": [asdict(word) for word in self.words]}

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame with a line for each word (extra ``data``)."""
        pandas = require("pandas", extra="data", purpose="Explanation.to_frame()")
        frame: DataFrame = pandas.DataFrame([asdict(word) for word in self.words])
        return frame

    def __str__(self) -> str:
        shown = [word for word in self.words if word in self.top(_SHOWN)]
        width = max((len(word.text) for word in shown), default=0)
        most = max((abs(word.score) for word in shown), default=1.0) or 1.0
        bars = [
            f"  {word.text:>{width}}  {word.score:+.3f}  {('+' if word.score > 0 else '-') * _length(word, most)}"
            for word in shown
        ]
        more = [f"  ... and {len(self.words) - len(shown)} words that did less"] if len(shown) < len(self.words) else []
        return "\n".join([self._headline(), *(bar.rstrip() for bar in bars), *more, self._measured(), *self.notes])

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """The input with every word in a colour and a sign: a piece of HTML without scripts."""
        most = max(map(abs, self.scores), default=1.0) or 1.0
        lines = []
        for number, text in enumerate(self.texts):
            head = f"<b>{escape(text.role)}</b> " if len(self.texts) > 1 else ""
            lines.append(f'<p style="line-height:2.1;margin:.3em 0">{head}{self._coloured(text, number, most)}</p>')
        notes = "".join(f"<br><b>{escape(note)}</b>" for note in self.notes)
        return (
            f'<div><div style="opacity:.8;font-size:.9em">{escape(self._headline())}</div>{"".join(lines)}'
            f'<div style="opacity:.8;font-size:.85em">{escape(self._measured())}{notes}</div></div>'
        )

    def _coloured(self, text: Text, number: int, most: float) -> str:
        found, at = [], 0
        for word in self._of_text(number):
            found.append(escape(text.text[at : word.start]))
            found.append(_span(word, most))
            at = word.end
        return "".join([*found, escape(text.text[at:])])

    def _of_text(self, number: int) -> list[Word]:
        role = self.texts[number].role
        return [word for word in self.words if word.role == role]

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Bars for the words that did most (extra ``plot``).

        Args:
            axes: where to draw; None makes a figure.

        Returns:
            The axes; ``axes.figure.savefig("why.png")`` writes it.
        """
        shown = [word for word in self.words if word in self.top(_SHOWN)]
        axes = axes or new_axes(6, 1.2 + 0.28 * len(shown))
        scores = [word.score for word in shown]
        colours = [tuple(part / 255 for part in (FOR if score > 0 else AGAINST)) for score in scores]
        axes.barh(range(len(shown)), scores, color=colours, height=0.7)
        for place, score in enumerate(scores):
            axes.text(score, place, f" {score:+.2f} ", va="center", ha="left" if score >= 0 else "right", fontsize=8)
        axes.set_yticks(range(len(shown)), [word.text for word in shown])
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.axvline(0, color="0.6", lw=0.8)
        axes.set(xlabel=f"what each word adds to {'the value' if self.target is None else repr(self.target)}")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return axes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it: ``.html`` (a page by itself), ``.png`` (extra ``plot``) or ``.txt``.

        Raises:
            OptionError: another ending.
        """
        save(self, path)


@final
@dataclass(frozen=True, kw_only=True)
class PictureExplanation(Explained):
    """Which places of a picture made a model say what it says; a heat map over the picture.

    Attributes:
        heat: (down, across) what each field adds to the number that is explained.
        picture: (height, width, 3) as the model sees it, 0 to 1.
    """

    heat: NDArray[np.float64] = field(repr=False)
    picture: NDArray[np.float32] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; without the picture itself."""
        plain = {name: getattr(self, name) for name in PLAIN}
        return {**plain, "faithfulness": asdict(self.faithfulness), "heat": self.heat.tolist()}

    def __str__(self) -> str:
        most = float(np.abs(self.heat).max()) or 1.0
        signs = np.rint(self.heat / most * 4).astype(int)
        lines = ["  " + "".join(SIGNS[sign + 4] * 2 for sign in line) for line in signs.tolist()]
        return "\n".join([self._headline(), *lines, "  + speaks for it, - against it", self._measured(), *self.notes])

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Picture and heat map: a piece of HTML without scripts (extra ``plot``)."""
        import base64
        import io

        buffer = io.BytesIO()
        figure: Any = self.plot().figure
        figure.savefig(buffer, format="png", dpi=100)
        close(figure)
        data = base64.b64encode(buffer.getvalue()).decode()
        notes = "".join(f"<br><b>{escape(note)}</b>" for note in (self._measured(), *self.notes))
        alt = escape(self._headline())
        return f'<div>{alt}<br><img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{data}">{notes}</div>'

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """The heat map over the picture: blue speaks for, orange against, and signs say the same (extra ``plot``)."""
        axes = axes or new_axes(4.6, 4.6)
        height, width = self.picture.shape[:2]
        grey = self.picture.mean(axis=2)
        axes.imshow(0.35 + 0.6 * grey, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        most = float(np.abs(self.heat).max()) or 1.0
        strength = np.abs(self.heat) / most
        layer = np.zeros((*self.heat.shape, 4))
        layer[..., :3] = np.where(self.heat[..., None] > 0, np.array(FOR), np.array(AGAINST)) / 255
        layer[..., 3] = 0.75 * strength
        axes.imshow(layer, extent=(0, width, height, 0), interpolation="nearest")
        down, across = height / self.heat.shape[0], width / self.heat.shape[1]
        for (row, column), value in np.ndenumerate(self.heat):
            if abs(value) > most / 3:
                sign = "+" if value > 0 else "\N{MINUS SIGN}"
                axes.text((column + 0.5) * across, (row + 0.5) * down, sign, ha="center", va="center", fontsize=9)
        sure = "" if self.probability is None else f" ({self.probability:.2f})"
        axes.set_title(f"what speaks for {'the value' if self.target is None else repr(self.target)}{sure}", fontsize=9)
        axes.axis("off")
        return axes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it: ``.html`` (a page by itself), ``.png`` (both extra ``plot``) or ``.txt``.

        Raises:
            OptionError: another ending.
        """
        save(self, path)


PLAIN = ("target", "probability", "score", "baseline", "gap", "method", "steps", "notes")
SIGNS = ("=", "-", "-", ".", " ", ".", "+", "+", "#")  # from most against to most for
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title><style>'
    "body{{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em}}"
    "</style></head><body>{body}</body></html>\n"
)


def save(explanation: Any, path: str | os.PathLike[str]) -> None:
    """Write an explanation as its path ends."""
    target = folder_path(path)
    if target.suffix == ".html":
        page = _PAGE.format(title=escape(f"why {explanation.target}"), body=explanation.to_html())
        target.write_text(page, encoding="utf-8")
    elif target.suffix == ".txt":
        target.write_text(f"{explanation}\n", encoding="utf-8")
    elif target.suffix == ".png":
        figure: Any = explanation.plot().figure
        figure.savefig(target, dpi=120)
        close(figure)
    else:
        raise OptionError(f"path={os.fspath(path)!r}: expected a name that ends in .html, .png or .txt")


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure, in inches."""
    pyplot = require("matplotlib.pyplot", extra="plot", purpose="plot()")
    axes: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return axes


def close(figure: Any) -> None:
    """Let go of a figure that was written."""
    require("matplotlib.pyplot", extra="plot", purpose="plot()").close(figure)


def _length(word: Word, most: float) -> int:
    return max(1, round(_BAR * abs(word.score) / most)) if word.score else 0


def _span(word: Word, most: float) -> str:
    strength = abs(word.score) / most
    red, green, blue = FOR if word.score > 0 else AGAINST
    signs = ("+" if word.score > 0 else "\N{MINUS SIGN}") * (3 if strength > 2 / 3 else 2 if strength > 1 / 3 else 1)
    mark = f'<sup style="font-size:.65em">{signs}</sup>' if strength > 0.1 else ""
    style = f"background:rgba({red},{green},{blue},{0.55 * strength:.2f});border-radius:.2em;padding:.1em .15em"
    return f'<span style="{style}" title="{word.score:+.4f}">{escape(word.text)}{mark}</span>'
