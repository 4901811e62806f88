"""What an explanation of a sound is, and how it is shown."""

from __future__ import annotations

import itertools
import os
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.audio.preview import SoundPreview
from sftlib.explain.explanation import AGAINST, FOR, PLAIN, SIGNS, Explained, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 600, 80  # of the waveform
_COLUMNS = 3  # characters of a stretch


@final
@dataclass(frozen=True, kw_only=True)
class SoundExplanation(Explained):
    """Which moments of a sound made a model say what it says, over time.

    Attributes:
        heat: (P,) what each stretch adds to the number that is explained; stretches are of equal length.
        sound: as the model hears it.
    """

    heat: NDArray[np.float64] = field(repr=False)
    sound: SoundPreview = field(repr=False)

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """The second that each stretch begins with, and the one that it ends with."""
        ends = np.linspace(0.0, self.sound.seconds, len(self.heat) + 1).tolist()
        return tuple(itertools.pairwise(ends))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; without the sound itself."""
        plain = {name: getattr(self, name) for name in PLAIN}
        found = [
            {"start": start, "end": end, "score": float(x)}
            for (start, end), x in zip(self.spans, self.heat, strict=True)
        ]
        return {**plain, "faithfulness": asdict(self.faithfulness), "stretches": found}

    def __str__(self) -> str:
        signs = np.rint(self._strength() * 4).astype(int)
        marks = "".join(SIGNS[sign + 4] * _COLUMNS for sign in signs.tolist())
        loud = self.sound.loudness(len(marks))
        scale = f"  0 s{f'{self.sound.seconds:.2f} s'.rjust(len(marks) - 3)}"
        lines = [f"  {loud}", f"  {marks}", scale, "  + speaks for it, - against it"]
        return "\n".join([self._headline(), *lines, self._measured(), *self.notes])

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Waveform, coloured and with signs, and a player: a piece of HTML without scripts."""
        width = _WIDTH / len(self.heat)
        behind = "".join(_field(place * width, width, value) for place, value in enumerate(self._strength().tolist()))
        said = escape(self._headline())
        notes = "".join(f"<br><b>{escape(note)}</b>" for note in (self._measured(), *self.notes))
        return f"<div>{said}<br>{self.sound.waveform(behind)}<br>{self.sound.player}{notes}</div>"

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """The waveform over time: blue speaks for, orange against, and signs say the same (extra ``plot``)."""
        axes = axes or new_axes(7.5, 2.4)
        parts = [part for part in np.array_split(self.sound.samples, min(_WIDTH, len(self.sound.samples))) if len(part)]
        time = np.linspace(0.0, self.sound.seconds, len(parts))
        low, high = (np.array([float(of(part)) for part in parts]) for of in (np.min, np.max))
        axes.fill_between(time, low, high, color="0.25", lw=0)
        top = 1.15 * max(float(np.abs([low, high]).max()), 1e-9)
        for (start, end), value in zip(self.spans, self._strength().tolist(), strict=True):
            colour = tuple(part / 255 for part in (FOR if value > 0 else AGAINST))
            axes.axvspan(start, end, color=colour, alpha=0.7 * abs(value), lw=0, zorder=0)
            if abs(value) > 1 / 3:
                sign = "+" if value > 0 else "\N{MINUS SIGN}"
                axes.text((start + end) / 2, top, sign, ha="center", va="center", fontsize=9)
        sure = "" if self.probability is None else f" ({self.probability:.2f})"
        axes.set_title(f"what speaks for {'the value' if self.target is None else repr(self.target)}{sure}", fontsize=9)
        axes.set(xlabel="seconds", xlim=(0, self.sound.seconds), ylim=(-1.25 * top, 1.25 * top), yticks=[])
        axes.spines[["top", "right", "left"]].set_visible(False)
        return axes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it: ``.html`` (a page by itself, with a player), ``.png`` (extra ``plot``) or ``.txt``.

        Raises:
            OptionError: another ending.
        """
        save(self, path)

    def _strength(self) -> NDArray[np.float64]:
        """(P,) from -1 to 1."""
        return np.asarray(self.heat / (float(np.abs(self.heat).max()) or 1.0))


def _field(left: float, width: float, value: float) -> str:
    red, green, blue = FOR if value > 0 else AGAINST
    shape = (
        f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="{_HEIGHT}" '
        f'fill="rgba({red},{green},{blue},{0.6 * abs(value):.2f})"/>'
    )
    if abs(value) <= 1 / 3:
        return shape
    sign = "+" if value > 0 else "\N{MINUS SIGN}"
    middle = f'x="{left + width / 2:.1f}" y="12" text-anchor="middle"'
    return f'{shape}<text {middle} font-size="12" fill="currentColor">{sign}</text>'
