"""What a model hears of a sound, for people to look at and to listen to."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass
from typing import final

import numpy as np

from sftlib.data.sounds import Samples

_COLUMNS, _HEIGHT = 600, 80  # of the picture of a waveform
_MARKS = " .:-=+*#%@"  # from soft to loud


@final
@dataclass(frozen=True, eq=False)
class SoundPreview:
    """A sound as a model hears it: one channel, at its rate.

    As a text its length, its strength and how loud it is over time; in a notebook a waveform and a player.

    Attributes:
        samples: (S,) full scale at 1.
        rate: samples of a second.
        shape: of what the feature extractor makes of it.
    """

    samples: Samples
    rate: int
    shape: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def __repr__(self) -> str:
        peak = float(np.abs(self.samples).max(initial=0.0))
        facts = f"{self.seconds:.2f} s at {self.rate:,} Hz, up to {peak:.2f} of full scale, read as {self.shape}"
        return f"{facts}\n|{self.loudness()}|"

    def loudness(self, columns: int = 60) -> str:
        """A character for each stretch of time, the darker the louder."""
        parts = np.array_split(self.samples, min(columns, max(1, len(self.samples))))
        loud = np.array([float(np.sqrt(np.mean(np.square(part)))) if len(part) else 0.0 for part in parts])
        steps = (loud / max(float(loud.max(initial=0.0)), 1e-9) * (len(_MARKS) - 1)).round().astype(int)
        return "".join(_MARKS[step] for step in steps)

    @property
    def player(self) -> str:
        """HTML that plays it, and loads nothing."""
        stream = io.BytesIO()
        with wave.open(stream, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(np.round(np.clip(self.samples, -1, 1) * 32767).astype("<i2").tobytes())
        content = base64.b64encode(stream.getvalue()).decode()
        return f'<audio controls src="data:audio/wav;base64,{content}"></audio>'

    def _repr_html_(self) -> str:
        facts = f"{self.seconds:.2f} s at {self.rate:,} Hz, read as {self.shape}"
        return f"<figure>{self.waveform()}<br>{self.player}<figcaption>{facts}</figcaption></figure>"

    def waveform(self, behind: str = "") -> str:
        """From the lowest to the highest sample of every stretch of time, as SVG 600 wide and 80 high.

        Args:
            behind: shapes that are drawn first.
        """
        parts = [part for part in np.array_split(self.samples, min(_COLUMNS, max(1, len(self.samples)))) if len(part)]
        middle = _HEIGHT / 2
        lines = "".join(
            f"M{x} {middle - middle * float(part.max()):.1f}V{middle - middle * float(part.min()) + 0.5:.1f}"
            for x, part in enumerate(parts)
        )
        return (
            f'<svg width="{_COLUMNS}" height="{_HEIGHT}" viewBox="0 0 {_COLUMNS} {_HEIGHT}" style="max-width:100%" '
            f'role="img" aria-label="waveform">{behind}'
            f'<path d="{lines}" stroke="currentColor" fill="none"/></svg>'
        )
